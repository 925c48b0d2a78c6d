"""Order of features and actions of one robot in another one with the same joints, found by names.

It reads names and knows no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policykd.envs.observations import get_group
from policykd.envs.robots import Robot
from policykd.errors import ContractError


@dataclass(frozen=True)
class Orders:
    """Places of a new robot's features and actions among those of the old one.

    Attributes:
        groups: by observation group, in the order of the policy's input: feature i of the new robot is feature
            ``groups[name][i]`` of the old one.
        actions: action i of the new robot is action ``actions[i]`` of the old one.
    """

    groups: dict[str, tuple[int, ...]]
    actions: tuple[int, ...]

    @property
    def features(self) -> list[int]:
        """Feature i of the new robot's flat observation is feature ``features[i]`` of the old one's."""
        found: list[int] = []
        for order in self.groups.values():
            found += [len(found) + i for i in order]
        return found

    def changes(self, group: str) -> bool:
        """Return whether a group has another order in the new robot; names that are not of a group have not."""
        order = self.groups.get(group, ())
        return order != tuple(range(len(order)))


def find_orders(groups: Sequence[str], before: Robot, after: Robot) -> Orders:
    """Return the orders of observation groups and actions.

    Args:
        groups: names of the observation groups, in the order of the policy's input.
        before: the robot of the policy.
        after: the robot with another order.

    Raises:
        ContractError: naming the joint, foot or body that only one of the robots has, or the observation group whose
            features have no names.
        UnknownNameError: for a group that is not registered here.
    """
    mine, theirs = ([servo.joint for servo in robot.servos] for robot in (before, after))
    actions = _places(mine, theirs, f"the joints of {before.name} and {after.name}")
    return Orders({name: _group_places(name, before, after) for name in groups}, actions)


def _group_places(name: str, before: Robot, after: Robot) -> tuple[int, ...]:
    parts = get_group(name).parts
    if parts is None:
        raise ContractError(
            f"observation group {name} does not say which joint each of its features is about, so it cannot be "
            f"reordered; give its ObservationGroup the field parts"
        )
    return _places(parts(before), parts(after), f"observation group {name} of {before.name} and {after.name}")


def _places(before: Sequence[str], after: Sequence[str], what: str) -> tuple[int, ...]:
    """Return the place in ``before`` of each name in ``after``; of equal names, the first is the first."""
    free: dict[str, list[int]] = {}
    for i, name in enumerate(before):
        free.setdefault(name, []).append(i)
    left = sorted(name for name in {*before, *after} if before.count(name) != after.count(name))
    if left:
        counts = " and ".join(str(names.count(left[0])) for names in (before, after))
        raise ContractError(f"{what} cannot be matched by name: '{left[0]}' stands for {counts} entries")
    return tuple(free[name].pop(0) for name in after)
