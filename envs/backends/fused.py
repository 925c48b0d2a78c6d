"""The backend on the CPU: what :class:`TensorBackend` does, in compiled loops without intermediate tensors."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from policykd.envs.backends import kernels
from policykd.envs.backends.tensors import TensorBackend
from policykd.envs.backends.view import SLACK, Episodes, Outcome, View
from policykd.envs.kinematics import PlanarState, fall_points
from policykd.envs.observations import SCAN_POINTS, Surroundings, get_group
from policykd.envs.robots import Robot
from policykd.envs.starts import PHASE_SECONDS
from policykd.envs.tasks import Walk
from policykd.envs.terrains import Tracks

_GROUP_KERNELS = {get_group("proprio"): kernels.proprio, get_group("terrain"): kernels.terrain}
"""Groups that have a loop; a group that replaces one of them under its name is another key."""


class FusedView:
    """See :class:`~policykd.envs.backends.view.View`; tensors are made when somebody asks for them.

    Args:
        ids: (m,) the simulations.
        qpos: (n, nq) generalised positions of all simulations.
        qvel: (n, nv) their generalised velocities.
        whole: whether ``ids`` are all simulations, so that the state can be views.
        found: memory for what :func:`kernels.look` finds out: com, com_velocity, fall_points, effort, ground, scan,
            touching.
    """

    def __init__(
        self, ids: np.ndarray, qpos: torch.Tensor, qvel: torch.Tensor, whole: bool, found: list[np.ndarray]
    ) -> None:
        self.ids, self.found, self._whole = ids, found, whole
        self._qpos, self._qvel = qpos, qvel

    @cached_property
    def state(self) -> PlanarState:
        """State of the robots."""
        com, velocity, points, effort = (torch.from_numpy(array) for array in self.found[:4])
        rows = slice(None) if self._whole else torch.from_numpy(self.ids)
        q, v = self._qpos[rows], self._qvel[rows]
        return PlanarState(q[:, :2], q[:, 2], v[:, :2], q[:, 3:], v[:, 3:], com, velocity, points, effort)

    @cached_property
    def ground(self) -> torch.Tensor:
        """(m,) height of the ground under the root, m."""
        return torch.from_numpy(self.found[4])

    @cached_property
    def scan(self) -> torch.Tensor:
        """(m, SCAN_POINTS) heights of the ground at the scanner's samples, m."""
        return torch.from_numpy(self.found[5])

    @cached_property
    def touching(self) -> torch.Tensor:
        """(m,) whether a part touches the ground that must not."""
        return torch.from_numpy(self.found[6])


class FusedBackend(TensorBackend):
    """See :class:`TensorBackend`."""

    def _allocate(self) -> None:
        n, robot, tracks = self._engine.num_sims, self._skill.character, self._bank
        self._qpos, self._qvel, force = (self._engine.field(f) for f in ("qpos", "qvel", "actuator_force"))
        self._fields = (self._qpos.numpy(), self._qvel.numpy(), force.numpy())
        self._ground = tuple(t.contiguous().numpy() for t in (tracks.edges, tracks.left, tracks.grade))
        self._row, self._center = np.zeros(n, dtype=np.int64), np.zeros(n)
        self._moved = (np.zeros(n, dtype=np.int64), np.zeros((n, self._boxes, 3)), np.zeros((n, self._boxes, 2)))
        self._robot, self._offsets = _constants(robot), self._scan.numpy()
        self._all, self._some = np.arange(n), _buffers(robot, n)
        self._view = FusedView(self._all, self._qpos, self._qvel, True, _buffers(robot, n))
        self._motors = tuple(t.numpy() for t in (self._stand, self._scale, self._low, self._high))
        self._angles, self._rewards, self._books_of = np.zeros((n, len(robot.joints))), np.zeros(n), self._books.numpy()
        self._mass_of, self._walk = self._mass.numpy(), None
        task = self._skill.task
        if type(task) is Walk:
            self._walk = np.array([task.speed, task.speed_width, task.upright_width, task.effort_width,
                                   task.speed_weight, task.upright_weight, task.effort_weight])  # fmt: skip
        ends = np.cumsum([0, *self._skill.group_sizes.values()]).tolist()
        self._columns = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]

    def targets(self, actions: torch.Tensor) -> torch.Tensor:
        """See :meth:`TensorBackend.targets`."""
        if actions.dtype != torch.float32 or actions.requires_grad:
            return super().targets(actions)
        angles = np.empty(actions.shape)
        kernels.targets(actions.numpy(), *self._motors, angles)
        return torch.from_numpy(angles)

    def begin(self, ids: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor) -> None:
        """See :meth:`TensorBackend.begin`."""
        kernels.begin(ids.numpy(), rows.numpy(), clock.numpy(), self._books_of, self._row, self._center)

    def follow(self) -> None:
        """See :meth:`TensorBackend.follow`."""
        moved = kernels.follow(
            self._fields[0], self._center, SLACK, self._window / 2, self._row, *self._ground, *self._moved
        )
        if moved:
            self._engine.set_ground(*(torch.from_numpy(array[:moved]) for array in self._moved))

    def snapshot(self) -> dict[str, torch.Tensor]:
        """See :meth:`TensorBackend.snapshot`."""
        row, center = torch.tensor(self._row), torch.tensor(self._center)
        return {"books": self._books.clone(), "row": row, "center": center}

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """See :meth:`TensorBackend.restore`."""
        self._books.copy_(snapshot["books"])
        self._row[:], self._center[:] = snapshot["row"].numpy(), snapshot["center"].numpy()

    def look(self, ids: torch.Tensor | None = None) -> View:
        """See :meth:`TensorBackend.look`."""
        view = self._view
        if ids is not None:
            view = FusedView(ids.numpy(), self._qpos, self._qvel, False, [a[: len(ids)] for a in self._some])
        kernels.look(view.ids, self._row, *self._fields, *self._robot, *self._ground, self._offsets, *view.found)
        return view

    def observe(self, view: View, clock: torch.Tensor) -> torch.Tensor:
        """See :meth:`TensorBackend.observe`."""
        assert isinstance(view, FusedView)
        flat = torch.empty(len(view.ids), self._columns[-1].stop)
        whole, around = flat.numpy(), None
        for group, columns in zip(self._groups, self._columns, strict=True):
            kernel = _GROUP_KERNELS.get(group)
            if kernel is not None:
                kernel(view.ids, self._fields[0], *view.found, whole[:, columns])
            else:
                around = around or Surroundings(view.ground, view.scan, clock / PHASE_SECONDS)
                flat[:, columns] = group.compute(view.state, around)
        return flat

    def judge(self, view: View, failed: torch.Tensor) -> Outcome:
        """See :meth:`TensorBackend.judge`."""
        assert isinstance(view, FusedView)
        n = len(view.ids)
        if self._walk is not None:
            kernels.walk_reward(self._fields[0], view.found[1], view.found[3], self._mass_of, self._walk, self._rewards)
            worth = self._rewards
        else:
            worth = self._reward(view).double().contiguous().numpy()
        reward, flags, numbers = np.empty(n, dtype=np.float32), np.empty((3, n), dtype=np.bool_), np.empty((2, n))
        ids, length = np.empty((2, n), dtype=np.int64)
        terminated, truncated, success = flags
        ended, failures = kernels.judge(
            view.found[6], failed.numpy(), worth, self._fields[0], self._robot_dt, self._skill.episode_steps,
            self._least_distance, self._books_of, reward, terminated, truncated, ids, *numbers, length, success,
        )  # fmt: skip
        rows = (torch.from_numpy(a[:ended]) for a in (ids, numbers[0], length, numbers[1], success))
        reward, terminated, truncated = (torch.from_numpy(a) for a in (reward, terminated, truncated))
        return Outcome(reward, terminated, truncated, failures, Episodes(*rows))

    @cached_property
    def _robot_dt(self) -> float:
        return self._skill.character.control_dt

    def tracks(self, ids: torch.Tensor) -> Tracks:
        """See :meth:`TensorBackend.tracks`."""
        return self._bank.rows(torch.from_numpy(self._row[ids.numpy()]))


def _buffers(robot: Robot, n: int) -> list[np.ndarray]:
    """Memory for what :func:`kernels.look` finds out about ``n`` simulations."""
    links, joints, points = len(robot.links), len(robot.joints), len(fall_points(robot)[0])
    shapes = ((links, 2), (links, 2), (points, 2), (joints,), (), (SCAN_POINTS,))
    return [*(np.zeros((n, *shape)) for shape in shapes), np.zeros(n, dtype=np.bool_)]


def _constants(robot: Robot) -> tuple[np.ndarray, ...]:
    """The robot's table as :func:`kernels.look` takes it: parent, links, torque, point_link, points."""
    row = {link.name: i for i, link in enumerate(robot.links)}
    falling, places = fall_points(robot)
    return (
        np.array([0 if link.parent is None else row[link.parent] for link in robot.links]),
        np.array([(*link.anchor, *link.center) for link in robot.links]),
        np.array([float(link.torque) for link in robot.joints]),
        np.array([row[link.name] for link in falling]),
        np.array([(x, z, link.radius) for link, (x, z) in zip(falling, places, strict=True)]),
    )
