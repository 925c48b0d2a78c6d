"""Manifest: what a policy file says about its policy, as a strict, hashed JSON record.

The hashes show damage and careless edits. They are no signature: whoever rewrites a file can rewrite its hashes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from policykd import __version__
from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.policy import Policy, check_groups
from policykd.envs.robots import Robot
from policykd.envs.skills import Skill
from policykd.envs.symmetry import MirrorSymmetry, mirror_symmetry
from policykd.errors import ContractError, PolicyFileError, PolicykdError

FORMAT_VERSION = 2
"""Newest format. Format 1 knows neither encoders nor features that are counted apart; policies without them are still
written in it, so that older versions of policykd can read them."""

MAX_PARAMETERS = 64_000_000
"""Largest network that a policy file may ask for; far above any locomotion policy, far below a machine's memory."""


@dataclass(frozen=True)
class Action:
    """How one action becomes a torque: the target angle is ``stand + scale * action``, clamped to the limits.

    Attributes:
        joint: name of the joint.
        stand: target angle at action 0, rad.
        scale: change of the target angle per unit of action, rad.
        limits: joint limits, rad.
        stiffness: position gain, Nm/rad.
        damping: joint damping, Nm s/rad.
        torque: torque limit, Nm.
    """

    joint: str
    stand: float
    scale: float
    limits: tuple[float, float]
    stiffness: float
    damping: float
    torque: float


@dataclass(frozen=True)
class Parent:
    """A policy that another one was made from.

    Attributes:
        name: what it was called, for people.
        weights_sha256: hash of its weights, which identifies it.
    """

    name: str
    weights_sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a policy except its weights.

    Attributes:
        policykd_version: version that wrote the file.
        robot: name of the robot.
        control_dt: time between two actions, s.
        groups: observation groups that the policy reads, name to number of features, in the order of its input.
        actions: mapping of each action, in order.
        architecture: shape of the networks.
        symmetry: what left and right exchange in the policy's observations and actions, or None.
        min_std: smallest standard deviation of the normalizer.
        clip: largest magnitude of a normalized feature.
        skills: ids of the skills that it was made for.
        operation: what made it: ``train``, ``merge``, ``inject``, ...
        parents: policies that it was made from.
        seed: seed of the run that made it.
        metrics: numbers measured when it was made, free JSON.
        config: configuration of the run that made it, free JSON.
        weights_sha256: hash of ``weights.safetensors``, hexadecimal.
        format_version: version of the file format.
        counted_apart: whether the normalizer counts every feature's observations by itself (format 2).
    """

    policykd_version: str
    robot: str
    control_dt: float
    groups: dict[str, int]
    actions: tuple[Action, ...]
    architecture: Architecture
    symmetry: MirrorSymmetry | None
    min_std: float
    clip: float
    skills: tuple[str, ...]
    operation: str
    parents: tuple[Parent, ...]
    seed: int
    metrics: dict[str, Any]
    config: dict[str, Any]
    weights_sha256: str
    format_version: int = 1
    counted_apart: bool = False

    @property
    def parameters(self) -> int:
        """Number of values in the weights file: networks, exploration noise and normalizer."""
        size = sum(self.groups.values())
        counts = size if self.counted_apart else 1
        return self.architecture.parameters(self.groups, len(self.actions)) + 2 * size + counts

    @property
    def content_sha256(self) -> str:
        """Hash of all fields."""
        canonical = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def as_parent(self, name: str) -> Parent:
        """This policy as the parent of another one."""
        return Parent(name, self.weights_sha256)

    def build(self) -> Policy:
        """A policy of this shape without memory behind its weights (on torch's ``meta`` device)."""
        with torch.device("meta"):
            policy = Policy(self.groups, len(self.actions), self.architecture, 0, self.symmetry)
            if self.counted_apart:
                policy.normalizer.count_apart()
        policy.normalizer.min_std, policy.normalizer.clip = self.min_std, self.clip
        return policy

    def to_json(self) -> dict[str, Any]:
        """The record as it is written, with its own hash.

        Raises:
            ValueError: for metrics or a configuration that JSON cannot hold.
        """
        return {**self._fields(), "content_sha256": self.content_sha256}

    def _fields(self) -> dict[str, Any]:
        # Groups as pairs: their order is the order of the network's input, and JSON objects promise none.
        content = {**asdict(self), "groups": [[name, size] for name, size in self.groups.items()]}
        if self.format_version < 2:
            del content["counted_apart"], content["architecture"]["encoders"]
        return json.loads(json.dumps(content, allow_nan=False))

    @classmethod
    def from_json(cls, content: Any) -> Manifest:
        """Read a record that may come from a stranger.

        Args:
            content: parsed JSON.

        Raises:
            PolicyFileError: naming the field that is missing, unknown, of the wrong type or out of range; for a newer
                format; for a hash that does not fit the content.
        """
        if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
            raise PolicyFileError("the manifest is no policykd manifest: it has no format_version")
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise PolicyFileError(
                f"the file has format {version}; this policykd reads up to {FORMAT_VERSION}: update policykd"
            )
        given = dict(content)
        content_sha256 = given.pop("content_sha256", None)
        known = {field.name for field in fields(cls)} - ({"counted_apart"} if version < 2 else set())
        if given.keys() != known:
            odd = ", ".join(sorted(given.keys() ^ known))
            raise PolicyFileError(f"the manifest has missing or unknown fields: {odd}")
        manifest = cls(**_parsed(given))
        if manifest.content_sha256 != content_sha256:
            raise PolicyFileError("the manifest was altered: its content hash does not fit its content")
        if manifest.parameters > MAX_PARAMETERS:
            raise PolicyFileError(
                f"the manifest asks for {manifest.parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed"
            )
        return manifest


def describe_actions(robot: Robot) -> tuple[Action, ...]:
    """The action mapping of a robot, one entry per joint in the order of the actions."""
    return tuple(
        Action(
            joint=link.name,
            stand=float(link.stand),
            scale=float(link.action_scale),
            limits=(float(link.limits[0]), float(link.limits[1])),
            stiffness=float(link.stiffness),
            damping=float(link.damping),
            torque=float(link.torque),
        )
        for link in robot.joints
    )


def describe(policy: Policy, robot: Robot, **provenance: Any) -> Manifest:
    """Manifest of a policy that moves a robot.

    Args:
        policy: the policy.
        robot: the robot.
        provenance: the fields that neither of them knows: skills, operation, parents, seed, ...

    Raises:
        ContractError: if the policy's actions are not the robot's joints.
    """
    actions = describe_actions(robot)
    if policy.actions != len(actions):
        raise ContractError(f"the policy has {policy.actions} actions; {robot.name} has {len(actions)} joints")
    counted_apart = policy.normalizer.count.ndim > 0
    return Manifest(
        policykd_version=__version__,
        robot=robot.name,
        control_dt=float(robot.control_dt),
        groups=dict(policy.groups),
        actions=actions,
        architecture=policy.architecture,
        symmetry=policy.symmetry,
        min_std=float(policy.normalizer.min_std),
        clip=float(policy.normalizer.clip),
        format_version=2 if counted_apart or policy.architecture.encoders else 1,
        counted_apart=counted_apart,
        **provenance,
    )


def check_fits(manifest: Manifest, skill: Skill) -> None:
    """Raise unless a policy can act in a skill with the meaning that its inputs and outputs were made with.

    Args:
        manifest: the policy's manifest.
        skill: the skill; it may offer more observation groups than the policy reads.

    Raises:
        ContractError: naming the robot, the observation group with both sizes, or the joint and property that differ.
    """
    robot = skill.robot
    if manifest.robot != robot.name:
        raise ContractError(f"the policy was made for robot '{manifest.robot}'; skill {skill.id} has '{robot.name}'")
    check_groups(manifest.groups, skill.group_sizes, f"skill {skill.id}")
    if manifest.symmetry not in (None, mirror_symmetry(tuple(manifest.groups), robot)):
        raise ContractError(
            f"the policy was made with other places for the left and the right side of {robot.name} in its observations"
        )
    if not math.isclose(manifest.control_dt, robot.control_dt):
        raise ContractError(
            f"the policy acts every {manifest.control_dt:g} s; {robot.name} in skill {skill.id} every "
            f"{robot.control_dt:g} s"
        )
    offered = describe_actions(robot)
    if len(offered) != len(manifest.actions):
        raise ContractError(f"the policy has {len(manifest.actions)} actions; {robot.name} has {len(offered)} joints")
    for i, (mine, theirs) in enumerate(zip(manifest.actions, offered, strict=True)):
        for name, value in asdict(mine).items():
            other = getattr(theirs, name)
            if value != other:
                raise ContractError(
                    f"action {i} ({mine.joint}): the policy was made with {name} {value}; {robot.name} now has {other}"
                )


def _parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a Manifest from JSON values, every one checked."""
    try:
        version = _integer(given, "format_version", 1, FORMAT_VERSION)
        groups = _groups(given["groups"])
        architecture = _architecture(given["architecture"], version)
        architecture.check_groups(groups)
        return {
            **{name: _text(given, name) for name in ("policykd_version", "robot", "operation", "weights_sha256")},
            **{name: _number(given, name) for name in ("control_dt", "min_std", "clip")},
            "groups": groups,
            "actions": tuple(_action(entry) for entry in _list(given, "actions", most=1000)),
            "architecture": architecture,
            "symmetry": None if given["symmetry"] is None else _symmetry(given["symmetry"]),
            "skills": tuple(_text({"skills": entry}, "skills") for entry in _list(given, "skills", most=1000)),
            "parents": tuple(
                Parent(_text(entry, "name"), _text(entry, "weights_sha256"))
                for entry in _list(given, "parents", 10_000)
            ),
            "seed": _integer(given, "seed", 0, 2**64),
            "metrics": dict(given["metrics"]),
            "config": dict(given["config"]),
            "format_version": version,
            "counted_apart": version >= 2 and _truth(given, "counted_apart"),
        }
    except PolicykdError as error:
        raise PolicyFileError(f"the manifest is not valid: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PolicyFileError(f"the manifest is not valid: {type(error).__name__}: {error}") from None


def _groups(pairs: Any) -> dict[str, int]:
    named = [{"name": name, "size": size} for name, size in _list({"groups": pairs}, "groups", most=1000)]
    groups = {_text(pair, "name"): _integer(pair, "size", 1, 1_000_000) for pair in named}
    if not groups or len(groups) != len(named):
        raise PolicyFileError("groups must be given, each once")
    return groups


def _action(entry: Mapping[str, Any]) -> Action:
    low, high = entry["limits"]
    numbers = {name: _number(entry, name) for name in ("stand", "scale", "stiffness", "damping", "torque")}
    limits = (_number({"limits": low}, "limits"), _number({"limits": high}, "limits"))
    return Action(joint=_text(entry, "joint"), limits=limits, **numbers)


def _architecture(entry: Mapping[str, Any], version: int) -> Architecture:
    known = {field.name for field in fields(Architecture)} - ({"encoders"} if version < 2 else set())
    if entry.keys() != known:
        raise PolicyFileError(f"architecture has the fields {sorted(entry)}")
    return Architecture(
        hidden=_sizes(entry, "hidden"),
        critic_hidden=_sizes(entry, "critic_hidden"),
        activation=_text(entry, "activation"),
        initial_std=_number(entry, "initial_std"),
        squash=_truth(entry, "squash"),
        encoders=tuple(_encoder(encoder) for encoder in _list(entry, "encoders", most=64)) if version >= 2 else (),
    )


def _encoder(entry: Mapping[str, Any]) -> Encoder:
    if entry.keys() != {field.name for field in fields(Encoder)}:
        raise PolicyFileError(f"an encoder has the fields {sorted(entry)}")
    return Encoder(
        group=_text(entry, "group"),
        channels=_sizes(entry, "channels"),
        kernel=_sizes(entry, "kernel"),
        stride=_sizes(entry, "stride"),
        dense=_integer(entry, "dense", 1, 1_000_000),
        join=_text(entry, "join"),
    )


def _sizes(entry: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple(_integer({name: size}, name, 1, 1_000_000) for size in _list(entry, name, most=64))


def _symmetry(entry: Mapping[str, Any]) -> MirrorSymmetry:
    def places(name: str, most: int) -> tuple[int, ...]:
        return tuple(_integer({name: place}, name, 0, 1_000_000) for place in _list(entry, name, most))

    if entry.keys() != {field.name for field in fields(MirrorSymmetry)} or len(entry["lead"]) != 2:
        raise PolicyFileError(f"symmetry has the fields {sorted(entry)}")
    right, left = places("lead", 2)
    return MirrorSymmetry(places("features", 1_000_000), places("actions", 1000), (right, left))


def _text(entry: Mapping[str, Any], name: str) -> str:
    if not isinstance(entry[name], str):
        raise PolicyFileError(f"{name} is {entry[name]!r}; it must be text")
    return entry[name]


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise PolicyFileError(f"{name} is {str(value)[:40]!r}; it must be a finite number")
    return float(value)


def _truth(entry: Mapping[str, Any], name: str) -> bool:
    if not isinstance(entry[name], bool):
        raise PolicyFileError(f"{name} is {entry[name]!r}; it must be true or false")
    return entry[name]


def _integer(entry: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PolicyFileError(f"{name} is {value!r}; it must be a whole number in [{low}, {high}]")
    return value


def _list(entry: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = entry[name]
    if not isinstance(value, list) or len(value) > most:
        raise PolicyFileError(f"{name} must be a list of at most {most} entries")
    return value
