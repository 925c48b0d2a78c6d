"""What policies must share so that their weights can be added: shape, inputs, actions; and what the result is for.

It compares manifests and describes skills; it loads no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from policykd.agents.architecture import Architecture
from policykd.agents.files.manifest import Manifest
from policykd.envs.foreign.skill import PREFIX, GymSkill, together
from policykd.envs.skills import Skill, common_contract
from policykd.errors import ContractError


def obstacles(first: Manifest, second: Manifest) -> list[str]:
    """Return why the weights of two policies cannot be added, as texts; empty if they can.

    Weights must have the same meaning: equal networks, observation groups in the same order, symmetry, clip and lower
    bound of the normalizer, and equal actions. Of gymnasium environments only the number of actions matters, because
    policies act in [-1, 1] there. The exploration noise of a new policy is not compared.
    """
    return [f"{what}: {mine} and {theirs}" for what, mine, theirs in _compared(first, second) if mine != theirs]


def check_same(policies: Mapping[str, Manifest]) -> None:
    """Raise unless the weights of all policies can be added.

    Args:
        policies: name to manifest, at least one.

    Raises:
        ContractError: naming two policies and everything that differs.
    """
    (first, manifest), *others = policies.items()
    for name, other in others:
        if found := obstacles(manifest, other):
            raise ContractError(f"the weights of {first} and {name} cannot be added; they differ in {'; '.join(found)}")


_SHAPE: dict[str, Callable[[Manifest], Any]] = {
    **{
        f"architecture.{field.name}": attrgetter(f"architecture.{field.name}")
        for field in fields(Architecture)
        if field.name != "initial_std"
    },
    "observation groups": lambda manifest: list(manifest.groups.items()),
    "number of actions": lambda manifest: len(manifest.actions),
    "lower bound of the normalizer's standard deviations": attrgetter("min_std"),
    "clip of the normalizer": attrgetter("clip"),
}
"""Properties of any policy that must be equal, by their names for people."""

_BODY: dict[str, Callable[[Manifest], Any]] = {
    "robot": attrgetter("robot"),
    "model of the robot": attrgetter("model_sha256"),
    "time between actions": attrgetter("control_dt"),
}
"""Properties of a robot's policy that must be equal."""


def _compared(first: Manifest, second: Manifest) -> Iterator[tuple[str, Any, Any]]:
    for what, get in _SHAPE.items():
        yield what, get(first), get(second)
    if first.symmetry != second.symmetry:
        yield "exchange of left and right", _symmetry(first, "one"), _symmetry(second, "another")
    if all(manifest.skills and manifest.skills[0].startswith(PREFIX) for manifest in (first, second)):
        return
    for what, get in _BODY.items():
        yield what, get(first), get(second)
    if len(first.actions) == len(second.actions):
        for mine, theirs in zip(first.actions, second.actions, strict=True):
            yield f"action {mine.joint}", mine, theirs


def _symmetry(manifest: Manifest, name: str) -> str:
    return "none" if manifest.symmetry is None else name


def skills_of(manifests: Sequence[Manifest]) -> list[Skill]:
    """Return the skills of all policies, each once, with the observation groups that the policies read.

    Raises:
        ContractError: if they cannot share a policy.
        UnknownNameError: for a robot, terrain, task or group that is not registered here.
    """
    groups, owners = tuple(manifests[0].groups), _owners(manifests)
    skills = [m.skill(name, None if name.startswith(PREFIX) else groups) for name, m in owners.items()]
    foreign = [skill for skill in skills if isinstance(skill, GymSkill)]
    if len(foreign) == len(skills):
        skills = list(together(foreign, groups))
    common_contract(skills)
    return skills


def records_of_all(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return the records of the skills of all policies, by id.

    Raises:
        ContractError: if two policies have different skills of one id.
    """
    owners = _owners(manifests)
    for manifest in manifests:
        for name in manifest.skills:
            mine, other = ((m.skill_records or {}).get(name) for m in (manifest, owners[name]))
            if mine != other:
                raise ContractError(f"two of the policies have different skills that are called {name}")
    found = {name: (manifest.skill_records or {}).get(name) for name, manifest in owners.items()}
    return {name: record for name, record in found.items() if record is not None}


def _owners(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return the first policy that has each skill, by id."""
    owners: dict[str, Manifest] = {}
    for manifest in manifests:
        for name in manifest.skills:
            owners.setdefault(name, manifest)
    return owners
