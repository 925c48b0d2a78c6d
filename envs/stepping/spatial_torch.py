"""The torch backend of robots in space, for engines on any device, and the reference for the compiled one.

It reads the engine's state; only an environment steps or resets the engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from typing_extensions import override

from policykd.envs.observations import Surroundings
from policykd.envs.observations.spatial import area_offsets, scan_offsets
from policykd.envs.physics import Engine
from policykd.envs.resets import PHASE_SECONDS
from policykd.envs.robots import SpatialRobot
from policykd.envs.skills import Skill
from policykd.envs.spatial_state import SpatialReader, SpatialState
from policykd.envs.stepping.protocol import View
from policykd.envs.stepping.torch_backend import TorchBackend
from policykd.envs.tasks import Task, VelocityTracking
from policykd.envs.tasks.velocity_terms import Motion, sum_terms
from policykd.envs.terrains import Maps, Tracks
from policykd.envs.terrains.map_bank import Window

CONTACT = 0.028
"""Height of a sole above the ground up to which a foot counts as touching it, leg lengths."""
TURN_LIMIT = 1.0
"""Largest commanded yaw rate while the heading is held, rad/s."""
DRIFT_GAIN = 0.5
"""Commanded yaw rate per meter that the robot is off the middle of the track, rad/s/m."""


class Rhythms(NamedTuple):
    """Gaits of t tasks for f feet, as tensors.

    Attributes:
        present: (t,) 1 for tasks with a gait, otherwise 0.
        frequency: (t,) cycles per second.
        offset: (t, f) offsets of the feet, cycles.
        duty: (t,) share of a cycle for which a foot stands.
        lowering: (t,) distance of the base below its standing height, leg lengths.
    """

    present: torch.Tensor
    frequency: torch.Tensor
    offset: torch.Tensor
    duty: torch.Tensor
    lowering: torch.Tensor

    @classmethod
    def of(cls, tasks: Sequence[VelocityTracking], places: np.ndarray, like: torch.Tensor) -> Rhythms:
        """Return the gaits of tasks for feet at ``places`` (f, 2); all zero for a task without one."""
        gaits = [task.gait for task in tasks]
        rows = [(1.0, g.frequency, g.duty, g.lowering) if g else (0.0,) * 4 for g in gaits]
        offset = np.stack([g.offsets(places) if g else np.zeros(len(places)) for g in gaits])
        present, frequency, duty, lowering = torch.tensor(rows).to(like).unbind(1)
        return cls(present.clone(), frequency.clone(), torch.as_tensor(offset).to(like), duty.clone(), lowering.clone())

    def phases(self, clock: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the (m, f) phases of the feet of simulations with the tasks ``task`` (m,), cycles in [0, 1)."""
        return (clock * self.frequency[task])[:, None].add(self.offset[task]) % 1.0

    def features(self, clock: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the (m, 2 f + 1) sines, cosines and lowering that policies read."""
        angle, present = 2 * math.pi * self.phases(clock, task), self.present[task][:, None]
        return torch.cat([angle.sin() * present, angle.cos() * present, self.lowering[task][:, None]], dim=1)


@dataclass
class SpatialView:
    """A :class:`~policykd.envs.stepping.protocol.View` of robots in space."""

    state: SpatialState
    ground: torch.Tensor
    scan: torch.Tensor
    touching: torch.Tensor
    which: torch.Tensor | slice
    area: torch.Tensor


class SpatialTorchBackend(TorchBackend):
    """Robots in space on tracks; see :class:`TorchBackend` for the arguments and methods.

    Args:
        engine: the engine.
        skill: task, observation groups and episode length.
        tracks: the bank of tracks or maps.
        boxes: ground boxes of a simulation.
        tasks: simulation i has task ``tasks[i % len(tasks)]``; empty to use the skill's task.
        fixed_commands: command every task's own speed, as in evaluations, instead of drawing from its ranges.
    """

    def __init__(
        self,
        engine: Engine,
        skill: Skill,
        tracks: Tracks | Maps,
        boxes: int,
        tasks: Sequence[Task] = (),
        *,
        fixed_commands: bool = False,
    ) -> None:
        self._fixed = fixed_commands
        super().__init__(engine, skill, tracks, boxes, tasks)

    @override
    def _allocate(self) -> None:
        super()._allocate()
        robot, n, like = self._skill.robot, self._engine.num_sims, self._engine.field("qpos")
        assert isinstance(robot, SpatialRobot)
        self._robot, body = robot, robot.body
        self._scan, self._area = (torch.as_tensor(offsets(robot)).to(like) for offsets in (scan_offsets, area_offsets))
        self._map_window = Window.under(robot.reach, robot.leg_length)
        self._track_window = (robot.slack, self._window / 2)
        joints, feet = len(body.servos), len(body.foot_names)
        # One matrix per kind of memory: last actions, changes of the targets, times in the air, commands.
        self._last_action, self._target_change = like.new_zeros(n, joints), like.new_zeros(n, joints)
        self._air, self._command = like.new_zeros(n, feet), like.new_zeros(n, 3)
        self._y = like.new_full((n,), torch.inf)
        self._foot_radius = torch.as_tensor(body.foot_radius.copy()).to(like)
        self._foot_of = torch.as_tensor(body.foot_of.copy(), device=like.device)
        self._posture = torch.as_tensor(body.posture.copy()).to(like)
        self._stand_height = float(body.stand_pose[2])
        self._upright = -torch.cos(torch.deg2rad(torch.tensor(robot.tilt))).item()
        self._contact = CONTACT * robot.leg_length
        tasks = [self._velocity(task) for task in self.tasks.tasks]
        which = torch.arange(n, device=like.device) % len(tasks)
        self._task_of, self._velocity_tasks = which, tasks
        # Ranges of the commands; made once, since every copy to a device waits for it.
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self._spans = [torch.tensor(task.command_spans(self._fixed), **options).unbind(1) for task in tasks]
        self._holds = torch.tensor([task.turning is None for task in tasks], device=like.device)[which]
        self._rhythms = Rhythms.of(tasks, body.foot_place, like)

    @staticmethod
    def _velocity(task: Task) -> VelocityTracking:
        assert isinstance(task, VelocityTracking)  # skills refuse other tasks of robots in space
        return task

    @override
    def _make_reader(self) -> Any:
        assert isinstance(self._skill.robot, SpatialRobot)
        return SpatialReader(self._engine, self._skill.robot, self._boxes)

    @override
    def apply(self, actions: torch.Tensor) -> torch.Tensor:
        clamped = actions.to(self._scale).clamp(-1.0, 1.0)
        torch.mul(clamped - self._last_action, self._scale, out=self._target_change)
        self._last_action.copy_(clamped)
        return self.targets(clamped)

    @override
    def start_episodes(
        self, ids: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor | None = None
    ) -> None:
        super().start_episodes(ids, rows, clock)
        assert chance is not None
        self._start_memory(ids, chance)

    def _start_memory(self, ids: torch.Tensor, chance: torch.Tensor) -> None:
        for memory in (self._last_action, self._target_change, self._air):
            memory[ids] = 0.0
        self._y[ids] = torch.inf
        if len(self._velocity_tasks) == 1:
            self._command[ids] = self._commands_of(0, chance)
            return
        for i in range(len(self._velocity_tasks)):
            rows = self._task_of[ids] == i
            self._command[ids[rows]] = self._commands_of(i, chance[rows])

    def _commands_of(self, task: int, chance: torch.Tensor) -> torch.Tensor:
        """Return the commands (m, 3) that random numbers (m, 3) in [0, 1) choose from the ranges of a task."""
        low, high = self._spans[task]
        return torch.lerp(low.expand_as(chance), high.expand_as(chance), chance)

    @override
    def move_ground(self) -> None:
        place, ground = self._engine.field("qpos")[:, :2], self._tracks
        away = (place - torch.stack([self._center, self._y], dim=1)).abs().amax(dim=1)
        mapped = isinstance(ground, Maps)
        ids = torch.nonzero(away > (self._map_window.slack if mapped else self._robot.slack)).squeeze(1)
        if not len(ids):
            return
        center = place[ids]
        if mapped:
            center = self._map_window.snap(center)
        self._center[ids], self._y[ids] = center.unbind(1)
        if isinstance(ground, Maps):
            self._engine.set_boxes(ids, *ground.rows(ids).boxes_around(center, self._map_window, self._boxes))
            return
        pose, half = ground.rows(ids).boxes_from(center[:, 0] - self._window / 2, self._boxes)
        lane = torch.stack([center[:, 1], torch.full_like(center[:, 1], self._window / 2)], dim=1)
        self._engine.set_ground(ids, pose, half, lane)

    @property
    def _memory(self) -> dict[str, torch.Tensor]:
        return {
            "last_action": self._last_action, "target_change": self._target_change, "air": self._air,
            "command": self._command, "y": self._y,
        }  # fmt: skip

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        return {**super().snapshot(), **{name: memory.clone() for name, memory in self._memory.items()}}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        super().restore(snapshot)
        for name, memory in self._memory.items():
            memory.copy_(snapshot[name])

    @override
    def read_state(self, ids: torch.Tensor | None = None) -> View:
        return self._read_spatial(ids)

    def _read_spatial(self, ids: torch.Tensor | None) -> SpatialView:
        state = self._reader.read(ids)
        which: torch.Tensor | slice = slice(None) if ids is None else ids
        (x, y), points = state.position[:, :2].split(1, dim=1), state.fall_points
        cosine, sine = torch.cos(state.heading)[:, None], torch.sin(state.heading)[:, None]
        ahead, aside = self._area.unbind(1)
        places_x = (x, x + cosine * self._scan, x + cosine * ahead - sine * aside, points[:, :, 0])
        places_y = (y, y + sine * self._scan, y + sine * ahead + cosine * aside, points[:, :, 1])
        height = self.tracks(which).height(torch.cat(places_x, dim=1), torch.cat(places_y, dim=1))
        ground, scan, area, below = height.split([part.shape[1] for part in places_x], dim=1)
        touching = (points[:, :, 2] < below).any(dim=1) | (state.gravity[:, 2] > self._upright)
        return SpatialView(state, ground[:, 0], scan, touching, which, area)

    def _command_of(self, state: SpatialState, which: torch.Tensor | slice) -> torch.Tensor:
        """Return (m, 3) commands; where the heading is held, the yaw rate steers back to the middle of the track."""
        command = self._command[which]
        steer = (-state.heading - DRIFT_GAIN * state.position[:, 1]).clamp(-TURN_LIMIT, TURN_LIMIT)
        yaw = torch.where(self._holds[which], steer, command[:, 2])
        return torch.cat([command[:, :2], yaw[:, None]], dim=1)

    @override
    def _around(self, view: View, clock: torch.Tensor) -> Surroundings:
        which, state = view.which, view.state

        def height(x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
            return self.tracks(which).height(x, y)

        assert isinstance(state, SpatialState)
        assert isinstance(view, SpatialView)  # the compiled backend gives its view in torch
        command, last_action = self._command_of(state, which), self._last_action[which]
        gait = self._rhythms.features(clock, self._task_of[which])
        return Surroundings(
            view.ground, view.scan, clock / PHASE_SECONDS, command, height, last_action, view.area, gait
        )

    @override
    def _assess_step(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        motion = self._motion(view)
        reward = torch.empty_like(motion.forward)
        for i, task in enumerate(self._velocity_tasks):
            rows = slice(i, None, len(self._velocity_tasks))  # a mask would make the host wait
            part = Motion(*(field[rows] for field in motion))
            terms = {term.name: (term.weight, term.width) for term in task.terms}
            reward[rows] = (sum_terms(part, terms) / task.scale).clamp(0.0, 1.0)
        return view.touching, reward

    def _motion(self, view: View) -> Motion:
        """Return what the terms read after a step, and update the times in the air."""
        state = view.state
        assert isinstance(state, SpatialState)
        command = self._command_of(state, view.which)
        air, landed = self._step_feet(state)
        base = (*state.velocity.unbind(1), *state.angular_velocity.unbind(1), *state.gravity[:, :2].unbind(1))
        posture = state.joint_offset * self._posture
        joints = (state.effort, state.joint_velocity, posture, self._target_change, air, landed)
        return Motion._make((*base, *command.unbind(1), *joints, *self._rhythm(view)))

    def _rhythm(self, view: View) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return contacts (n, f), wanted contacts (n, f) and error of the height (n,) after a step."""
        state, gaits, task = view.state, self._rhythms, self._task_of
        assert isinstance(state, SpatialState)
        contact = (self._air == 0).to(self._air)
        stance = (gaits.phases(self.clock + self._robot.control_dt, task) < gaits.duty[task][:, None]).to(contact)
        height = (state.position[:, 2] - view.ground - self._stand_height) / self._robot.leg_length
        return contact, stance, gaits.present[task] * (height + gaits.lowering[task])

    def _step_feet(self, state: SpatialState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the times that the feet had been in the air, s, and which of them landed in this step, each (n, f)."""
        sole = state.feet[:, :, 2] - self._foot_radius - self.height(state.feet[:, :, 0], state.feet[:, :, 1])
        lowest = torch.full_like(self._air, torch.inf).scatter_reduce_(1, self._foot_of.expand_as(sole), sole, "amin")
        contact = lowest < self._contact
        before = self._air.clone()
        landed = (contact & (before > 0)).to(before)
        self._air.copy_(torch.where(contact, torch.zeros_like(before), before + self._robot.control_dt))
        return before, landed

    @override
    def _distance(self, view: View) -> torch.Tensor:
        state = view.state
        assert isinstance(state, SpatialState)
        return state.position[:, 0]
