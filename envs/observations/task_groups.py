"""Observation groups that tell the task, for all robots: gait clock and command.

They read the state and never write it.
"""

from __future__ import annotations

from typing import Any

import torch

from policykd.envs.observations.group import Mirrored, ObservationGroup, Surroundings
from policykd.envs.robots import Robot

PHASE_BINS = 4

COMMAND = ("speed", "lowering", "together")
"""Features of the group ``command`` of planar robots: the task's command, described so that new gaits can reuse them.

``speed``: forward velocity, m/s, negative for backward; ``lowering``: distance below its standing height at which the
robot must stay, m; ``together``: 1 if the feet must stay together, 0 if they may alternate. Gaits are identified by
the commanded motion and not by an index, so that a gait can be added without new inputs, and a policy can be commanded
to interpolate between gaits. For robots in space the three features are the commanded velocity forward and to the left,
m/s, and the commanded yaw rate, rad/s.
"""


def _phase(state: Any, around: Surroundings) -> torch.Tensor:
    phase = around.cycles % 1.0
    bins = (phase * PHASE_BINS).long().clamp_max(PHASE_BINS - 1)
    quarter = bins[:, None] == torch.arange(PHASE_BINS, device=bins.device)  # one_hot looks at the values on the host
    return torch.cat([phase[:, None], quarter], dim=1)


def _command(state: Any, around: Surroundings) -> torch.Tensor:
    return around.command


def _command_mirrored(robot: Robot) -> Mirrored:
    return Mirrored([0, 1, 2], [1.0, -1.0, -1.0] if robot.spatial else [1.0, 1.0, 1.0])


TASK_GROUPS = (
    ObservationGroup(
        "phase",
        lambda robot: 1 + PHASE_BINS,
        "gait clock in [0, 1); its quarter, one-hot",
        _phase,
        parts=lambda robot: [""] * (1 + PHASE_BINS),
    ),
    ObservationGroup(
        "command",
        lambda robot: len(COMMAND),
        "in a plane: commanded speed (m/s); lowering below the standing height (m); 1 for feet together, else 0; "
        "in space: commanded velocity forward and to the left (m/s); yaw rate (rad/s)",
        _command,
        _command_mirrored,
        parts=lambda robot: [""] * len(COMMAND),
    ),
)
"""Groups of all robots."""
