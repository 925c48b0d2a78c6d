"""The reference walking cycle of the task ``imitate``: key frames of joint angles, and the motion made from them.

The key frames are our own: typical sagittal angles of normal human walking within the ranges published by Winter
(Biomechanics and Motor Control of Human Movement), Perry and Burnfield (Gait Analysis: Normal and Pathological
Function) and, for the arms, Murray, Sepic and Barnard (Patterns of sagittal rotation of the upper limbs in walking,
1967), at the fast end of hip extension. They were adjusted by a few degrees so that the stance feet of this biped,
which has short feet and a pelvis that does not rotate, do not slip. They do not reproduce any table or recording of
those works.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from policykd.envs.kinematics import PlanarState, planar_state
from policykd.envs.resets import PHASE_SECONDS
from policykd.envs.robots import PlanarRobot
from policykd.errors import ContractError

SPEED = 1.54
"""Mean forward velocity of the cycle, m/s; one cycle takes 1 s."""

PITCH = -3.0
"""Lean of the trunk, degrees; negative is forward."""

KEY_FRAMES: dict[str, tuple[float, ...]] = {
    "thigh": (32, 29, 17, 3, -10, -19, -13, 7, 27, 38),
    "shank": (-6, -18, -17, -12, -10, -16, -38, -64, -53, -15),
    "foot": (1, -6, 3, 9, 12, 8, -20, -7, 2, 3),
    "arm": (-20, -18, -12, -3, 7, 13, 12, 4, -6, -15),
    "forearm": (17, 16, 18, 22, 28, 33, 32, 27, 22, 18),
}
"""Joint angles of the right side at every tenth of the cycle, degrees, starting at right heel strike: hip flexion, knee
flexion (negative in the robot's convention), ankle dorsiflexion, shoulder flexion, elbow flexion. The left side follows
half a cycle later."""

_SAMPLES = 240  # a multiple of 60: the phases of 20 starts and of steps at 30 Hz are among them
_HARMONICS = 2  # of the step frequency, in the root's height and speed
_SOFTNESS = 0.003  # height scale over which a point of a foot stops counting as the standing point, m


class WalkingCycle:
    """Motion of a robot through one cycle.

    The root's height puts the lowest point of the feet on the ground, and its velocity keeps this point at rest; both
    are smoothed to two harmonics. The mean velocity is ``SPEED``.

    Args:
        robot: a robot with the joints of ``KEY_FRAMES`` on both sides.

    Attributes:
        natural_speed: mean velocity at which the lowest points of the feet are at rest, m/s.

    Raises:
        ContractError: if the robot lacks a joint.
    """

    def __init__(self, robot: PlanarRobot) -> None:
        names = [link.name for link in robot.joints]
        missing = [f"{side}_{n}" for side in ("right", "left") for n in KEY_FRAMES if f"{side}_{n}" not in names]
        if missing:
            raise ContractError(f"robot {robot.name} cannot walk the reference cycle: it has no joint {missing[0]}")
        self._robot = robot
        phase = np.arange(_SAMPLES) / _SAMPLES
        qpos, qvel = (np.zeros((_SAMPLES, 3 + len(names))) for _ in range(2))
        qpos[:, 2] = np.radians(PITCH)
        for i, name in enumerate(names):
            side, _, part = name.partition("_")
            if part in KEY_FRAMES:
                curve = _periodic(np.radians(KEY_FRAMES[part]))
                shifted = phase + (0.5 if side == "left" else 0.0)
                qpos[:, 3 + i] = curve(shifted % 1.0)
                qvel[:, 3 + i] = curve(shifted % 1.0, 1) / PHASE_SECONDS
        self.natural_speed = _add_root(robot, qpos, qvel)
        self._motion = torch.from_numpy(np.concatenate([qpos, qvel], axis=1))
        self._copies = {(self._motion.dtype, self._motion.device): self._motion}

    def at(self, phase: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return generalized positions (n, nq), with x = 0, and velocities (n, nv) at phases (n,) of the cycle."""
        motion = self._motion_like(phase)
        place = (phase % 1.0) * _SAMPLES
        before = place.floor().long() % _SAMPLES
        state = torch.lerp(motion[before], motion[(before + 1) % _SAMPLES], (place - place.floor())[:, None])
        qpos, qvel = state.split(motion.shape[1] // 2, dim=1)
        return qpos, qvel

    def _motion_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the motion with the device and dtype of a tensor; each copy is made once."""
        key = (tensor.dtype, tensor.device)
        if key not in self._copies:
            self._copies[key] = self._motion.to(tensor)
        return self._copies[key]

    def state(self, phase: torch.Tensor) -> PlanarState:
        """Return the state at phases (n,) of the cycle, with effort 0."""
        return planar_state(self._robot, *self.at(phase))


@cache
def walking_cycle(robot: PlanarRobot) -> WalkingCycle:
    """Return the cycle of a robot; equal robots share one."""
    return WalkingCycle(robot)


def sole_points(robot: PlanarRobot, qpos: np.ndarray) -> np.ndarray:
    """Return the lowest points of both ends of the right and left foot, (n, 4, 2) x and z in the world, m.

    Args:
        robot: the robot.
        qpos: (n, nq) generalized positions.
    """
    frames = {robot.links[0].name: (qpos[:, :2], qpos[:, 2])}
    for i, link in enumerate(robot.joints):
        assert link.parent is not None
        origin, angle = frames[link.parent]
        frames[link.name] = (origin + _turned(link.anchor, angle), angle + qpos[:, 3 + i])
    feet = [robot.links[i] for i in robot.foot_pair or ()]
    ends = [frames[f.name][0] + _turned(end, frames[f.name][1]) - (0.0, f.radius) for f in feet for end in f.ends]
    return np.stack(ends, axis=1)


def _add_root(robot: PlanarRobot, qpos: np.ndarray, qvel: np.ndarray) -> float:
    """Fill in the root's height and velocities; return the mean velocity at which the feet do not slip, m/s."""
    points = sole_points(robot, qpos)
    height = points[:, :, 1]
    lowest = height.min(axis=1, keepdims=True)
    stands = np.exp((lowest - height) / _SOFTNESS)
    backwards = (np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0))[:, :, 0] * (_SAMPLES / 2 / PHASE_SECONDS)
    speed = -(stands * backwards).sum(axis=1) / stands.sum(axis=1)
    smooth = _smoothed(-lowest[:, 0])
    qpos[:, 1] = smooth
    qvel[:, 0] = _smoothed(speed) - speed.mean() + SPEED
    qvel[:, 1] = (np.roll(smooth, -1) - np.roll(smooth, 1)) * (_SAMPLES / 2 / PHASE_SECONDS)
    return float(speed.mean())


def _periodic(frames: np.ndarray) -> CubicSpline:
    return CubicSpline(np.linspace(0.0, 1.0, len(frames) + 1), np.append(frames, frames[0]), bc_type="periodic")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean and the first harmonics of the step frequency; a cycle has two steps."""
    spectrum = np.fft.rfft(values)
    kept = np.zeros_like(spectrum)
    kept[: 2 * _HARMONICS + 1 : 2] = spectrum[: 2 * _HARMONICS + 1 : 2]
    return np.fft.irfft(kept, len(values))


def _turned(point: tuple[float, float], angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * point[0] - s * point[1], s * point[0] + c * point[1]], axis=1)
