"""The torch backend with masks instead of simulation numbers, so that a step never waits for the device.

The number of episodes that a step ends is known only on the device; a tensor with one row for each of them would make
the host wait. All tensors here therefore have one row per simulation, and masks select the valid rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from policykd.envs.physics import Engine
from policykd.envs.physics.by_ids import mask_engine
from policykd.envs.skills import Skill
from policykd.envs.stepping.protocol import View
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.stepping.torch_backend import TorchBackend
from policykd.envs.tasks import Task
from policykd.envs.terrains import Maps, Tracks


@dataclass
class MaskedOutcome:
    """Rewards, terminations and episode statistics of all ``n`` simulations; tensors are not reused by later steps.

    Attributes:
        reward: (n,) float32.
        terminated: (n,) whether the robot fell or its simulation failed.
        truncated: (n,) whether the episode ran out of steps.
        total_reward: (n,) sum of the episode's rewards so far.
        length: (n,) steps of the episode so far.
        distance: (n,) distance of the episode along x so far, m.
        success: (n,) whether the episode ended without a fall and within the task's goal.
    """

    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor


class MaskedSteps(TorchBackend):
    """Steps with masks, whatever the robots; a base class of the backends that know their ground and memory.

    Attributes:
        masks: the engine, with methods that take masks.
    """

    def __init__(
        self,
        engine: Engine,
        skill: Skill,
        tracks: Tracks | Maps,
        boxes: int,
        tasks: Sequence[Task] = (),
        **options: Any,
    ) -> None:
        self.masks = mask_engine(engine)
        super().__init__(engine, skill, tracks, boxes, tasks, **options)

    def start_episodes_where(
        self, mask: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor
    ) -> None:
        """Start episodes in the simulations selected by ``mask`` (n,); see :meth:`TorchBackend.start_episodes`.

        Args:
            mask: (n,) bool.
            rows: (n,) rows of the tracks in the bank.
            clock: (n,) initial times of the gait clocks, s.
            chance: (n, 3) random numbers in [0, 1) for the commands of robots in space.
        """
        fresh = torch.nn.functional.pad(clock[:, None], (2, 0))
        self._statistics.copy_(torch.where(mask[:, None], fresh, self._statistics))
        self._row.copy_(torch.where(mask, rows, self._row))
        self._center.masked_fill_(mask, torch.inf)
        self._tracks.assign_where(mask, self._bank, rows)

    def move_ground_where(self) -> None:
        """Move the ground windows as :meth:`TorchBackend.move_ground` does."""
        raise NotImplementedError

    def compute_outcome_where(self, view: View, failed: torch.Tensor) -> MaskedOutcome:
        """Compute rewards and terminations and update episode statistics; see :meth:`TorchBackend.compute_outcome`."""
        reward, terminated, truncated = self._enter(view, failed)
        distance = self._distance(view).clone()
        least, most = self.tasks.goal.unbind(1)
        success = truncated & (distance >= least) & (distance <= most)
        total, length = self._total_reward.clone(), self.elapsed.long()
        return MaskedOutcome(reward.float(), terminated, truncated, total, length, distance, success)

    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Reset the engine's simulations selected by ``mask``; see :meth:`MaskEngine.reset_where`."""
        self.masks.reset_where(mask, qpos, qvel)


class MaskedBackend(MaskedSteps):
    """Planar robots with steps by masks; see :class:`TorchBackend` for the arguments."""

    @override
    def move_ground_where(self) -> None:
        x = self._engine.field("qpos")[:, 0]
        moved = (x - self._center).abs() > self._skill.robot.slack
        self._center.copy_(torch.where(moved, x, self._center))
        boxes = self._tracks.boxes_from(self._center - self._window / 2, self._boxes)
        self.masks.set_ground_where(moved, *boxes)


class MaskedSpatialBackend(MaskedSteps, SpatialTorchBackend):
    """Robots in space with steps by masks; see :class:`SpatialTorchBackend` for the arguments."""

    @override
    def start_episodes_where(
        self, mask: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor
    ) -> None:
        super().start_episodes_where(mask, rows, clock, chance)
        for memory in (self._last_action, self._target_change, self._air):
            memory.masked_fill_(mask[:, None], 0.0)
        self._y.masked_fill_(mask, torch.inf)
        for i in range(len(self._velocity_tasks)):
            mine = mask & (self._task_of == i)
            self._command.copy_(torch.where(mine[:, None], self._commands_of(i, chance), self._command))

    @override
    def move_ground_where(self) -> None:
        place, ground = self._engine.field("qpos")[:, :2], self._tracks
        away = (place - torch.stack([self._center, self._y], dim=1)).abs().amax(dim=1)
        moved = away > (self._map_window.slack if isinstance(ground, Maps) else self._robot.slack)
        center = self._map_window.snap(place) if isinstance(ground, Maps) else place
        for mine, now in ((self._center, center[:, 0]), (self._y, center[:, 1])):
            mine.copy_(torch.where(moved, now, mine))
        center = torch.stack([self._center, self._y], dim=1)
        if isinstance(ground, Maps):
            self.masks.set_boxes_where(moved, *ground.boxes_around(center, self._map_window, self._boxes))
            return
        pose, half = ground.boxes_from(center[:, 0] - self._window / 2, self._boxes)
        lane = torch.stack([center[:, 1], torch.full_like(center[:, 1], self._window / 2)], dim=1)
        self.masks.set_ground_where(moved, pose, half, lane)
