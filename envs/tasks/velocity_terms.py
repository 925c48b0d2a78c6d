"""Reward terms of velocity tracking, each one small function that serves tensors and compiled loops alike.

A term takes the :class:`Motion` of a robot and a width, the size of the error that it is about. Its code is written
once: with tensors of n simulations it runs in torch on any device; Numba compiles the same function for the numbers of
one simulation. Besides arithmetic it may use only the operations of this module.

To add a term, write the function and name it in :data:`TERMS` and in :func:`evaluate_terms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba.extending import overload


class Motion(NamedTuple):
    """What terms read of a robot after a step: tensors of n simulations, or numbers of one.

    Attributes:
        forward: (n,) velocity where the robot looks, m/s.
        sideways: (n,) velocity to its left, m/s.
        vertical: (n,) velocity upward, m/s.
        roll_rate: (n,) angular velocity about the base's x axis, rad/s.
        pitch_rate: (n,) about its y axis.
        yaw_rate: (n,) about its z axis.
        gravity_x: (n,) gravity's direction along the base's x axis.
        gravity_y: (n,) along its y axis.
        command_forward: (n,) commanded velocity forward, m/s.
        command_sideways: (n,) commanded velocity to the left, m/s.
        command_yaw: (n,) commanded yaw rate, rad/s.
        effort: (n, k) torques as fractions of their limits.
        joint_velocity: (n, k) joint rates, rad/s.
        posture: (n, k) angles from the standing pose of the joints that turn sideways, 0 for the others, rad.
        target_change: (n, k) change of the target angles since the last step, rad.
        air_time: (n, f) time that a foot which landed in this step had been in the air, s.
        landed: (n, f) 1 for the feet that landed in this step, otherwise 0.
        contact: (n, f) 1 for the feet that touch the ground, otherwise 0.
        stance: (n, f) 1 for the feet that the gait wants on the ground, otherwise 0.
        height: (n,) height of the base above the one that the gait wants, leg lengths.
    """

    forward: Any
    sideways: Any
    vertical: Any
    roll_rate: Any
    pitch_rate: Any
    yaw_rate: Any
    gravity_x: Any
    gravity_y: Any
    command_forward: Any
    command_sideways: Any
    command_yaw: Any
    effort: Any
    joint_velocity: Any
    posture: Any
    target_change: Any
    air_time: Any
    landed: Any
    contact: Any
    stance: Any
    height: Any


def exp(x: torch.Tensor) -> torch.Tensor:
    """Return the exponential of (n,)."""
    return torch.exp(x)


def sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    """Return (n,) sums of squares over the last axis of (n, k)."""
    return x.square().sum(-1)


def dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return (n,) sums of products over the last axis of (n, k) and (n, k)."""
    return (x * y).sum(-1)


def share_equal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return (n,) shares of equal entries of (n, f) and (n, f)."""
    return (x == y).to(x).mean(-1)


@overload(exp, strict=False)  # the forms differ in annotations only
def _exp(x: Any) -> Any:
    return lambda x: math.exp(x)


@overload(sum_of_squares, strict=False)  # the forms differ in annotations only
def _sum_of_squares(x: Any) -> Any:
    def loop(x: Any) -> float:
        total = 0.0
        for i in range(len(x)):
            total += x[i] * x[i]
        return total

    return loop


@overload(dot, strict=False)  # the forms differ in annotations only
def _dot(x: Any, y: Any) -> Any:
    def loop(x: Any, y: Any) -> float:
        total = 0.0
        for i in range(len(x)):
            total += x[i] * y[i]
        return total

    return loop


@overload(share_equal, strict=False)  # the forms differ in annotations only
def _share_equal(x: Any, y: Any) -> Any:
    def loop(x: Any, y: Any) -> float:
        equal = 0
        for i in range(len(x)):
            if x[i] == y[i]:
                equal += 1
        return equal / len(x)

    return loop


def velocity(now: Motion, width: Any) -> Any:
    """Return ``exp(-error^2)`` of the horizontal velocity; width in m/s."""
    forward, sideways = now.forward - now.command_forward, now.sideways - now.command_sideways
    return exp(-(forward * forward + sideways * sideways) / (width * width))


def yaw_rate(now: Motion, width: Any) -> Any:
    """Return ``exp(-error^2)`` of the yaw rate; width in rad/s."""
    error = (now.yaw_rate - now.command_yaw) / width
    return exp(-error * error)


def alive(now: Motion, width: Any) -> Any:
    """Return 1 for every step without a fall; the width has no meaning."""
    return now.forward * 0.0 + 1.0


def vertical(now: Motion, width: Any) -> Any:
    """Return the squared vertical velocity; width in m/s."""
    return (now.vertical / width) * (now.vertical / width)


def rocking(now: Motion, width: Any) -> Any:
    """Return the squared rates of roll and pitch; width in rad/s."""
    return (now.roll_rate * now.roll_rate + now.pitch_rate * now.pitch_rate) / (width * width)


def tilt(now: Motion, width: Any) -> Any:
    """Return the squared sine of the base's lean; width as a sine."""
    return (now.gravity_x * now.gravity_x + now.gravity_y * now.gravity_y) / (width * width)


def effort(now: Motion, width: Any) -> Any:
    """Return the sum of squared torques; width as a fraction of the limits."""
    return sum_of_squares(now.effort) / (width * width)


def joint_rate(now: Motion, width: Any) -> Any:
    """Return the sum of squared joint rates; width in rad/s."""
    return sum_of_squares(now.joint_velocity) / (width * width)


def target_change(now: Motion, width: Any) -> Any:
    """Return the sum of squared changes of the target angles; width in rad."""
    return sum_of_squares(now.target_change) / (width * width)


def posture(now: Motion, width: Any) -> Any:
    """Return the sum of squared deviations of the joints that turn sideways; width in rad."""
    return sum_of_squares(now.posture) / (width * width)


def air_time(now: Motion, width: Any) -> Any:
    """Return how much longer than the width the feet that landed had been in the air, s, summed; width in s."""
    return dot(now.air_time - width, now.landed)


def gait(now: Motion, width: Any) -> Any:
    """Return the share of the feet that are on the ground or in the air as the gait wants; the width has no meaning."""
    return share_equal(now.contact, now.stance)


def height(now: Motion, width: Any) -> Any:
    """Return the squared error of the base's height; width in leg lengths."""
    return (now.height / width) * (now.height / width)


TERMS: dict[str, Callable[[Motion, Any], Any]] = {
    term.__name__: term
    for term in (
        velocity, yaw_rate, alive, vertical, rocking, tilt, effort, joint_rate, target_change, posture, air_time, gait,
        height,
    )
}  # fmt: skip
"""Terms by name, in the order of :func:`evaluate_terms`."""

(
    _velocity,
    _yaw_rate,
    _alive,
    _vertical,
    _rocking,
    _tilt,
    _effort,
    _joint_rate,
    _target_change,
    _posture,
    _air_time,
    _gait,
    _height,
) = (numba.njit(term, inline="always") for term in TERMS.values())


@numba.njit(inline="always")  # passing a Motion costs more than most terms
def evaluate_terms(now: Motion, width: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted sum of all terms of one simulation; the compiled form of :func:`sum_terms`."""
    total = 0.0
    total += weight[0] * _velocity(now, width[0])
    total += weight[1] * _yaw_rate(now, width[1])
    total += weight[2] * _alive(now, width[2])
    total += weight[3] * _vertical(now, width[3])
    total += weight[4] * _rocking(now, width[4])
    total += weight[5] * _tilt(now, width[5])
    total += weight[6] * _effort(now, width[6])
    total += weight[7] * _joint_rate(now, width[7])
    total += weight[8] * _target_change(now, width[8])
    total += weight[9] * _posture(now, width[9])
    total += weight[10] * _air_time(now, width[10])
    total += weight[11] * _gait(now, width[11])
    total += weight[12] * _height(now, width[12])
    return total


def sum_terms(now: Motion, terms: dict[str, tuple[float, float]]) -> torch.Tensor:
    """Return (n,) weighted sums of terms.

    Args:
        now: the motion, as tensors.
        terms: weight and width of the terms, by name.
    """
    parts = [weight * TERMS[name](now, width) for name, (weight, width) in terms.items()]
    return torch.stack(parts).sum(0)
