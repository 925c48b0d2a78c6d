"""The CPU backend of robots in space: :class:`SpatialTorchBackend` with compiled loops.

It reads the engine's arrays and must return what the torch backend returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from typing_extensions import override

from policykd.envs.env_records import Episodes
from policykd.envs.observations import get_group
from policykd.envs.stepping import ground_kernels, numba_kernels, spatial_kernels
from policykd.envs.stepping.parts import Parts
from policykd.envs.stepping.protocol import Outcome, View
from policykd.envs.stepping.spatial_kernels import (
    Columns,
    Memory,
    RewardTable,
    RhythmTable,
    RobotTable,
)
from policykd.envs.stepping.spatial_torch import DRIFT_GAIN, TURN_LIMIT, SpatialTorchBackend, SpatialView
from policykd.envs.tasks.velocity_terms import TERMS
from policykd.envs.terrains import Maps, Tracks

_COMPILED = {name: get_group(name) for name in Columns._fields}
"""Groups with a compiled loop. They are compared as objects, so that a replaced group has no loop."""


class CompiledView:
    """A view with precomputed features, falls and rewards; the other fields are computed at first access.

    Args:
        backend: the backend.
        ids: (m,) the simulations; None for all.
        flat: (m, features) observation groups; columns without a compiled loop are not filled yet.
    """

    def __init__(self, backend: SpatialNumbaBackend, ids: torch.Tensor | None, flat: np.ndarray) -> None:
        self._backend, self.ids, self.flat = backend, ids, flat

    @cached_property
    def whole(self) -> SpatialView:
        """The view in torch."""
        return self._backend._read_spatial(self.ids)

    @property
    def which(self) -> torch.Tensor | slice:
        """(m,) the simulations, or a slice of all of them."""
        return self.whole.which

    @property
    def state(self) -> object:
        """State of the robots."""
        return self.whole.state

    @property
    def ground(self) -> torch.Tensor:
        """(m,) ground height under the base, m."""
        return self.whole.ground

    @property
    def scan(self) -> torch.Tensor:
        """(m, points) ground heights at the scanner's samples, m."""
        return self.whole.scan

    @property
    def touching(self) -> torch.Tensor:
        """(m,) whether a robot has fallen."""
        return self.whole.touching


class SpatialNumbaBackend(SpatialTorchBackend):
    """The backend of robots in space with compiled loops; see :class:`SpatialTorchBackend` for the arguments."""

    @override
    def _allocate(self) -> None:
        super()._allocate()
        n, robot, body = self._engine.num_sims, self._robot, self._robot.body
        self._qpos, *self._moving = (
            self._engine.field(name).numpy() for name in ("qpos", "qvel", "actuator_force", "geom_xpos")
        )
        self._table = RobotTable(
            self._stand.numpy(), self._scale.numpy(), np.array([servo.torque for servo in body.servos]),
            self._posture.numpy(), body.feet + self._boxes, self._foot_radius.numpy(), self._foot_of.numpy(),
            body.fall_points.copy(), self._upright, self._contact, self._stand_height, robot.leg_length,
            robot.control_dt,
        )  # fmt: skip
        scanners = (np.stack([self._scan.numpy(), 0.0 * self._scan.numpy()], axis=1), self._area.numpy())
        self._ground = ground_kernels.ground_table(self._bank, self._row.numpy(), *scanners)
        self._remembered = Memory(
            self._last_action.numpy(),
            self._target_change.numpy(),
            self._air.numpy(),
            self._command.numpy(),
        )
        self._clock, self._rewards = self.clock.numpy(), self._reward_table()
        self._columns, self._features = self._skill.columns, sum(self._skill.group_sizes.values())
        self._places = Columns(*(self._first_column(name) for name in Columns._fields))
        self._others = [g for g in self._groups if _COMPILED.get(g.name) is not g]
        self._limits = (self._low.numpy(), self._high.numpy())
        self._ranges = tuple(torch.stack(ends).numpy() for ends in zip(*self._spans, strict=True))
        self._windows = (self._center.numpy(), self._y.numpy())
        shapes = ((self._boxes, 3), (self._boxes, 2), (self._boxes, 3) if self._ground.mapped else (2,))
        self._moved = (np.zeros(n, np.int64), *(np.zeros((n, *shape)) for shape in shapes))
        self._everything, self._fell, self._earned = np.arange(n), np.zeros(n, np.bool_), np.zeros(n)
        self._parts = Parts(n, self._engine.threads)
        self._entries, self._goal = self._statistics.numpy(), self.tasks.goal.numpy()

    def _reward_table(self) -> RewardTable:
        tasks = self._velocity_tasks
        weight, width = np.zeros((len(tasks), len(TERMS))), np.ones((len(tasks), len(TERMS)))
        for i, task in enumerate(tasks):
            for term in task.terms:
                weight[i, list(TERMS).index(term.name)] = term.weight
                width[i, list(TERMS).index(term.name)] = term.width
        scale, holds = np.array([t.scale for t in tasks]), np.array([t.turning is None for t in tasks])
        rhythm = RhythmTable(*(part.numpy() for part in self._rhythms))
        return RewardTable(self._task_of.numpy(), weight, width, scale, holds, TURN_LIMIT, DRIFT_GAIN, rhythm)

    def _first_column(self, name: str) -> int:
        group = next((g for g in self._groups if g.name == name and g is _COMPILED[name]), None)
        return -1 if group is None else self._columns[name].start

    @override
    def apply(self, actions: torch.Tensor) -> torch.Tensor:
        targets = np.empty(actions.shape)
        spatial_kernels.act(actions.detach().numpy(), self._table, *self._limits, self._remembered, targets)
        return torch.from_numpy(targets)

    @override
    def start_episodes(
        self, ids: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor | None = None
    ) -> None:
        assert chance is not None
        row, center = self._row.numpy(), self._center.numpy()
        numba_kernels.start_episodes(ids.numpy(), rows.numpy(), clock.numpy(), self._entries, row, center)
        spatial_kernels.start_memory(
            ids.numpy(), chance.numpy(), self._rewards.task, *self._ranges, self._remembered, self._y.numpy()
        )

    @override
    def move_ground(self) -> None:
        qpos, ground = self._qpos, self._ground
        move = ground_kernels.move_map_windows if ground.mapped else ground_kernels.move_windows
        sizes = self._map_window if ground.mapped else self._track_window
        moved = move(qpos, *self._windows, *sizes, ground, *self._moved)
        if moved:
            ids, *boxes = (torch.from_numpy(part[:moved]) for part in self._moved)
            write: Callable[..., None] = self._engine.set_boxes if ground.mapped else self._engine.set_ground
            write(ids, *boxes)

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        self._statistics.copy_(snapshot["books"])
        self._row.copy_(snapshot["row"])
        self._center.copy_(snapshot["center"])
        for name, memory in self._memory.items():
            memory.copy_(snapshot[name])

    @override
    def read_state(self, ids: torch.Tensor | None = None) -> View:
        which, stepped = (self._everything, True) if ids is None else (ids.numpy(), False)
        flat = np.empty((len(which), self._features), dtype=np.float32)

        def pass_over(rows: slice) -> None:
            spatial_kernels.pass_over(
                which[rows], self._table, self._ground, self._qpos, *self._moving, self._clock, self._remembered,
                self._rewards, self._places, stepped, self._fell[rows], self._earned[rows], flat[rows],
            )  # fmt: skip

        if stepped:
            self._parts.run(pass_over)
        else:
            pass_over(slice(None))
        return CompiledView(self, ids, flat)

    @override
    def observe(self, view: View, clock: torch.Tensor) -> torch.Tensor:
        assert isinstance(view, CompiledView)
        flat = torch.from_numpy(view.flat)
        if self._others:
            around = self._around(view.whole, clock)
            for group in self._others:
                flat[:, self._columns[group.name]] = group.compute(view.whole.state, around).detach().float()
        return flat

    @override
    def swap_rows(self, flat: torch.Tensor, ids: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        numba_kernels.swap_rows(flat.numpy(), ids.numpy(), fresh.numpy())
        return fresh

    @override
    def compute_outcome(self, view: View, failed: torch.Tensor) -> Outcome:
        n = len(self._fell)
        reward, flags, numbers = np.empty(n, dtype=np.float32), np.empty((3, n), dtype=np.bool_), np.empty((2, n))
        ids, length = np.empty((2, n), dtype=np.int64)
        ended, failures = numba_kernels.compute_outcome(
            self._fell, failed.numpy(), self._earned, self._qpos, self._robot.control_dt,
            self._skill.episode_steps, self._goal, self._entries, reward, flags[0], flags[1], ids, *numbers, length,
            flags[2],
        )  # fmt: skip
        rows = (torch.from_numpy(array[:ended]) for array in (ids, numbers[0], length, numbers[1], flags[2]))
        earned, fell, over = (torch.from_numpy(array) for array in (reward, flags[0], flags[1]))
        return Outcome(earned, fell, over, failures, Episodes(*rows))

    @override
    def tracks(self, ids: torch.Tensor | slice) -> Tracks | Maps:
        return self._bank.rows(self._row[ids])
