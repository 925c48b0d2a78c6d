"""The CPU engine: MuJoCo's native batch on a pool of threads, with ground boxes per simulation.

It knows positions, forces and ground boxes, but no rewards or observations.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch, SimulationError
from typing_extensions import override

from policykd.envs.physics.ground_boxes import GROUND_FIELDS, NO_LANE
from policykd.envs.physics.numba_kernels import failures, no_time, write_boxes, write_ground, write_states
from policykd.envs.physics.protocol import FIELDS, Engine
from policykd.threads import cores_for

_BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
_NUMBER = 1  # column of the warnings' counts; the other column is the last warning's info
_NONE = int(mujoco.mjtStage.mjSTAGE_NONE)


class BatchEngine(Engine):
    """Engine on the CPU with a pool of threads.

    Results are identical, bit for bit, for any number of threads. The first engine of a process stops MuJoCo's
    profiler, see :func:`stop_profiler`.

    Args:
        model: the compiled model; its first ``boxes`` geoms are the ground boxes.
        num_sims: number of simulations.
        boxes: number of ground boxes.
        decimation: physics steps per policy step.
        threads: worker threads; None for one per core that this process may use.
        persistent: whether every simulation keeps data of its own, such as its contacts; a few percent slower.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int,
        boxes: int,
        decimation: int,
        threads: int | None = None,
        *,
        persistent: bool = False,
    ) -> None:
        self._threads = cores_for(threads)
        stop_profiler()
        self._decimation = decimation
        # The simulations share one MjData per thread, which stays in the cache; this is some 10 % faster than one
        # MjData each. Observations need only the state, so no further stage has to be computed after a step.
        self._batch = Batch(model, num_sims, self._threads, persistent)
        self._boxes = boxes
        self._own_data = mujoco.MjData(model) if persistent else None
        self._ground = tuple(self._batch.expand(name) for name in (GROUND_FIELDS if boxes else ()))
        self._ctrl, self._qpos, self._qvel = (self._batch.bind(n) for n in ("ctrl", "qpos", "qvel"))
        self._fields = {name: _view(self._batch.bind(name)) for name in FIELDS}
        self._state, self._warning = self._batch.state, self._batch.warning
        self._bad = self._warning[:, _BAD, _NUMBER]
        self._initial = self._state[0].copy()

    @property
    @override
    def num_sims(self) -> int:
        return self._batch.nsim

    @property
    @override
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    @override
    def threads(self) -> int:
        return self._threads

    @override
    def field(self, name: str) -> torch.Tensor:
        if name not in self._fields:
            self._fields[name] = _view(self._batch.bind(name))
        return self._fields[name]

    @override
    def step(self, targets: torch.Tensor) -> torch.Tensor:
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

    @override
    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        # The state row is the whole simulation, so writing it is a complete reset; Batch.reset would wake the threads.
        write_states(
            ids.numpy(), qpos.numpy(), qvel.numpy(), self._initial, self._state, self._qpos, self._qvel, self._warning
        )

    def model_field(self, name: str) -> np.ndarray:
        """Return live (num_sims, ...) values of a field of the model, one per simulation from now on."""
        return self._batch.expand(name)

    def derive_constants(self, ids: np.ndarray) -> None:
        """Compute what MuJoCo derives from the masses, after they changed in the simulations ``ids`` (m,)."""
        self._batch.set_const(ids)

    def add_velocity(self, change: torch.Tensor) -> None:
        """Add ``change`` (num_sims, k) to the first k generalized velocities."""
        self._qvel[:, : change.shape[1]] += change.numpy()

    def counts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return live (num_sims,) tensors with the numbers of contacts and constraint rows of the last physics step."""
        return _view(self._batch.bind("ncon")).flatten(), _view(self._batch.bind("nefc")).flatten()

    def contact_forces(self, i: int) -> np.ndarray:
        """Return the contacts of a simulation in the last physics step, in the world.

        Args:
            i: the simulation, of an engine with data of its own for each.

        Returns:
            (m, 6) places, m, and forces, N: those of the ground on the robot, or of a first body on a second.
        """
        assert self._own_data is not None, "simulations without data of their own do not keep their contacts"
        data, model, force = self._own_data, self._batch.model, np.zeros(6)
        self._batch.get_data(i, data)
        rows = []
        for k, contact in enumerate(data.contact):
            mujoco.mj_contactForce(model, data, k, force)
            sign = -1.0 if contact.geom[1] < self._boxes else 1.0  # it acts on the second geom, which may be the ground
            rows.append(np.concatenate([contact.pos, sign * (contact.frame.reshape(3, 3).T @ force[:3])]))
        return np.array(rows).reshape(-1, 6)

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        ground = {name: torch.from_numpy(np.array(a)) for name, a in zip(GROUND_FIELDS, self._ground, strict=False)}
        return {"state": torch.from_numpy(np.array(self._state)), **ground}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        self._state[:], self._warning[:] = snapshot["state"].numpy(), 0
        for name, field in zip(GROUND_FIELDS, self._ground, strict=False):
            field[:] = snapshot[name].numpy()

    def check_overflow(self) -> None:
        """Do nothing: contacts are never dropped; a tumbling robot has at most two dozen, and MuJoCo's arena 15 MB."""

    @override
    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        strip = NO_LANE if lane is None else lane.numpy()
        write_ground(ids.numpy(), pose.numpy(), half.numpy(), strip, *self._ground)

    @override
    def set_boxes(self, ids: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        write_boxes(ids.numpy(), center.numpy(), turn.numpy(), half.numpy(), *self._ground)


def stop_profiler() -> None:
    """Stop the clock of ``MjData.timer`` in this process, unless a custom clock is set.

    MuJoCo's Python package enables it, and reading it takes 9 % of the time of steps as small as ours.
    ``mujoco.set_mjcb_time(None)`` starts it again.
    """
    if mujoco.get_mjcb_time() is None:
        mujoco.set_mjcb_time(no_time.ctypes)


def _view(array: np.ndarray) -> torch.Tensor:
    """Return a zero-copy tensor over an array that the engine overwrites in every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch cannot express that the array is read-only
        return torch.from_numpy(array)
