"""The CPU backend: :class:`TorchBackend` with compiled loops and no intermediate tensors.

It reads the engine's arrays and must return what the torch backend returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from functools import cached_property, partial

import numpy as np
import torch
from typing_extensions import override

from policykd.envs.env_records import Episodes
from policykd.envs.kinematics import PlanarState, fall_points
from policykd.envs.observations import SCAN_POINTS, get_group
from policykd.envs.robots import PlanarRobot
from policykd.envs.stepping import numba_kernels as kernels
from policykd.envs.stepping.numba_fast_path import fast_path
from policykd.envs.stepping.protocol import Outcome, View
from policykd.envs.stepping.torch_backend import TorchBackend
from policykd.envs.tasks import Walk
from policykd.envs.terrains import Tracks

_GROUP_KERNELS = {get_group("proprio"): kernels.proprio, get_group("terrain"): kernels.terrain}
"""Compiled loops of observation groups. Keys are the groups themselves, so that a replaced group has no loop."""


class ReadView:
    """A :class:`~policykd.envs.stepping.protocol.View` over the results of :func:`kernels.read_state`.

    Tensors are created at first access.

    Args:
        qpos: (n, nq) generalized positions of all simulations.
        qvel: (n, nv) their generalized velocities.
        ids: (m,) the simulations.
        found: results of :func:`kernels.read_state`: com, com_velocity, fall_points, effort, ground, scan, touching.
        whole: whether ``ids`` are all simulations, so that the state can be views.
    """

    def __init__(
        self, qpos: torch.Tensor, qvel: torch.Tensor, ids: np.ndarray, found: list[np.ndarray], whole: bool = False
    ) -> None:
        self.ids, self.found = ids, found
        self.which: torch.Tensor | slice = slice(None) if whole else torch.from_numpy(ids)
        self._qpos, self._qvel = qpos, qvel

    @cached_property
    def state(self) -> PlanarState:
        """State of the robots."""
        com, velocity, points, effort = (torch.from_numpy(array) for array in self.found[:4])
        q, v = self._qpos[self.which], self._qvel[self.which]
        return PlanarState(q[:, :2], q[:, 2], v[:, :2], q[:, 3:], v[:, 3:], com, velocity, points, effort, v[:, 2])

    @cached_property
    def ground(self) -> torch.Tensor:
        """(m,) ground height under the root, m."""
        return torch.from_numpy(self.found[4])

    @cached_property
    def scan(self) -> torch.Tensor:
        """(m, SCAN_POINTS) ground heights at the scanner's samples, m."""
        return torch.from_numpy(self.found[5])

    @cached_property
    def touching(self) -> torch.Tensor:
        """(m,) whether a link that must not touch the ground touches it."""
        return torch.from_numpy(self.found[6])


class FastView:
    """A view with precomputed features; the other fields are computed at first access.

    Args:
        look: function from simulation numbers to their complete view.
        ids: (m,) the simulations; None for all.
        flat: (m, features) their concatenated observation groups.
    """

    def __init__(
        self, look: Callable[[torch.Tensor | None], ReadView], ids: torch.Tensor | None, flat: np.ndarray
    ) -> None:
        self._read, self._ids, self.flat = look, ids, torch.from_numpy(flat)

    @cached_property
    def _whole(self) -> ReadView:
        return self._read(self._ids)

    @property
    def which(self) -> torch.Tensor | slice:
        """(m,) the simulations, or a slice of all of them."""
        return self._whole.which

    @property
    def state(self) -> PlanarState:
        """State of the robots."""
        return self._whole.state

    @property
    def ground(self) -> torch.Tensor:
        """(m,) ground height under the root, m."""
        return self._whole.ground

    @property
    def scan(self) -> torch.Tensor:
        """(m, SCAN_POINTS) ground heights at the scanner's samples, m."""
        return self._whole.scan

    @property
    def touching(self) -> torch.Tensor:
        """(m,) whether a link that must not touch the ground touches it."""
        return self._whole.touching


class NumbaBackend(TorchBackend):
    """The backend with compiled loops, for engines on the CPU; see :class:`TorchBackend` for the arguments."""

    def _allocate(self) -> None:
        n, robot, tracks, task = self._engine.num_sims, self._skill.robot, self._bank, self.tasks.common
        assert isinstance(robot, PlanarRobot)
        qpos, qvel, force = (self._engine.field(name) for name in ("qpos", "qvel", "actuator_force"))
        self._fields = (qpos.numpy(), qvel.numpy(), force.numpy())
        self._ground = tuple(t.contiguous().numpy() for t in (tracks.edges, tracks.left, tracks.grade))
        self._rows, self._centers = np.zeros(n, dtype=np.int64), np.zeros(n)
        self._moved = (np.zeros(n, dtype=np.int64), np.zeros((n, self._boxes, 3)), np.zeros((n, self._boxes, 2)))
        self._table, self._offsets = _table(robot), self._scan.numpy()
        self._see = partial(ReadView, qpos, qvel)
        self._whole, self._some = self._see(np.arange(n), _buffers(robot, n), whole=True), _buffers(robot, n)
        self._motors = tuple(t.numpy() for t in (self._stand, self._scale, self._low, self._high))
        self._entries, self._shares, self._rewards = self._statistics.numpy(), self._mass.numpy(), np.zeros(n)
        self._walk = np.array(astuple(task)) if type(task) is Walk else None
        self._limits = (robot.control_dt, self._skill.episode_steps, self.tasks.goal.numpy())
        self._columns = list(self._skill.columns.values())
        self._everything, self._falls = np.arange(n), np.zeros(n, dtype=np.bool_)
        loops = {_GROUP_KERNELS.get(group): span.start for group, span in zip(self._groups, self._columns, strict=True)}
        self._fast = self._walk is not None and None not in loops  # walking with compiled groups: the fast path
        self._features = np.array([loops.get(kernel, -1) for kernel in (kernels.proprio, kernels.terrain)])

    @override
    def targets(self, actions: torch.Tensor) -> torch.Tensor:
        if actions.dtype != torch.float32:
            return super().targets(actions)
        angles = np.empty(actions.shape)
        kernels.targets(actions.numpy(), *self._motors, angles)
        return torch.from_numpy(angles)

    @override
    def start_episodes(
        self, ids: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor | None = None
    ) -> None:
        kernels.start_episodes(ids.numpy(), rows.numpy(), clock.numpy(), self._entries, self._rows, self._centers)

    @override
    def move_ground(self) -> None:
        moved = kernels.move_ground(
            self._fields[0],
            self._centers,
            self._skill.robot.slack,
            self._window / 2,
            self._rows,
            *self._ground,
            *self._moved,
        )
        if moved:
            self._engine.set_ground(*(torch.from_numpy(array[:moved]) for array in self._moved))

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        row, center = torch.tensor(self._rows), torch.tensor(self._centers)
        return {"books": self._statistics.clone(), "row": row, "center": center}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        self._statistics.copy_(snapshot["books"])
        self._rows[:], self._centers[:] = snapshot["row"].numpy(), snapshot["center"].numpy()

    @override
    def read_state(self, ids: torch.Tensor | None = None) -> View:
        if not self._fast:
            return self._read(ids)
        which = self._everything if ids is None else ids.numpy()
        flat = np.empty((len(which), self._columns[-1].stop), dtype=np.float32)
        fast_path(
            which, self._rows, *self._fields, *self._table, *self._ground, self._offsets, self._shares, self._walk,
            self._features, self._falls, self._rewards, flat,
        )  # fmt: skip
        return FastView(self._read, ids, flat)

    def _read(self, ids: torch.Tensor | None) -> ReadView:
        view = self._whole if ids is None else self._see(ids.numpy(), [array[: len(ids)] for array in self._some])
        kernels.read_state(view.ids, self._rows, *self._fields, *self._table, *self._ground, self._offsets, *view.found)
        return view

    @override
    def observe(self, view: View, clock: torch.Tensor) -> torch.Tensor:
        if isinstance(view, FastView):
            return view.flat
        assert isinstance(view, ReadView)
        flat = torch.empty(len(view.ids), self._columns[-1].stop)
        whole, around = flat.numpy(), None
        for group, columns in zip(self._groups, self._columns, strict=True):
            kernel = _GROUP_KERNELS.get(group)
            if kernel is not None:
                kernel(view.ids, self._fields[0], *view.found, whole[:, columns])
            else:
                around = around or self._around(view, clock)
                flat[:, columns] = group.compute(view.state, around).detach()
        return flat

    @override
    def swap_rows(self, flat: torch.Tensor, ids: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        kernels.swap_rows(flat.numpy(), ids.numpy(), fresh.numpy())
        return fresh

    @override
    def compute_outcome(self, view: View, failed: torch.Tensor) -> Outcome:
        touching, earned = self._assess(view)
        n = len(touching)
        reward, flags, numbers = np.empty(n, dtype=np.float32), np.empty((3, n), dtype=np.bool_), np.empty((2, n))
        terminated, truncated, success = flags
        ids, length = np.empty((2, n), dtype=np.int64)
        ended, failures = kernels.compute_outcome(
            touching, failed.numpy(), earned, self._fields[0], *self._limits, self._entries, reward, terminated,
            truncated, ids, *numbers, length, success,
        )  # fmt: skip
        rows = (torch.from_numpy(array[:ended]) for array in (ids, numbers[0], length, numbers[1], success))
        rewards, fell, over = (torch.from_numpy(array) for array in (reward, terminated, truncated))
        return Outcome(rewards, fell, over, failures, Episodes(*rows))

    def _assess(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) which simulations fell, and (n,) rewards before falls are taken into account."""
        if isinstance(view, FastView):
            return self._falls, self._rewards
        assert isinstance(view, ReadView)
        if self._walk is not None:
            com_velocity, effort = view.found[1], view.found[3]
            kernels.walk_reward(self._fields[0], com_velocity, effort, self._shares, self._walk, self._rewards)
            return view.found[6], self._rewards
        now = self._situation(view)
        forbidden = self.tasks.forbidden(now)
        if forbidden is not None:
            view.touching |= forbidden
        return view.found[6], self.tasks.reward(now).detach().double().contiguous().numpy()

    @override
    def tracks(self, ids: torch.Tensor | slice) -> Tracks:
        return self._bank.rows(torch.from_numpy(self._rows[ids if isinstance(ids, slice) else ids.numpy()]))


def _buffers(robot: PlanarRobot, n: int) -> list[np.ndarray]:
    """Return result arrays of :func:`kernels.read_state` for ``n`` simulations."""
    links, joints, points = len(robot.links), len(robot.joints), len(fall_points(robot)[0])
    shapes = ((links, 2), (links, 2), (points, 2), (joints,), (), (SCAN_POINTS,))
    return [*(np.zeros((n, *shape)) for shape in shapes), np.zeros(n, dtype=np.bool_)]


def _table(robot: PlanarRobot) -> tuple[np.ndarray, ...]:
    """Return the robot's arrays for :func:`kernels.read_state`: parent, links, torque, point_link, points."""
    row = {link.name: i for i, link in enumerate(robot.links)}
    falling, places = fall_points(robot)
    return (
        np.array([0 if link.parent is None else row[link.parent] for link in robot.links]),
        np.array([(*link.anchor, *link.center) for link in robot.links]),
        np.array([float(link.torque) for link in robot.joints]),
        np.array([row[link.name] for link in falling]),
        np.array([(x, z, link.radius) for link, (x, z) in zip(falling, places, strict=True)]),
    )
