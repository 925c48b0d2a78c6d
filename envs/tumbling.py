"""Memory for contacts of robots in space: measured on robots that tumble over their ground, on the CPU.

:mod:`policykd.envs.physics.contact_budget` does the same for planar robots, and holds what both share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from policykd.envs.physics import BatchEngine
from policykd.envs.physics.contact_budget import ContactSizes, with_margin
from policykd.envs.robots import SpatialRobot

if TYPE_CHECKING:
    from policykd.envs.batched_env import BatchedEnv

SIMS = 256
"""Simulations of the measurement."""

_STEPS, _SPAN = 24, 8.0


def measure_tumbling(env: BatchedEnv) -> ContactSizes:
    """Measure the largest numbers of contacts and constraints of robots in random poses on the ground.

    They start within 8 m of their start, some of them inside the ground, and move to random targets. The largest
    numbers of any robot, with a margin, are allocated for every world.

    Args:
        env: simulations of the robot and its ground on the CPU, to be thrown away.
    """
    robot, engine, n = env.robot, env.engine, env.num_envs
    assert isinstance(robot, SpatialRobot)
    assert isinstance(engine, BatchEngine)
    draw = torch.Generator().manual_seed(0)
    like: dict[str, Any] = {"generator": draw, "dtype": torch.float64}
    env.reset()
    limits = torch.tensor([servo.limits for servo in robot.body.servos], dtype=torch.float64)
    qpos = engine.field("qpos").clone()
    qpos[:, :2] += _SPAN * (2 * torch.rand(n, 2, **like) - 1) * torch.tensor([1.0, 0.25])
    lift = float(robot.body.stand_pose[2]) * torch.rand(n, **like)
    qpos[:, 2] = env.ground_height(qpos[:, :1], qpos[:, 1:2])[:, 0] + lift
    qpos[:, 3:7] = torch.nn.functional.normalize(torch.randn(n, 4, **like), dim=1)
    qpos[:, 7:] = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * torch.rand(n, len(limits), **like)
    engine.reset(torch.arange(n), qpos, torch.zeros_like(engine.field("qvel")))
    counts, most = engine.counts(), [0, 0]
    for _ in range(_STEPS):
        env.step((2 * torch.rand(n, robot.num_actions, generator=draw) - 1), restart=False)
        most = [max(before, int(count.max())) for before, count in zip(most, counts, strict=True)]
    return with_margin(most)
