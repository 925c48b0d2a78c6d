"""A page that plays recorded episodes in the browser: no simulator, no network, no display needed to make it.

It records with ``policykd.report.video``, turns states into points of simple shapes, and hands them to a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from policykd.agents.policy import Policy
from policykd.envs.robots import Robot
from policykd.envs.robots.mjcf import build_model
from policykd.envs.robots.side_view import SIDE_COLORS, robot_geoms, side_of
from policykd.envs.skills import Skill
from policykd.envs.terrains import Maps
from policykd.errors import ConfigError
from policykd.report.pages.html import write_html
from policykd.report.video import Recording, record

_RATE = 25.0
"""Pictures per second of a clip."""
_DIGITS = 3  # of lengths, m
_CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
_MAP_SAMPLES = 800  # heights of a map that a page shows
_MARGIN = 3.0  # of ground before and after the robot's way, in leg lengths


@dataclass(frozen=True)
class Clip:
    """One recorded episode for the player.

    Attributes:
        policy: name of the policy.
        skill: id of the skill.
        data: shapes, points and ground, as JSON.
    """

    policy: str
    skill: str
    data: dict[str, Any]


def record_clip(name: str, policy: Policy, skill: Skill, *, seed: int = 0, seconds: float = 8.0) -> Clip:
    """Record one episode of a policy; equal seeds show different policies on the same track.

    Args:
        name: name of the policy on the page.
        policy: the policy.
        skill: the skill.
        seed: seed of track and initial state.
        seconds: length, s; a fall ends it earlier.

    Raises:
        ContractError: if the skill lacks an observation group that the policy reads.
        ConfigError: for a length outside [0.1, 600] s.
    """
    return Clip(name, skill.id, _data(record(policy, skill, seed=seed, seconds=seconds), skill.robot))


def write_player(clips: Sequence[Clip], out: Path) -> Path:
    """Write the page.

    Args:
        clips: the clips, at least one; those of one skill are played side by side.
        out: the file, written atomically.

    Raises:
        ConfigError: without a clip.
        OutputError: if the file cannot be written.
    """
    if not clips:
        raise ConfigError("no episode was recorded; name at least one policy and one skill")
    skills = list(dict.fromkeys(clip.skill for clip in clips))
    policies = list(dict.fromkeys(clip.policy for clip in clips))
    table = {skill: [{"policy": c.policy, **c.data} for c in clips if c.skill == skill] for skill in skills}
    title = f"{', '.join(policies)} on {len(skills)} skill{'s' if len(skills) > 1 else ''}"
    context = {"title": title, "skills": skills, "clips": table, "tiles": []}
    return write_html(out.parent, "player.html", context, out.name)


def _data(recording: Recording, robot: Robot) -> dict[str, Any]:
    model = build_model(robot, 0)
    data = mujoco.MjData(model)
    every = max(1, round(1 / _RATE / recording.control_dt))
    frames = [_points(model, data, qpos) for qpos in recording.qpos[::every]]
    way = recording.qpos[:, 0]
    margin = _MARGIN * 0.79 * robot.ground_scale
    return {
        "dt": recording.control_dt * every,
        "fell": recording.fell,
        "scale": round(robot.ground_scale, _DIGITS),
        "shapes": _shapes(robot, model, data),
        "frames": [np.round(frame, _DIGITS).ravel().tolist() for frame in frames],
        "ground": _ground(recording, way.min() - margin, way.max() + margin),
    }


def _shapes(robot: Robot, model: mujoco.MjModel, data: mujoco.MjData) -> list[dict[str, Any]]:
    """Return the shapes of all geoms, colored by their side when the robot stands."""
    data.qpos[:] = robot.stand_pose
    mujoco.mj_kinematics(model, data)
    return [_shape(model, i, SIDE_COLORS[side_of(robot, model, data, i)]) for i in robot_geoms(model)]


def _shape(model: mujoco.MjModel, geom: int, color: str) -> dict[str, Any]:
    """Return number of points, radius and color of a geom; a box has 8 corners and no radius."""
    box = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX
    ball = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE
    return {
        "points": 8 if box else 1 if ball else 2,
        "radius": 0.0 if box else round(float(model.geom_size[geom, 0]), _DIGITS),
        "color": color,
    }


def _points(model: mujoco.MjModel, data: mujoco.MjData, qpos: np.ndarray) -> np.ndarray:
    """Return the points of all geoms of a state, (points, 3)."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    found = []
    for i in robot_geoms(model):
        center, turn, size = data.geom_xpos[i], data.geom_xmat[i].reshape(3, 3), model.geom_size[i]
        if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_BOX:
            found.append(center + (_CORNERS * size) @ turn.T)
        elif model.geom_type[i] == mujoco.mjtGeom.mjGEOM_SPHERE:
            found.append(center[None])
        else:
            found.append(center + np.array([[-size[1]], [size[1]]]) * turn[:, 2])
    return np.concatenate(found)


def _ground(recording: Recording, low: float, high: float) -> list[list[float]]:
    """Return the corners x, z of the ground between two places; on a map, those along its middle."""
    track = recording.track
    if isinstance(track, Maps):
        places = torch.linspace(low, high, _MAP_SAMPLES, dtype=track.boxes.dtype)
        pairs = zip(places.tolist(), track.height(places[None])[0].tolist(), strict=True)
        return [[round(x, _DIGITS), round(z, _DIGITS)] for x, z in pairs]
    edges, left, grade = (part[0].cpu().numpy() for part in (track.edges, track.left, track.grade))
    corners = []
    for i in range(len(left)):
        start, end = max(edges[i], low), min(edges[i + 1], high)
        if end > start:
            heights = [left[i] + (x - edges[i]) * grade[i] for x in (start, end)]
            ends = zip((start, end), heights, strict=True)
            corners += [[round(float(x), _DIGITS), round(float(z), _DIGITS)] for x, z in ends]
    return corners
