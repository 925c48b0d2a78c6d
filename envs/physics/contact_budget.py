"""Memory for contacts and constraints: measured on the CPU, since mujoco_warp allocates it in advance.

It builds throw-away simulations of its own and touches no environment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import torch

from policykd.envs.physics.mujoco_batch import BatchEngine
from policykd.envs.robots import PlanarRobot
from policykd.envs.terrains.tracks import Tracks
from policykd.errors import check_range

_SIMS, _STEPS = 256, 24
MARGIN = 1.5
"""Allocated number of contacts and constraints, as a multiple of the largest measured one."""

_ROUND = (8, 32)  # sizes are rounded up to multiples: terrains then share kernels, which are compiled per size


@dataclass(frozen=True)
class ContactSizes:
    """Allocated numbers of contacts and constraints in mujoco_warp.

    Attributes:
        contacts: contacts per world, on average over the worlds (``nconmax``).
        rows: largest number of constraint rows of a world (``njmax``).

    Raises:
        ConfigError: for numbers outside [1, 10000].
    """

    contacts: int
    rows: int

    def __post_init__(self) -> None:
        check_range("contacts", self.contacts, 1, 10_000)
        check_range("rows", self.rows, 1, 10_000)


def measure_contacts(
    model: mujoco.MjModel, robot: PlanarRobot, tracks: Tracks, boxes: int, window: float, threads: int | None = None
) -> ContactSizes:
    """Measure the largest numbers of contacts and constraints of robots that tumble over the tracks.

    The robots start at random positions in random poses, some of them inside the ground, and move to random targets.
    The largest numbers of any robot, times :data:`MARGIN`, are allocated for every world.

    Args:
        model: the compiled model.
        robot: the robot in it.
        tracks: the tracks, on the CPU.
        boxes: number of ground boxes.
        window: width of the ground under a robot, m.
        threads: threads of the simulation; None for one per usable core.
    """
    draw = torch.Generator().manual_seed(0)
    like: dict[str, Any] = {"generator": draw, "dtype": torch.float64}
    engine = BatchEngine(model, _SIMS, boxes, robot.decimation, threads)
    counts, most = engine.counts(), [0, 0]
    under = tracks.rows(torch.randint(len(tracks.edges), (_SIMS,), generator=draw))
    low, high = under.edges[:, 0] + window, under.edges[:, -1] - window
    x = low + (high - low) * torch.rand(_SIMS, **like)
    engine.set_ground(torch.arange(_SIMS), *under.boxes_from(x - window / 2, boxes))
    limits = torch.tensor([link.limits for link in robot.joints], dtype=torch.float64)

    def angles() -> torch.Tensor:
        return limits[:, 0] + (limits[:, 1] - limits[:, 0]) * torch.rand(_SIMS, len(limits), **like)

    qpos = torch.zeros(_SIMS, 3 + len(limits), dtype=torch.float64)
    lift = float(robot.stand_pose[1])
    qpos[:, 0], qpos[:, 3:] = x, angles()
    qpos[:, 1] = under.height(x[:, None])[:, 0] + lift * torch.rand(_SIMS, **like)
    qpos[:, 2] = 2 * math.pi * torch.rand(_SIMS, **like)
    engine.reset(torch.arange(_SIMS), qpos, torch.zeros_like(qpos))
    for _ in range(_STEPS):
        engine.step(angles())
        most = [max(before, int(count.max())) for before, count in zip(most, counts, strict=True)]
    return with_margin(most)


def with_margin(most: Sequence[int]) -> ContactSizes:
    """Return the sizes to allocate where ``most`` contacts and constraints of any simulation were measured."""
    contacts, rows = (step * math.ceil(MARGIN * m / step) for m, step in zip(most, _ROUND, strict=True))
    return ContactSizes(max(_ROUND[0], contacts), max(_ROUND[1], rows))
