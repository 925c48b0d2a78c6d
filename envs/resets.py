"""Initial states and tracks of episodes, drawn from one seeded stream on the CPU.

It draws states and grounds; writing them to the engine is the environment's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from policykd.envs.robots import ModelRobot, PlanarRobot, Robot, SpatialRobot
from policykd.seeding import integer_seed

PHASE_SECONDS = 1.0
"""Period of the gait clock behind the ``phase`` group, s."""

CHANCES = 3
"""Random numbers in [0, 1) of an episode in space, from which its task draws commands."""

_AHEAD = 256
"""Smallest number of episodes drawn at a time."""

_SPEED_SHARE = 0.4
_YAW_NOISE = 0.2  # half width of the noise on the heading of robots in space, rad
_LIFT = 0.035  # height of the feet of robots in space above the ground at the start, leg lengths


class Draw(NamedTuple):
    """Tracks and initial states of some episodes, one row each.

    Attributes:
        track: (m,) tracks.
        qpos: (m, nq) generalized positions.
        qvel: (m, nv) generalized velocities.
        clock: (m,) times of the gait clock, s.
        chance: (m, CHANCES) random numbers in [0, 1) for commands of robots in space; (m, 0) for others.
    """

    track: torch.Tensor
    qpos: torch.Tensor
    qvel: torch.Tensor
    clock: torch.Tensor
    chance: torch.Tensor


class Starts:
    """Sampler of initial states: a noisy standing pose with a forward velocity, and a phase of the gait clock.

    All coordinates are sampled uniformly in a few matrix operations; fixed coordinates have equal bounds. States are
    drawn in advance, some hundred episodes at a time: a step ends only a handful of episodes, and the fixed cost of an
    operation equals that of a hundred rows. They are drawn on the CPU in float64, so that the same seed gives the same
    episodes on every device.

    Args:
        robot: the robot.
        joint_noise: half width of the noise on the joint angles, rad; robots that are simulated as their model files
            say have a noise of their own.
        speed_noise: largest initial forward velocity, m/s; robots in space, which have more ways to fall, start with
            at most 0.4 of it.
        like: a tensor with the device and dtype of the states.
    """

    def __init__(self, robot: Robot, joint_noise: float, speed_noise: float, like: torch.Tensor) -> None:
        self._like = like
        self._generator = torch.Generator()
        self._states: _Planar | _Spatial | _Published
        if isinstance(robot, ModelRobot):
            self._states = _Published(robot)
        elif isinstance(robot, SpatialRobot):
            self._states = _Spatial(robot, joint_noise, speed_noise * _SPEED_SHARE)
        else:
            assert isinstance(robot, PlanarRobot)
            self._states = _Planar(robot, joint_noise, speed_noise)
        self._range, self._drawn, self._used = (0, 0), 0, 0
        self._before = self._generator.get_state()

    def seed(self, seed: int) -> None:
        """Restart the random stream."""
        self._generator.manual_seed(integer_seed(seed, "resets"))
        self._drawn = self._used = 0

    def integers(self, high: int, count: int) -> torch.Tensor:
        """Return (count,) random integers in [0, high)."""
        return torch.randint(high, (count,), generator=self._generator).to(self._like.device)

    def take(self, count: int, first: int, last: int) -> Draw:
        """Return the tracks and initial states of the next ``count`` episodes.

        Args:
            count: number of episodes.
            first: index of the first track to pick from.
            last: index after the last track.
        """
        if (first, last) != self._range or count > self._drawn - self._used:
            self._draw(max(count, _AHEAD), first, last)
        rows = slice(self._used, self._used + count)
        self._used += count
        return Draw(*(part[rows] for part in self._pool))

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
        track = torch.randint(first, last, (count,), generator=self._generator).to(self._like.device)
        self._pool = Draw(track, *self._states.draw(count, self._generator, self._like))


class _Uniform:
    """Rows of numbers, each uniform between two bounds and then clamped.

    Args:
        low: (size,) lower bounds, float64.
    """

    def __init__(self, low: torch.Tensor) -> None:
        self.low = low
        self.width, self.least, self.most = (torch.full_like(low, v) for v in (0.0, -torch.inf, torch.inf))

    def spread(self, places: slice, half: float, limits: torch.Tensor) -> None:
        """Put noise of half width ``half`` on some places, clamped to limits (places, 2)."""
        self.low[places] -= half
        self.width[places] = 2 * half
        self.least[places], self.most[places] = limits.unbind(1)

    def draw(self, count: int, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
        """Return (count, size) numbers with the device and dtype of ``like``."""
        uniform = torch.rand(count, len(self.low), dtype=self.low.dtype, generator=generator)
        return torch.addcmul(self.low, uniform, self.width).clamp_(self.least, self.most).to(like)


def _limits(robot: Robot) -> torch.Tensor:
    return torch.tensor([servo.limits for servo in robot.servos], dtype=torch.float64)


class _Planar:
    """Initial states of a planar robot: place, pitch and joints, their velocities, clock."""

    def __init__(self, robot: PlanarRobot, joint_noise: float, speed_noise: float) -> None:
        pose, joints = torch.as_tensor(robot.stand_pose, dtype=torch.float64), len(robot.joints)
        self._size = len(pose)
        self._uniform = _Uniform(torch.cat([pose, torch.zeros(self._size + 1, dtype=torch.float64)]))
        self._uniform.spread(slice(3, 3 + joints), joint_noise, _limits(robot))
        self._uniform.width[self._size], self._uniform.width[-1] = speed_noise, PHASE_SECONDS

    def draw(self, count: int, generator: torch.Generator, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return qpos, qvel, clock and no chances of ``count`` episodes."""
        qpos, qvel, clock = self._uniform.draw(count, generator, like).split([self._size, self._size, 1], dim=1)
        return qpos, qvel, clock[:, 0], clock[:, :0]


class _Spatial:
    """Initial states of a robot in space: heading, joints, forward velocity, clock, chances."""

    def __init__(self, robot: SpatialRobot, joint_noise: float, speed_noise: float) -> None:
        pose = torch.as_tensor(robot.stand_pose, dtype=torch.float64)
        joints = len(robot.servos)
        self._height, self._joints = float(pose[2]) + _LIFT * robot.leg_length, joints
        zero = torch.zeros(1, dtype=torch.float64)
        self._uniform = _Uniform(torch.cat([zero, pose[7:], zero, zero, zero.repeat(CHANCES)]))
        self._uniform.low[0], self._uniform.width[0] = -_YAW_NOISE, 2 * _YAW_NOISE
        self._uniform.spread(slice(1, 1 + joints), joint_noise, _limits(robot))
        self._uniform.width[1 + joints], self._uniform.width[2 + joints] = speed_noise, PHASE_SECONDS
        self._uniform.width[3 + joints :] = 1.0

    def draw(self, count: int, generator: torch.Generator, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return qpos, qvel, clock and chances of ``count`` episodes."""
        drawn = self._uniform.draw(count, generator, like)
        yaw, joints, speed, clock, chance = drawn.split([1, self._joints, 1, 1, CHANCES], dim=1)
        base = torch.zeros_like(drawn[:, :1]).repeat(1, 7)
        base[:, 2], base[:, 3:4], base[:, 6:7] = self._height, torch.cos(yaw / 2), torch.sin(yaw / 2)
        qvel = torch.zeros_like(drawn[:, :1]).repeat(1, 6 + self._joints)
        qvel[:, :1] = speed
        return torch.cat([base, joints], dim=1), qvel, clock[:, 0], chance


class _Published:
    """Initial states of a robot that is simulated as its file says: that of the file, with noise on everything."""

    def __init__(self, robot: ModelRobot) -> None:
        pose = torch.as_tensor(robot.stand_pose.copy(), dtype=torch.float64)
        self._noise, self._normal = robot.reset_noise, robot.reset_normal
        self._places, self._size = len(pose), robot.body.velocities
        self._uniform = _Uniform(torch.cat([pose, torch.zeros(self._size + 1, dtype=torch.float64)]))
        noisy = slice(0, len(pose) + (0 if self._normal else self._size))
        self._uniform.low[noisy] -= self._noise
        self._uniform.width[noisy] = 2 * self._noise
        self._uniform.width[-1] = PHASE_SECONDS

    def draw(self, count: int, generator: torch.Generator, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return qpos, qvel, clock and no chances of ``count`` episodes."""
        drawn = self._uniform.draw(count, generator, like)
        qpos, qvel, clock = drawn.split([self._places, self._size, 1], dim=1)
        if self._normal:
            normal = torch.randn(count, self._size, dtype=torch.float64, generator=generator)
            qvel = self._noise * normal.to(like)
        return qpos.contiguous(), qvel.contiguous(), clock[:, 0], clock[:, :0]
