"""Profiles of terrains, with the robot standing at the start for scale.

It draws tracks from ``policykd.envs`` and simulates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from policykd.envs.robots import Robot
from policykd.envs.skills import Skill
from policykd.envs.terrains import TrackBank
from policykd.errors import ConfigError
from policykd.report.plots.style import new_figure, save_figure, set_title
from policykd.seeding import integer_seed

BEHIND, AHEAD = 1.5, 12.0
"""Range of a panel, m before and after the start."""
_WIDTH = 9.0  # of the figure, inches
_HEAD_ROOM = 0.7  # above the standing robot's root joint, m
_EARTH = "#7d8a74"
_SIDES = {"right": "#d97840", "left": "#4078bf"}


def draw_gallery(skills: Sequence[Skill], out: Path, *, seed: int = 0) -> Path:
    """Draw one track of every skill to scale: heights and lengths alike.

    Args:
        skills: the skills, one panel each.
        out: ``.png`` or ``.svg``; written atomically.
        seed: seed of the tracks.

    Returns:
        The file.

    Raises:
        ConfigError: without a skill, or for another suffix.
        OutputError: if it cannot be written.
    """
    return save_figure(gallery_figure(skills, seed=seed), out)


def gallery_figure(skills: Sequence[Skill], *, seed: int = 0) -> Figure:
    """Return the figure of :func:`draw_gallery`; arguments as there."""
    if not skills:
        raise ConfigError("no skill was given; name at least one, for example biped/flat")
    profiles = [height_profile(skill, seed) for skill in skills]
    spans = [_span(*profile, skill.robot) for profile, skill in zip(profiles, skills, strict=True)]
    scale = _WIDTH / (BEHIND + AHEAD)
    heights = [(high - low) * scale + 0.45 for low, high in spans]
    figure, panels = new_figure(len(skills), 1, (_WIDTH, sum(heights) + 0.3), heights=heights)
    for axes, skill, (x, z), span in zip(panels, skills, profiles, spans, strict=True):
        axes.fill_between(x, z, span[0] - 1, color=_EARTH, linewidth=0)
        _draw_robot(axes, skill.robot)
        axes.set(xlim=(-BEHIND, AHEAD), ylim=span, aspect="equal")
        axes.yaxis.set_major_locator(MultipleLocator(1.0))
        set_title(axes, skill.id)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("distance from the start, m (heights to the same scale)")
    return figure


def height_profile(skill: Skill, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the ground of one track as a polyline.

    Args:
        skill: the skill.
        seed: seed of the track.

    Returns:
        x and z of its corners, m; a vertical edge has two corners at one x.
    """
    track = TrackBank([skill.terrain], 1, integer_seed(seed, "gallery")).tracks
    edges, left, grade = (t[0].numpy() for t in (track.edges, track.left, track.grade))
    right = left + grade * np.diff(edges)
    x = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    z = np.stack([left, right], axis=1).ravel()
    return x, z


def _span(x: np.ndarray, z: np.ndarray, robot: Robot) -> tuple[float, float]:
    """Return the range of heights, m, with the visible ground, some space below it, and the robot."""
    places = np.linspace(-BEHIND, AHEAD, 2000)
    ground = np.interp(places, x, z)
    return ground.min() - 0.3, max(robot.stand_pose[1] + _HEAD_ROOM, ground.max() + 0.1)


def _draw_robot(axes: Axes, robot: Robot) -> None:
    """Draw the standing robot as thick lines, right limbs in front."""
    x, z, pitch = robot.stand_pose[:3]
    places = {robot.links[0].name: (np.array([x, z]), float(pitch))}
    for link in robot.links:
        if link.parent is not None:
            origin, angle = places[link.parent]
            places[link.name] = (origin + _rotation(angle) @ np.array(link.anchor), angle + link.stand)
        origin, angle = places[link.name]
        ends = np.array([origin + _rotation(angle) @ np.array(end) for end in link.ends])
        side = link.name.split("_")[0]
        _draw_capsule(axes, ends, link.radius, _SIDES.get(side, "#c9bfa8"), order={"right": 4, "left": 2}.get(side, 3))


def _draw_capsule(axes: Axes, ends: np.ndarray, radius: float, color: str, order: int) -> None:
    along = ends[1] - ends[0]
    start = np.arctan2(along[1], along[0])
    half = np.linspace(-np.pi / 2, np.pi / 2, 12)
    caps = [(ends[1], start + half), (ends[0], start + half + np.pi)]
    outline = np.concatenate([end + radius * np.stack([np.cos(a), np.sin(a)], axis=1) for end, a in caps])
    axes.fill(*outline.T, color=color, zorder=order, linewidth=0)


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])
