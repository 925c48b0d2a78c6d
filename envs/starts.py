"""How episodes begin: on which track, and in which state."""

from __future__ import annotations

from typing import Any

import torch

from policykd.envs.robots import Robot
from policykd.seeding import integer_seed

PHASE_SECONDS = 1.0
"""Period of the gait clock behind the ``phase`` group, s."""


class Starts:
    """Draws the beginnings of episodes: a noisy standing pose that moves forward, and a phase of the gait.

    Every coordinate is uniform between two bounds, most of them between equal ones, so that a few operations on one
    matrix draw all of them.

    Args:
        robot: the robot.
        joint_noise: half width of the noise on the joint angles, rad.
        speed_noise: largest initial forward velocity, m/s.
        device: where the tensors live.

    Attributes:
        generator: the stream of random numbers.
    """

    def __init__(self, robot: Robot, joint_noise: float, speed_noise: float, device: torch.device) -> None:
        like: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.generator = torch.Generator(device)
        pose, joints = torch.as_tensor(robot.stand_pose, **like), len(robot.joints)
        self._size = len(pose)
        self._from = torch.cat([pose, torch.zeros(self._size + 1, **like)])
        self._width, self._least, self._most = (torch.full_like(self._from, v) for v in (0.0, -torch.inf, torch.inf))
        noisy = slice(3, 3 + joints)
        self._from[noisy] -= joint_noise
        self._width[noisy] = 2 * joint_noise
        self._least[noisy] = torch.tensor([link.limits[0] for link in robot.joints], **like)
        self._most[noisy] = torch.tensor([link.limits[1] for link in robot.joints], **like)
        self._width[self._size], self._width[-1] = speed_noise, PHASE_SECONDS

    def seed(self, seed: int) -> None:
        """Restart the stream of random numbers."""
        self.generator.manual_seed(integer_seed(seed, "resets"))

    def integers(self, low: int, high: int, count: int) -> torch.Tensor:
        """(count,) random integers in [low, high)."""
        return torch.randint(low, high, (count,), generator=self.generator, device=self._from.device)

    def states(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Initial states of ``count`` episodes.

        Returns:
            (count, nq) generalised positions, (count, nv) generalised velocities, and (count,) times of the gait
            clock, s.
        """
        like: dict[str, Any] = {"dtype": torch.float64, "device": self._from.device, "generator": self.generator}
        draw = torch.addcmul(self._from, torch.rand(count, len(self._from), **like), self._width)
        draw.clamp_(self._least, self._most)
        return draw[:, : self._size], draw[:, self._size : -1], draw[:, -1]
