"""The CPU engine: MuJoCo's native batch on a pool of threads, with ground boxes per simulation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch, SimulationError

from policykd.envs.engines.ground import GROUND_FIELDS
from policykd.envs.engines.kernels import failures, no_time, write_ground, write_states
from policykd.envs.engines.protocol import FIELDS
from policykd.threads import cores_for

_BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
_NUMBER = 1  # column of the warnings' counts, beside the last information
_NONE = int(mujoco.mjtStage.mjSTAGE_NONE)


class BatchEngine:
    """See :class:`~policykd.envs.engines.protocol.Engine`.

    Results are the same, bit for bit, at any number of threads.

    The first engine of a process stops MuJoCo's profiler, see :func:`stop_profiler`.

    Args:
        model: the compiled model; its first ``boxes`` geoms are the ground boxes.
        num_sims: number of simulations.
        boxes: number of ground boxes.
        decimation: physics steps per policy step.
        threads: worker threads; None for one per core that this process may use.
    """

    def __init__(
        self, model: mujoco.MjModel, num_sims: int, boxes: int, decimation: int, threads: int | None = None
    ) -> None:
        cores = cores_for(threads)
        stop_profiler()
        self._decimation = decimation
        # The simulations share one MjData per thread, which stays in its cache; that is some 10 % faster than one
        # MjData each. Observations need only the state, so no stage has to be computed beyond a step either.
        self._batch = Batch(model, num_sims, cores)
        self._ground = tuple(self._batch.expand(name) for name in GROUND_FIELDS)
        self._ctrl, self._qpos, self._qvel = (self._batch.bind(n) for n in ("ctrl", "qpos", "qvel"))
        self._fields = {name: _view(self._batch.bind(name)) for name in FIELDS}
        self._state, self._warning = self._batch.state, self._batch.warning
        self._bad = self._warning[:, _BAD, _NUMBER]
        self._initial = self._state[0].copy()

    @property
    def num_sims(self) -> int:
        """Number of simulations."""
        return self._batch.nsim

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def field(self, name: str) -> torch.Tensor:
        """See :meth:`Engine.field`."""
        return self._fields[name]

    def step(self, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Engine.step`."""
        self._ctrl[:] = targets.numpy()
        failed = torch.empty(self.num_sims, dtype=torch.bool)
        found = failed.numpy()
        raised: Sequence[int] = ()
        try:
            self._batch.step(nstep=self._decimation, stage=_NONE)
        except SimulationError as error:
            raised = error.ids
        failures(self._bad, found)
        if len(raised):
            found[raised] = True
        return failed

    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """See :meth:`Engine.reset`."""
        # A simulation is its state row, so writing that is a whole reset; Batch.reset would wake the threads for it.
        write_states(
            ids.numpy(), qpos.numpy(), qvel.numpy(), self._initial, self._state, self._qpos, self._qvel, self._warning
        )

    def counts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Live (num_sims,) tensors: contacts, and rows of constraints, of the last physics step."""
        return _view(self._batch.bind("ncon")).flatten(), _view(self._batch.bind("nefc")).flatten()

    def snapshot(self) -> dict[str, torch.Tensor]:
        """See :meth:`Engine.snapshot`."""
        ground = {name: torch.from_numpy(np.array(a)) for name, a in zip(GROUND_FIELDS, self._ground, strict=True)}
        return {"state": torch.from_numpy(np.array(self._state)), **ground}

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """See :meth:`Engine.restore`."""
        self._state[:], self._warning[:] = snapshot["state"].numpy(), 0
        for name, field in zip(GROUND_FIELDS, self._ground, strict=True):
            field[:] = snapshot[name].numpy()

    def check_overflow(self) -> None:
        """Nothing is dropped: a tumbling robot has two dozen contacts at most, and MuJoCo's arena 15 MB for them."""

    def set_ground(self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor) -> None:
        """See :meth:`Engine.set_ground`."""
        write_ground(ids.numpy(), pose.numpy(), half.numpy(), *self._ground)


def stop_profiler() -> None:
    """Stop the clock behind ``MjData.timer`` in this process, unless somebody has set one of their own.

    MuJoCo's Python package switches it on, and reading it takes 9 % of steps as small as ours.
    ``mujoco.set_mjcb_time(None)`` starts it again.
    """
    if mujoco.get_mjcb_time() is None:
        mujoco.set_mjcb_time(no_time.ctypes)


def _view(array: np.ndarray) -> torch.Tensor:
    """Zero-copy tensor over an array that the engine rewrites after every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch cannot express that the array is read-only
        return torch.from_numpy(array)
