"""Teacher outputs on disk, keyed by sample index.

A cache is a folder of ``.npy`` files (memory-mapped, so that large ones need no memory) with a ``manifest.json``, or
one ``.safetensors`` file with a tensor ``logits`` and one per feature, row i belonging to sample i. Nothing is
unpickled. A cache holds what the teacher said about the *stored* samples: it does not follow random augmentation.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policykd.kd.objective.signals import Signals, check_finite
from policykd.kd.objective.teachers import TeacherError, as_teacher

_FORMAT = 1


class TeacherCache:
    """Cached outputs of one teacher, usable wherever a teacher is.

    Args:
        logits: Array or memory map ``(N, C)``.
        features: Tap text -> array or memory map ``(N, ...)``.
        name: What to call the cache in messages.
    """

    def __init__(
        self, logits: np.ndarray, features: Mapping[str, np.ndarray] | None = None, *, name: str = "cache"
    ) -> None:
        if logits.ndim != 2:
            raise TeacherError(f"{name}: logits must be (N, C), got {logits.shape}")
        self.logits, self.features, self.name = logits, dict(features or {}), name
        for tap, rows in self.features.items():
            if len(rows) != len(logits):
                raise TeacherError(f"{name}: feature {tap!r} has {len(rows)} rows, logits have {len(logits)}")

    def __len__(self) -> int:
        return len(self.logits)

    def signals(self, x: Tensor, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Look up the rows of a batch.

        Raises:
            TeacherError: No indices were given, an index is out of range, or a feature was not cached.
        """
        if index is None:
            raise TeacherError(f"{self.name} is keyed by sample index: call objective(..., index=indices)")
        rows = index.detach().cpu().numpy()
        if len(rows) != len(x):
            raise TeacherError(f"{self.name}: {len(rows)} indices for a batch of {len(x)}")
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise TeacherError(f"{self.name} holds samples 0 to {len(self) - 1}, not {rows.min()} to {rows.max()}")
        missing = [tap for tap in taps.values() if tap not in self.features]
        if missing:
            raise TeacherError(
                f"{self.name} has no feature {missing[0]!r}; it holds {sorted(self.features) or 'logits only'}"
            )
        take = {name: _rows(self.features[tap], rows, x) for name, tap in taps.items()}
        return Signals(_rows(self.logits, rows, x), take)

    @classmethod
    def write(
        cls,
        path: str | Path,
        teacher: Any,
        batches: Iterable[tuple[Tensor, Tensor]],
        *,
        samples: int,
        taps: Iterable[str] = (),
    ) -> TeacherCache:
        """Run a teacher over a data set once and store what it says.

        Args:
            path: Folder to create; an existing cache there is replaced once the new one is complete.
            teacher: Anything that ``as_teacher`` takes.
            batches: Pairs (x, sample indices) that cover every sample.
            samples: Number of samples N.
            taps: Taps of the features to store.

        Raises:
            TeacherError: The teacher's outputs are not finite, or the batches miss a sample.
        """
        path, source, named = Path(path), as_teacher(teacher), {tap: tap for tap in taps}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            files = _write_arrays(temporary, source, batches, samples, named)
            (temporary / "manifest.json").write_text(
                json.dumps({"format": _FORMAT, "samples": samples, "files": files})
            )
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> TeacherCache:
        """Open a folder written by ``write``, or a ``.safetensors`` file.

        Raises:
            TeacherError: The cache is missing, incomplete or damaged; the message names the file.
        """
        path = Path(path)
        arrays = _open_safetensors(path) if path.suffix == ".safetensors" else _open_folder(path)
        if "logits" not in arrays:
            raise TeacherError(f"{path} holds no 'logits'; it has {sorted(arrays)}")
        return cls(arrays.pop("logits"), arrays, name=str(path))


def _rows(array: np.ndarray, rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[rows])).to(like.device)


def _write_arrays(
    folder: Path, teacher: Any, batches: Iterable[tuple[Tensor, Tensor]], samples: int, taps: Mapping[str, str]
) -> dict[str, str]:
    arrays: dict[str, np.ndarray] = {}
    seen = np.zeros(samples, dtype=bool)
    for x, index in batches:
        signals, rows = teacher.signals(x, index, taps).full_precision(), index.cpu().numpy()
        if len(rows) and not (rows.min() >= 0 and rows.max() < samples):
            raise TeacherError(f"a batch holds sample {rows.max()}, but the cache is for {samples} samples")
        for name, tensor in zip(["logits", *taps], signals.tensors(), strict=True):
            check_finite(tensor, f"the teacher's {name}")
            values = tensor.cpu().numpy()
            if name not in arrays:
                file = folder / f"{len(arrays):03d}.npy"
                shape = (samples, *values.shape[1:])
                arrays[name] = np.lib.format.open_memmap(file, mode="w+", dtype=values.dtype, shape=shape)
            arrays[name][rows] = values
        seen[rows] = True
    if not seen.all():
        raise TeacherError(
            f"{int((~seen).sum())} of {samples} samples were in no batch, the first is {int((~seen).argmax())}"
        )
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    return {name: f"{number:03d}.npy" for number, name in enumerate(arrays)}


def _open_folder(path: Path) -> dict[str, np.ndarray]:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        files, samples = dict(manifest["files"]), int(manifest["samples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{path} is not a teacher cache: manifest.json cannot be read ({error})") from None
    arrays = {}
    for name, file in files.items():
        target = path / Path(file).name  # a manifest from elsewhere must not point outside its folder
        try:
            arrays[name] = np.load(target, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise TeacherError(f"{target} is damaged or missing ({error})") from None
        if len(arrays[name]) != samples:
            raise TeacherError(f"{target} has {len(arrays[name])} rows, manifest.json says {samples}")
    return arrays


def _open_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise TeacherError(f"{path} is damaged or missing ({error})") from None
