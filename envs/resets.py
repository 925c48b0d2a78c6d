"""Initial states and tracks of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from policykd.envs.robots import Robot
from policykd.seeding import integer_seed

PHASE_SECONDS = 1.0
"""Period of the gait clock behind the ``phase`` group, s."""

_AHEAD = 256
"""Smallest number of episodes drawn at a time."""


class Starts:
    """Sampler of initial states: a noisy standing pose with a forward velocity, and a phase of the gait clock.

    All coordinates are sampled uniformly in a few matrix operations; fixed coordinates have equal bounds. States are
    drawn in advance, some hundred episodes at a time: a step ends only a handful of episodes, and the fixed cost of an
    operation equals that of a hundred rows. They are drawn on the CPU in float64, so that the same seed gives the same
    episodes on every device.

    Args:
        robot: the robot.
        joint_noise: half width of the noise on the joint angles, rad.
        speed_noise: largest initial forward velocity, m/s.
        like: a tensor with the device and dtype of the states.
    """

    def __init__(self, robot: Robot, joint_noise: float, speed_noise: float, like: torch.Tensor) -> None:
        self._like = like
        double: dict[str, Any] = {"dtype": torch.float64}
        self._generator = torch.Generator()
        pose, joints = torch.as_tensor(robot.stand_pose, **double), len(robot.joints)
        self._size = len(pose)
        self._from = torch.cat([pose, torch.zeros(self._size + 1, **double)])
        self._width, self._least, self._most = (torch.full_like(self._from, v) for v in (0.0, -torch.inf, torch.inf))
        noisy = slice(3, 3 + joints)
        self._from[noisy] -= joint_noise
        self._width[noisy] = 2 * joint_noise
        self._least[noisy] = torch.tensor([link.limits[0] for link in robot.joints], **double)
        self._most[noisy] = torch.tensor([link.limits[1] for link in robot.joints], **double)
        self._width[self._size], self._width[-1] = speed_noise, PHASE_SECONDS
        self._range, self._drawn, self._used = (0, 0), 0, 0
        self._before = self._generator.get_state()

    def seed(self, seed: int) -> None:
        """Restart the random stream."""
        self._generator.manual_seed(integer_seed(seed, "resets"))
        self._drawn = self._used = 0

    def integers(self, high: int, count: int) -> torch.Tensor:
        """Return (count,) random integers in [0, high)."""
        return torch.randint(high, (count,), generator=self._generator).to(self._like.device)

    def take(self, count: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the tracks and initial states of the next ``count`` episodes.

        Args:
            count: number of episodes.
            first: index of the first track to pick from.
            last: index after the last track.

        Returns:
            (count,) tracks, (count, nq) generalized positions, (count, nv) generalized velocities, and (count,) times
            of the gait clock, s.
        """
        if (first, last) != self._range or count > self._drawn - self._used:
            self._draw(max(count, _AHEAD), first, last)
        rows = slice(self._used, self._used + count)
        self._used += count
        return self._track[rows], self._qpos[rows], self._qvel[rows], self._clock[rows]

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the sampler as tensors and numbers."""
        return {
            "generator": self._generator.get_state(),
            "before": self._before,
            "range": list(self._range),
            "drawn": self._drawn,
            "used": self._used,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a :meth:`snapshot`."""
        if snapshot["drawn"]:  # regenerate the states that had been drawn in advance
            self._generator.set_state(snapshot["before"])
            self._draw(snapshot["drawn"], *snapshot["range"])
        self._drawn, self._used = snapshot["drawn"], snapshot["used"]
        self._generator.set_state(snapshot["generator"])

    def _draw(self, count: int, first: int, last: int) -> None:
        self._before = self._generator.get_state()
        self._range, self._drawn, self._used = (first, last), count, 0
        self._track = torch.randint(first, last, (count,), generator=self._generator).to(self._like.device)
        draw = torch.rand(count, len(self._from), dtype=self._from.dtype, generator=self._generator)
        state = torch.addcmul(self._from, draw, self._width).clamp_(self._least, self._most).to(self._like)
        self._qpos, self._qvel, clock = state.split([self._size, self._size, 1], dim=1)
        self._clock = clock[:, 0]
