"""Left-right symmetry: how features and actions change when a robot's two sides are exchanged.

Seen from the side, a planar robot with its legs exchanged is the same robot; a robot in space is reflected, so that
what points or turns to a side changes its sign. A policy that uses this symmetry needs to learn one stride, not two:
see :class:`policykd.agents.policy.Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policykd.envs.observations import get_group
from policykd.envs.robots import PlanarRobot, Robot, SpatialRobot
from policykd.errors import ConfigError
from policykd.plain import added


@dataclass(frozen=True)
class MirrorSymmetry:
    """Exchange of left and right for flat observations and actions.

    Attributes:
        features: feature i of the exchanged observation is feature ``features[i]`` of the observation, times
            ``feature_signs[i]``.
        actions: action i of the exchanged robot is action ``actions[i]``, times ``action_signs[i]``.
        lead: two features that the exchange swaps without a sign; the right side leads while the first is the larger:
            the forward positions of the right and the left foot, for example.
        feature_signs: signs of the features, 1 or -1; empty for no change of any sign.
        action_signs: signs of the actions, in the same way.

    Raises:
        ConfigError: if applying an exchange twice is not the identity, or the lead features are not swapped.
    """

    features: tuple[int, ...]
    actions: tuple[int, ...]
    lead: tuple[int, int]
    feature_signs: tuple[float, ...] = added(())
    action_signs: tuple[float, ...] = added(())

    def __post_init__(self) -> None:
        for name, signs in (("features", self.feature_signs), ("actions", self.action_signs)):
            order = getattr(self, name)
            if sorted(order) != list(range(len(order))) or any(order[order[i]] != i for i in range(len(order))):
                raise ConfigError(f"symmetry.{name} must be a self-inverse permutation")
            fitting = not signs or (len(signs) == len(order) and all(abs(sign) == 1.0 for sign in signs))
            if not fitting or any(signs[i] != signs[order[i]] for i in range(len(signs))):
                raise ConfigError(f"symmetry.{name[:-1]}_signs must be 1 or -1, equal for {name} that are swapped")
        right, left = self.lead
        if right == left or not (0 <= right < len(self.features) and self.features[right] == left):
            raise ConfigError(f"symmetry.lead is {self.lead}; symmetry.features must swap these two features")
        if self.feature_signs and self.feature_signs[right] != 1.0:
            raise ConfigError(f"symmetry.lead is {self.lead}; these features must not change their sign")

    def exchanges_like(self, other: MirrorSymmetry | None) -> bool:
        """Return whether another one exchanges the same features and actions; the features that lead may differ.

        A policy brings its own lead: that of another pair of joints names the other of two mirrored states.
        """
        return other is not None and all(
            getattr(self, name) == getattr(other, name)
            for name in ("features", "actions", "feature_signs", "action_signs")
        )


def mirror_symmetry(groups: Sequence[str], robot: Robot) -> MirrorSymmetry | None:
    """Return the left-right symmetry of a robot's observations and actions.

    Args:
        groups: names of the groups, in the order of the flat observation.
        robot: the robot.

    Returns:
        The symmetry; None if the robot is not symmetric, a group has no mirror image (a gait clock), no group tells
        which side leads, or the environment is gymnasium's, whose columns have no known meaning.
    """
    if not isinstance(robot, SpatialRobot | PlanarRobot):
        return None
    features: list[int] = []
    signs: list[float] = []
    lead: tuple[int, int] | None = None
    for name in groups:
        group = get_group(name)
        if group.mirrored is None:
            return None
        found = None if group.lead is None else group.lead(robot)
        if found is not None:
            lead = (len(features) + found[0], len(features) + found[1])
        image = group.mirrored(robot)
        features += [len(features) + i for i in image.order]
        signs += image.signs
    if lead is None:
        return None
    actions, action_signs = _mirrored_actions(robot)
    return MirrorSymmetry(tuple(features), actions, lead, _unless_plain(signs), _unless_plain(action_signs))


def _mirrored_actions(robot: Robot) -> tuple[tuple[int, ...], list[float]]:
    if isinstance(robot, SpatialRobot):
        return tuple(robot.body.mirrored.tolist()), robot.body.mirror_sign.tolist()
    assert isinstance(robot, PlanarRobot)
    joints = [robot.links.index(link) for link in robot.joints]
    return tuple(joints.index(robot.mirrored_links[i]) for i in joints), [1.0] * len(joints)


def _unless_plain(signs: list[float]) -> tuple[float, ...]:
    """Return the signs; none if all are 1."""
    return () if all(sign == 1.0 for sign in signs) else tuple(signs)
