"""Strips: a profile in any direction, as a map of parallel strips."""

from __future__ import annotations

import numpy as np

from policykd.envs.terrains.map import HALF_WIDTH, Map
from policykd.envs.terrains.profiles import Profile


def strips(profile: Profile, yaw: np.ndarray) -> Map:
    """Return maps whose height changes along one direction only.

    The profile begins where its first strip cannot reach back to x < 0 anywhere on the map.

    Args:
        profile: the profile, leg lengths.
        yaw: (count,) direction of the profile, rad, less than a quarter turn from the x axis.
    """
    cosine, column = np.cos(yaw)[:, None], np.zeros((len(yaw), 1))
    back = HALF_WIDTH * np.abs(np.tan(yaw))[:, None]
    ends = np.cumsum(np.concatenate([column, profile.width], axis=1), axis=1)
    right = np.cumsum(profile.rise + profile.jump, axis=1)
    middle, grade = right - profile.rise / 2, np.zeros_like(profile.rise)
    np.divide(profile.rise, profile.width, out=grade, where=profile.width > 0)
    pitch = np.arctan(grade)
    width = 2 * HALF_WIDTH / cosine + profile.width * np.abs(np.tan(yaw))[:, None]
    floor = np.minimum(0.0, np.minimum(right, right - profile.rise).min(axis=1))
    before = 2 * back * cosine
    start = Map.of(floor, back - before / 2 / cosine, 0.0, 0.0, before, 3 * HALF_WIDTH / cosine, yaw[:, None])
    x = back + (ends[:, 1:] + ends[:, :-1]) / 2 / cosine
    return start.plus(Map.of(floor, x, 0.0, middle, profile.width / np.cos(pitch), width, yaw[:, None], pitch))
