"""Differences between two policies as their manifests describe them: what a runtime would have to change.

It compares records and loads no weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from policykd.agents.files.manifest import Action, Manifest


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        what: its name, for example ``group scan`` or ``stiffness of FL_hip_joint``.
        first: its value in the first policy, as text; empty if it does not exist there.
        second: its value in the second policy.
    """

    what: str
    first: str
    second: str


def differences(first: Manifest, second: Manifest) -> list[Difference]:
    """Return what a runtime of the first policy must change for the second: inputs, outputs, gains and rate.

    Weights, skills and provenance always differ and are not compared.
    """
    found = list(_plain(first, second))
    found += _groups(first, second)
    found += _actions(first, second)
    return found


def _plain(first: Manifest, second: Manifest) -> Iterator[Difference]:
    values = {
        "robot": "{0.robot}",
        "hash of the robot's model": "{0.model_sha256}",
        "time between actions, s": "{0.control_dt:g}",
        "clip of normalized features": "{0.clip:g}",
        "smallest standard deviation of the normalizer": "{0.min_std:g}",
        "hidden layers": "{0.architecture.hidden}",
        "activation": "{0.architecture.activation}",
        "tanh behind the last layer": "{0.architecture.squash}",
        "encoders": "{0.architecture.encoders}",
    }
    for what, form in values.items():
        mine, theirs = form.format(first), form.format(second)
        if mine != theirs:
            yield Difference(what, mine, theirs)
    symmetric = [str(m.symmetry is not None) for m in (first, second)]
    if symmetric[0] != symmetric[1]:
        yield Difference("exchange of left and right", *symmetric)


def _groups(first: Manifest, second: Manifest) -> Iterator[Difference]:
    for name in dict.fromkeys([*first.groups, *second.groups]):
        sizes = [str(m.groups[name]) + " features" if name in m.groups else "" for m in (first, second)]
        if sizes[0] != sizes[1]:
            yield Difference(f"group {name}", *sizes)
    common = [[name for name in m.groups if name in first.groups and name in second.groups] for m in (first, second)]
    if common[0] != common[1]:
        yield Difference("order of the groups", ", ".join(common[0]), ", ".join(common[1]))


def _actions(first: Manifest, second: Manifest) -> Iterator[Difference]:
    joints = [[action.joint for action in m.actions] for m in (first, second)]
    if joints[0] != joints[1]:
        yield Difference("order of the actions", ", ".join(joints[0]), ", ".join(joints[1]))
    theirs = {action.joint: action for action in second.actions}
    for action in first.actions:
        other = theirs.get(action.joint)
        if other is None:
            continue
        for field in fields(Action):
            mine, its = (getattr(a, field.name) for a in (action, other))
            if mine != its:
                yield Difference(f"{field.name} of {action.joint}", _text(mine), _text(its))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
