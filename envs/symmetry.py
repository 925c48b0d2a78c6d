"""Left and right: which features and actions change places when a planar robot's two sides are exchanged.

Seen from the side, a planar robot with its legs exchanged is the same robot. A policy that knows this needs to learn
one stride, not two: see :class:`policykd.agents.policy.Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policykd.envs.observations import get_group
from policykd.envs.robots import Robot
from policykd.errors import ConfigError


@dataclass(frozen=True)
class MirrorSymmetry:
    """The exchange of left and right for flat observations and actions.

    Attributes:
        features: feature i of the exchanged observation is feature ``features[i]`` of the observation.
        actions: likewise for actions.
        lead: two features that the exchange swaps: the forward positions of the right and the left foot.

    Raises:
        ConfigError: if a permutation is none, is not its own inverse, or does not swap the lead features.
    """

    features: tuple[int, ...]
    actions: tuple[int, ...]
    lead: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("features", "actions"):
            order = getattr(self, name)
            if sorted(order) != list(range(len(order))) or any(order[order[i]] != i for i in range(len(order))):
                raise ConfigError(f"symmetry.{name} is no permutation that is its own inverse")
        right, left = self.lead
        if right == left or not (0 <= right < len(self.features) and self.features[right] == left):
            raise ConfigError(f"symmetry.lead is {self.lead}; the exchange of left and right must swap its features")


def mirror_symmetry(groups: Sequence[str], robot: Robot) -> MirrorSymmetry | None:
    """The symmetry of a robot as seen through observation groups.

    Args:
        groups: names of the groups, in the order of the flat observation.
        robot: the robot.

    Returns:
        The symmetry; None if the robot has no pair of legs, a group has no mirror image (a gait clock), or no group
        shows where the feet are.
    """
    feet = robot.foot_pair
    features: list[int] = []
    lead = None
    for name in groups:
        group = get_group(name)
        if group.mirrored is None or feet is None:
            return None
        if group.forward_position is not None:
            lead = tuple(len(features) + group.forward_position(robot, i) for i in feet)
        features += [len(features) + i for i in group.mirrored(robot)]
    if lead is None:
        return None
    joints = [robot.links.index(link) for link in robot.joints]
    actions = tuple(joints.index(robot.mirrored_links[i]) for i in joints)
    return MirrorSymmetry(tuple(features), actions, (lead[0], lead[1]))
