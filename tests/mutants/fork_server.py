"""One warm process that runs pytest in forks of itself, so that no attempt imports torch and the like again.

It imports pytest and foreign packages only, nothing of policykd: every fork imports the code under test from the copy.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

FOREIGN = (
    "pytest", "xdist.plugin", "pytest_cov.plugin", "hypothesis", "numpy.testing", "torch", "torch._dynamo",
    "torch.utils.data", "numba", "mujoco", "gymnasium", "stable_baselines3", "scipy.stats", "scipy.optimize",
    "sklearn.datasets", "sklearn.linear_model", "torchmetrics", "matplotlib.pyplot", "onnx", "onnxruntime",
    "safetensors.torch", "tyro", "rich.progress", "rich.table", "filelock", "yaml", "jinja2", "tensorboard",
)  # fmt: skip


class ForkServer:
    """The client's side: a process that runs tests in a copy of the project."""

    def __init__(self, folder: Path) -> None:
        """Start the process for the copy in ``folder``."""
        self.folder = folder
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, str(Path(__file__).resolve())], cwd=folder, env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip

    def attempt(self, names: list[str], limit: float, *, keep_bytecode: bool = False) -> str:
        """Return ``killed``, ``survived`` or ``timeout`` for these tests; what pytest printed is in ``attempt.log``.

        Args:
            names: arguments of pytest: tests and options.
            limit: seconds until the tests count as hanging.
            keep_bytecode: whether compiled files are written; never for mutants, because a file that is changed twice
                within a second and keeps its length would be taken for the same.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(self.folder), "names": names, "limit": limit, "keep_bytecode": keep_bytecode}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the fork server of {self.folder} ended; see {self.folder / 'attempt.log'}")
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Import the foreign packages, then answer requests until the input ends."""
    for name in FOREIGN:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(_serve(**json.loads(line)), flush=True)


def _serve(folder: str, names: list[str], limit: float, keep_bytecode: bool) -> str:
    child = os.fork()
    if child == 0:
        os._exit(_run(folder, names, keep_bytecode))
    handle = os.pidfd_open(child)
    ended, _, _ = select.select([handle], [], [], limit)
    os.close(handle)
    with contextlib.suppress(ProcessLookupError):  # the tests, or processes that they left behind
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ended:
        return "timeout"
    return "survived" if status == 0 else "killed"


def _run(folder: str, names: list[str], keep_bytecode: bool) -> int:
    """Run pytest in the fork, as ``python -m pytest`` in ``folder`` would, and return its exit code."""
    os.setsid()
    os.chdir(folder)
    with open(os.devnull) as nothing, open("attempt.log", "w") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.path[0] = folder  # instead of the folder of this script
    sys.dont_write_bytecode = not keep_bytecode
    if not keep_bytecode:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    pytest = sys.modules["pytest"]
    try:
        return int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", *names]))
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
