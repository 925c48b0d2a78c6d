"""Draws docs/figures/walking_cycle.png: the reference cycle's joint angles, foot heights, foot speeds and postures.

Run ``python docs/figures/walking_cycle.py`` after a change to the key frames.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from policykd.envs.robots import get_robot
from policykd.envs.tasks.reference_cycle import KEY_FRAMES, SPEED, sole_points, walking_cycle

OUT = Path(__file__).with_suffix(".png")
LABELS = {"thigh": "hip", "shank": "knee", "foot": "ankle", "arm": "shoulder", "forearm": "elbow"}
SAMPLES = 600


def main() -> None:
    """Draw the figure."""
    robot = get_robot("biped")
    phase = np.arange(SAMPLES) / SAMPLES
    qpos, qvel = (part.numpy().copy() for part in walking_cycle(robot).at(torch.from_numpy(phase)))
    qpos[:, 0] = np.concatenate([[0.0], np.cumsum(qvel[:-1, 0]) / SAMPLES])
    points = sole_points(robot, qpos)
    ahead = np.roll(points[:, :, 0], -1, axis=0)
    ahead[-1] += SPEED
    speed = (ahead - points[:, :, 0]) * SAMPLES

    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplot_mosaic(
        [["angles", "heights", "speeds"], ["postures"] * 3],
        figsize=(9, 4.6), height_ratios=(1.3, 1), layout="constrained",
    )  # fmt: skip
    _angles(panels["angles"], phase, qpos, [link.name for link in robot.joints])
    for side, color, columns in (("right", "#d97840", (0, 1)), ("left", "#4078bf", (2, 3))):
        for end, style, column in zip(("heel", "toe"), ("-", "--"), columns, strict=True):
            panels["heights"].plot(phase, points[:, column, 1], style, color=color, label=f"{side} {end}")
            panels["speeds"].plot(phase, speed[:, column], style, color=color)
    panels["heights"].set(title="height of the soles' ends (m)", xlabel="phase", ylim=(-0.01, 0.3))
    panels["heights"].legend(frameon=False, ncols=2)
    panels["speeds"].plot(phase, qvel[:, 0], color="black", linewidth=1)
    panels["speeds"].annotate("root", (0.02, qvel[0, 0] + 0.2))
    panels["speeds"].set(title="their forward speed and the root's (m/s)", xlabel="phase")
    _postures(panels["postures"], qpos)
    figure.savefig(OUT, dpi=110)


def _angles(axes: Axes, phase: np.ndarray, qpos: np.ndarray, names: list[str]) -> None:
    for part, frames in KEY_FRAMES.items():
        column = 3 + names.index(f"right_{part}")
        (line,) = axes.plot(phase, np.degrees(qpos[:, column]), label=LABELS[part])
        axes.plot(np.arange(len(frames)) / len(frames), frames, "o", markersize=3, color=line.get_color())
    axes.set(title="joint angles of the right side (degrees)", xlabel="phase", ylim=(-70, 80))
    axes.legend(frameon=False, ncols=3)


def _postures(axes: Axes, qpos: np.ndarray) -> None:
    """The robot every tenth of a cycle as lines, moved apart."""
    robot = get_robot("biped")
    for k in range(10):
        row = qpos[k * len(qpos) // 10].copy()
        row[0] = 0.8 * k
        frames = {robot.links[0].name: (row[:2], float(row[2]))}
        for i, link in enumerate(robot.joints):
            origin, angle = frames[str(link.parent)]
            frames[link.name] = (origin + _turned(link.anchor, angle), angle + row[3 + i])
        for link in robot.links:
            origin, angle = frames[link.name]
            ends = np.array([origin + _turned(end, angle) for end in link.ends])
            color = {"right": "#d97840", "left": "#4078bf"}.get(link.name.split("_")[0], "#8a8372")
            axes.plot(*ends.T, color=color, linewidth=3, solid_capstyle="round")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set(title="postures every tenth of the cycle", aspect="equal", xticks=[])


def _turned(point: tuple[float, float], angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * point[0] - s * point[1], s * point[0] + c * point[1]])


if __name__ == "__main__":
    main()
