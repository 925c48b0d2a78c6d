"""Profiles of terrains, with the robot standing at the start for scale.

It draws tracks from ``policykd.envs`` and simulates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from policykd.envs.robots import Robot, SpatialRobot
from policykd.envs.skills import Skill
from policykd.envs.terrains import MapBank, TrackBank
from policykd.errors import ConfigError
from policykd.report.plots.style import new_figure, save_figure, set_title
from policykd.seeding import integer_seed

BEHIND, AHEAD = 1.5, 12.0
"""Range of a panel, m before and after the start."""
_WIDTH = 9.0  # of the figure, inches
_EARTH = "#7d8a74"
_SAMPLING = 0.005  # distance between heights of a map, leg lengths


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
    """Return the ground of one track, or along the middle of one map, as a polyline.

    Args:
        skill: the skill.
        seed: seed of the track.

    Returns:
        x and z of its corners, m; a vertical edge has two corners at one x.
    """
    if skill.terrain.varies_across:
        return _middle_of_a_map(skill, integer_seed(seed, "gallery"))
    track = TrackBank([skill.terrain], 1, integer_seed(seed, "gallery"), scale=skill.robot.ground_scale).tracks
    edges, left, grade = (t[0].numpy() for t in (track.edges, track.left, track.grade))
    right = left + grade * np.diff(edges)
    x = np.stack([edges[:-1], edges[1:]], axis=1).ravel()
    z = np.stack([left, right], axis=1).ravel()
    return x, z


def _middle_of_a_map(skill: Skill, seed: int) -> tuple[np.ndarray, np.ndarray]:
    robot = skill.robot
    assert isinstance(robot, SpatialRobot)
    bank = MapBank([skill.terrain], 1, seed, leg=robot.leg_length, reach=robot.reach, seconds=skill.seconds)
    x = torch.arange(-BEHIND, AHEAD, _SAMPLING * robot.leg_length, dtype=torch.float64)
    return x.numpy(), bank.tracks.height(x[None])[0].numpy()


def _span(x: np.ndarray, z: np.ndarray, robot: Robot) -> tuple[float, float]:
    """Return the range of heights, m, with the visible ground, some space below it, and the robot."""
    places = np.linspace(-BEHIND, AHEAD, 2000)
    ground = np.interp(places, x, z)
    return ground.min() - 0.3, max(_top(robot) + 0.1, ground.max() + 0.1)


def _top(robot: Robot) -> float:
    from policykd.envs.robots.side_view import standing_outlines  # needs MuJoCo, which pages without robots do not

    return float(max(part.corners[:, 1].max() for part in standing_outlines(robot)))


def _draw_robot(axes: Axes, robot: Robot) -> None:
    """Draw the standing robot, right limbs in front."""
    from policykd.envs.robots.side_view import SIDE_COLORS, standing_outlines

    for part in standing_outlines(robot):
        order = {"right": 4, "left": 2}.get(part.side, 3)
        axes.fill(*part.corners.T, color=SIDE_COLORS[part.side], zorder=order, linewidth=0)
