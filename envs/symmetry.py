"""Left-right symmetry: the permutations of features and actions when a planar robot's two sides are exchanged.

Seen from the side, a planar robot with its legs exchanged is the same robot. A policy that uses this symmetry needs to
learn one stride, not two: see :class:`policykd.agents.policy.Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policykd.envs.observations import get_group
from policykd.envs.robots import Robot
from policykd.errors import ConfigError


@dataclass(frozen=True)
class MirrorSymmetry:
    """Exchange of left and right for flat observations and actions.

    Attributes:
        features: feature i of the exchanged observation is feature ``features[i]`` of the observation.
        actions: action i of the exchanged robot is action ``actions[i]``.
        lead: two features that the exchange swaps: the forward positions of the right and the left foot.

    Raises:
        ConfigError: if a field is not a self-inverse permutation, or does not swap the lead features.
    """

    features: tuple[int, ...]
    actions: tuple[int, ...]
    lead: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("features", "actions"):
            order = getattr(self, name)
            if sorted(order) != list(range(len(order))) or any(order[order[i]] != i for i in range(len(order))):
                raise ConfigError(f"symmetry.{name} must be a self-inverse permutation")
        right, left = self.lead
        if right == left or not (0 <= right < len(self.features) and self.features[right] == left):
            raise ConfigError(f"symmetry.lead is {self.lead}; symmetry.features must swap these two features")


def mirror_symmetry(groups: Sequence[str], robot: Robot) -> MirrorSymmetry | None:
    """Return the left-right symmetry of a robot's observations and actions.

    Args:
        groups: names of the groups, in the order of the flat observation.
        robot: the robot.

    Returns:
        The symmetry; None if the robot has no pair of legs, a group has no mirror image (a gait clock), or no group
        has the positions of the feet.
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
