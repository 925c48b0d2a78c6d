"""Exported files as they run elsewhere: by onnxruntime, by TorchScript, and compiled from the C header.

Each is a function from flat observations to actions and joint targets. Nothing here knows the policy's own code, so
that a comparison with it means something.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from policykd.errors import ConfigError, OutputError

Runtime: TypeAlias = Callable[..., tuple[np.ndarray, ...]]
"""Function from observations (n, size) float32 to actions and joint targets, each (n, actions) float32. One of a
recurrent policy takes its states (n, state_size) as a second argument, and also returns the next ones."""

_NO_COMPILER = "checking a C header needs a C compiler (cc, gcc or clang) on the PATH, or use --no-check"
_NO_ONNXRUNTIME = (
    "checking an ONNX file needs the package onnxruntime: pip install 'policykd[export]', or use --no-check"
)


def missing_for_c() -> str | None:
    """Return why C headers cannot be run here; None if they can."""
    return _NO_COMPILER if _compiler() is None else None


def missing_for_onnx() -> str | None:
    """Return why ONNX files cannot be run here; None if they can."""
    return _NO_ONNXRUNTIME if importlib.util.find_spec("onnxruntime") is None else None


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def onnx_runtime(path: Path, groups: Mapping[str, int]) -> Runtime:
    """Return an ONNX file as a function, run by onnxruntime on one thread.

    Args:
        path: the file.
        groups: observation groups in the order of the flat observation, for files with one input per group.

    Raises:
        ConfigError: if onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ConfigError(_NO_ONNXRUNTIME) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(observations: np.ndarray, *state: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = [observations] if names[0] == "obs" else split_groups(observations, groups)
        return tuple(session.run(None, dict(zip(names, [*parts, *state], strict=True))))

    return run


def torchscript_runtime(path: Path, groups: Mapping[str, int], *, per_group: bool) -> Runtime:
    """Return a TorchScript archive as a function; arguments as in :func:`onnx_runtime`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as where it was written
        module = torch.jit.load(str(path))

    def run(observations: np.ndarray, *state: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = split_groups(observations, groups) if per_group else [observations]
        with torch.no_grad():
            found = module(*(torch.from_numpy(part) for part in (*parts, *state)))
        return tuple(part.numpy() for part in found)

    return run


def c_runtime(path: Path, groups: Mapping[str, int], *, per_group: bool) -> Runtime:
    """Compile a C header and return its function over batches; arguments as in :func:`onnx_runtime`.

    Raises:
        ConfigError: without a C compiler.
        OutputError: with the compiler's message, if the header does not compile.
    """
    compiler = _compiler()
    if compiler is None:
        raise ConfigError(_NO_COMPILER)
    sizes = list(groups.values()) if per_group else [sum(groups.values())]
    starts = np.cumsum([0, *sizes[:-1]])
    inputs = ", ".join(f"obs + n * {sum(sizes)} + {start}" for start in starts)
    outputs, states = _size(path, "ACTIONS"), _size(path, "STATE")
    before, after = (f", {name} + n * {states}" if states else "" for name in ("state", "next"))
    call = f"{path.stem}_act({inputs}{before}, actions + n * {outputs}, targets + n * {outputs}{after});"
    source = (
        f'#include "{path.resolve()}"\n'
        "void run(int count, const float *obs, const float *state, float *actions, float *targets, float *next) {\n"
        "  (void)state; (void)next;\n"
        f"  for (int n = 0; n < count; ++n) {call}\n}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "policy.so"
        (Path(folder) / "policy.c").write_text(source)
        command = [
            compiler,
            "-std=c99",
            "-O3",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            "policy.c",
            "-o",
            str(library),
            "-lm",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise OutputError(f"{path} does not compile: {done.stderr.strip()}")
        batch = ctypes.CDLL(str(library)).run
    pointer = ctypes.POINTER(ctypes.c_float)

    def run(observations: np.ndarray, *state: np.ndarray) -> tuple[np.ndarray, ...]:
        flat = np.ascontiguousarray(observations, dtype=np.float32)
        kept = [np.ascontiguousarray(part, dtype=np.float32) for part in state]
        actions, targets = (np.empty((len(flat), outputs), dtype=np.float32) for _ in range(2))
        after = [np.empty_like(part) for part in kept]
        arrays = (flat, *(kept or [flat]), actions, targets, *(after or [targets]))
        batch(len(flat), *(a.ctypes.data_as(pointer) for a in arrays))
        return actions, targets, *after

    return run


def split_groups(observations: np.ndarray, groups: Mapping[str, int]) -> list[np.ndarray]:
    """Return the columns of each observation group of flat observations (n, size), in order."""
    return np.split(observations, np.cumsum(list(groups.values()))[:-1], axis=1)


def _size(path: Path, what: str) -> int:
    """Return the size that a header defines for an input or output; 0 if it has none."""
    name = f"#define {path.stem.upper()}_{what} "
    return next((int(x.removeprefix(name)) for x in path.read_text().splitlines() if x.startswith(name)), 0)
