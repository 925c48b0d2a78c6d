"""Observation groups: named blocks of features; policies declare the groups that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from policykd.envs.kinematics import PlanarState
from policykd.envs.robots import Robot
from policykd.names import Registry

SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS = -0.5, 3.0, 50
"""Sample positions of the terrain scanner relative to the root, m (PLAID)."""

PHASE_BINS = 4

COMMAND = ("speed", "lowering", "together")
"""Features of the group ``command``: the task's command, described so that new gaits can reuse the features.

``speed``: forward velocity, m/s, negative for backward; ``lowering``: distance below its standing height at which the
robot must stay, m; ``together``: 1 if the feet must stay together, 0 if they may alternate. Gaits are identified by
the commanded motion and not by an index, so that a gait can be added without new inputs, and a policy can be commanded
to interpolate between gaits.
"""


@dataclass
class Surroundings:
    """Inputs of observations other than the robot's state.

    Attributes:
        ground: (n,) ground height under the root, m.
        scan: (n, SCAN_POINTS) ground heights at the scanner's samples, m.
        cycles: (n,) cycles of the gait clock.
        command: (n, len(COMMAND)) commands of the tasks.
        height: function from positions (n, q), m, to ground heights (n, q), m.
    """

    ground: torch.Tensor
    scan: torch.Tensor
    cycles: torch.Tensor
    command: torch.Tensor
    height: Callable[[torch.Tensor], torch.Tensor]

    def rows(self, which: slice | torch.Tensor) -> Surroundings:
        """Return the surroundings of the simulations ``which``."""

        def height(x: torch.Tensor) -> torch.Tensor:
            whole = x.new_zeros(len(self.ground), x.shape[1])
            whole[which] = x
            return self.height(whole)[which]

        return Surroundings(self.ground[which], self.scan[which], self.cycles[which], self.command[which], height)


@dataclass(frozen=True)
class ObservationGroup:
    """A named block of features.

    Attributes:
        name: name of the group, as policies declare it.
        size: number of features for a robot.
        units: units of the features, in order.
        compute: function from the robot's state and its surroundings to the features, (n, size).
        mirrored: function from a robot to the permutation of features when left and right are exchanged; None if the
            group has no mirror image.
        forward_position: function from a link's index to the index of the feature with its forward position; None if
            no feature has it.
    """

    name: str
    size: Callable[[Robot], int]
    units: str
    compute: Callable[[PlanarState, Surroundings], torch.Tensor]
    mirrored: Callable[[Robot], list[int]] | None = None
    forward_position: Callable[[Robot, int], int] | None = None


def _proprio(state: PlanarState, around: Surroundings) -> torch.Tensor:
    """Return PLAID's character features: height of the root, then positions and velocities of all bodies."""
    height = (state.root[:, 1] - around.ground)[:, None]
    return torch.cat([height, state.com.flatten(1), state.com_velocity.flatten(1)], dim=1)


def _proprio_mirrored(robot: Robot) -> list[int]:
    links = len(robot.links)
    places = [1 + 2 * i + axis for i in robot.mirrored_links for axis in (0, 1)]
    return [0, *places, *(place + 2 * links for place in places)]


def _terrain(state: PlanarState, around: Surroundings) -> torch.Tensor:
    return around.scan - around.ground[:, None]


def _phase(state: PlanarState, around: Surroundings) -> torch.Tensor:
    phase = around.cycles % 1.0
    bins = (phase * PHASE_BINS).long().clamp_max(PHASE_BINS - 1)
    return torch.cat([phase[:, None], torch.nn.functional.one_hot(bins, PHASE_BINS)], dim=1)


def _command(state: PlanarState, around: Surroundings) -> torch.Tensor:
    return around.command


GROUPS: Registry[ObservationGroup] = Registry("observation group", ObservationGroup)
"""Observation groups by name."""


def register_group(group: ObservationGroup) -> None:
    """Make an observation group available under its name.

    Raises:
        ConfigError: if another group has that name.
    """
    GROUPS.register(group.name, group)


for _group in (
    ObservationGroup(
        "proprio",
        lambda robot: 1 + 4 * len(robot.links),
        "root height above the ground (m); x, z of every body from the root (m); their velocities (m/s)",
        _proprio,
        _proprio_mirrored,
        lambda robot, link: 1 + 2 * link,
    ),
    ObservationGroup("phase", lambda robot: 1 + PHASE_BINS, "gait clock in [0, 1); its quarter, one-hot", _phase),
    ObservationGroup(
        "terrain",
        lambda robot: SCAN_POINTS,
        f"{SCAN_POINTS} ground heights from {SCAN_BEHIND} m to {SCAN_AHEAD} m ahead, from the ground below (m)",
        _terrain,
        lambda robot: list(range(SCAN_POINTS)),
    ),
    ObservationGroup(
        "command",
        lambda robot: len(COMMAND),
        "commanded speed (m/s); lowering below the standing height (m); 1 for feet together, else 0",
        _command,
        lambda robot: list(range(len(COMMAND))),
    ),
):
    register_group(_group)


def group_names() -> list[str]:
    """Return the names of the observation groups."""
    return list(GROUPS)


def get_group(name: str) -> ObservationGroup:
    """Return the observation group with a name.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
    """
    return GROUPS[name]


def group_sizes(names: Sequence[str], robot: Robot) -> dict[str, int]:
    """Return the number of features of each named group, in the given order."""
    return {name: get_group(name).size(robot) for name in names}
