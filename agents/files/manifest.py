"""Manifest of a policy file: everything about a policy but its weights, as a strict, hashed JSON record.

The hashes show damage and careless edits. They are not a signature: anyone who rewrites a file can rewrite its hashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from policykd import __version__
from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.envs.foreign.skill import DISCRETE, PREFIX, shared_actions
from policykd.envs.robots import Robot, get_robot
from policykd.envs.skill_records import recorded_skill
from policykd.envs.skills import Skill
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError, PolicyFileError
from policykd.plain import Limits, added, as_plain, content_sha256, from_plain, shown, typed, versioned

FORMAT_VERSION = 6
"""Newest format. Format 1 has neither encoders nor features that are counted apart, format 2 no records of skills,
format 3 no hash of the robot's model, format 4 neither gymnasium environments nor memories, format 5 neither mixtures
of experts nor latents nor dense layers in front of a memory; policies without them are still written in the older
formats, so that older versions of policykd can read them."""

MAX_PARAMETERS = 64_000_000
"""Largest network that a policy file may ask for; far above any locomotion policy, far below a machine's memory."""

_LARGEST_GROUP = 1_000_000  # features


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
        name: its name, for people.
        weights_sha256: hash of its weights, which identifies it.
    """

    name: str
    weights_sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a policy but its weights.

    Attributes:
        policykd_version: version that wrote the file.
        robot: name of the robot.
        control_dt: time between two actions, s.
        groups: observation groups that the policy reads, name to number of features, in the order of its input.
        actions: mapping of each action, in order.
        architecture: shape of the networks.
        symmetry: exchange of left and right in the policy's observations and actions, or None.
        min_std: smallest standard deviation of the normalizer.
        clip: largest magnitude of a normalized feature.
        skills: ids of the skills that it was made for.
        operation: operation that made it: ``train``, ``merge``, ``inject``, ...
        parents: policies that it was made from.
        seed: seed of the run that made it.
        metrics: numbers measured when it was made, free JSON.
        config: configuration of the run that made it, free JSON.
        weights_sha256: hash of ``weights.safetensors``, hexadecimal.
        format_version: version of the file format.
        counted_apart: whether the normalizer counts every feature's observations by itself (format 2).
        skill_records: records of the skills whose ids do not say everything, by id (format 3); see
            :mod:`policykd.envs.skill_records`.
        model_sha256: hash of the compiled model of a robot that is not planar (format 4): its name does not
            determine its body.

    Raises:
        ConfigError: for no observation group, encoders that do not fit the groups, or a symmetry next to a memory.
    """

    policykd_version: str
    robot: str
    control_dt: float
    groups: dict[str, int]
    actions: Annotated[tuple[Action, ...], Limits(entries=1000)]
    architecture: Architecture
    symmetry: MirrorSymmetry | None
    min_std: float
    clip: float
    skills: Annotated[tuple[str, ...], Limits(entries=1000)]
    operation: str
    parents: Annotated[tuple[Parent, ...], Limits(entries=10_000)]
    seed: Annotated[int, Limits(0, 2**64)]
    metrics: dict[str, Any]
    config: dict[str, Any]
    weights_sha256: str
    format_version: int = 1
    counted_apart: bool = False
    skill_records: dict[str, Any] | None = added(None)
    model_sha256: str | None = added(None)

    def __post_init__(self) -> None:
        if not self.groups:
            raise ConfigError("groups are empty; a policy reads at least one observation group")
        self.architecture.check_groups(self.groups)
        if self.architecture.memory is not None and self.symmetry is not None:
            raise ConfigError("a policy with a memory has no symmetry")

    @property
    def parameters(self) -> int:
        """Number of values in the weights file: networks, exploration noise and normalizer."""
        size = sum(self.groups.values())
        counts = size if self.counted_apart else 1
        return self.architecture.parameters(self.groups, len(self.actions)) + 2 * size + counts

    @property
    def content_sha256(self) -> str:
        """Hash of all fields."""
        return content_sha256(self._fields())

    def as_parent(self, name: str) -> Parent:
        """Return this policy as the parent of another one."""
        return Parent(name, self.weights_sha256)

    def skill(self, skill_id: str, groups: Sequence[str] | None = None) -> Skill:
        """Return a skill that the policy was made for, with its parameters.

        Args:
            skill_id: one of ``skills``.
            groups: observation groups; None for those that it was made with.

        Raises:
            UnknownNameError: for a robot, terrain, task or group that is not registered here.
        """
        return recorded_skill(skill_id, self.skill_records, groups)

    def targets(self, actions: ArrayLike) -> np.ndarray:
        """Return what a robot's controllers or a gymnasium environment take for actions of the policy.

        Args:
            actions: (actions,) or (n, actions), as :meth:`policykd.agents.policy.Policy.act` returns them.

        Returns:
            Joint targets within their limits, rad, or the environment's own actions, in the shape of ``actions``.

        Raises:
            ContractError: for another number of actions, or a policy of discrete actions.
        """
        if self.robot.startswith(DISCRETE):
            raise ContractError("the policy returns logits of discrete actions; take the largest of each action")
        unit = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        if unit.shape[-1:] != (len(self.actions),):
            raise ContractError(f"actions have the shape {unit.shape}; the policy has {len(self.actions)} actions")
        stand, scale = (np.array([getattr(a, name) for a in self.actions]) for name in ("stand", "scale"))
        low, high = np.array([a.limits for a in self.actions]).T
        return np.clip(stand + scale * unit, low, high)

    def body(self) -> Robot:
        """Return the robot that the policy moves, or the actions of its environments.

        Raises:
            UnknownNameError: for a robot that is not registered here.
        """
        if self.skills and self.skills[0].startswith(PREFIX):
            return shared_actions([self.skill(name) for name in self.skills])
        return get_robot(self.robot)

    def build(self) -> Policy:
        """Return a policy of this shape whose weights have no memory (on torch's ``meta`` device)."""
        with torch.device("meta"):
            policy = make_policy(self.groups, len(self.actions), self.architecture, 0, self.symmetry)
            if self.counted_apart:
                policy.normalizer.count_apart()
        policy.normalizer.min_std, policy.normalizer.clip = self.min_std, self.clip
        return policy

    def to_json(self) -> dict[str, Any]:
        """Return the record as it is written, with its own hash.

        Raises:
            ValueError: for metrics or a configuration that JSON cannot hold.
        """
        return {**self._fields(), "content_sha256": self.content_sha256}

    def _fields(self) -> dict[str, Any]:
        # Groups as pairs: their order is the order of the network's input, and JSON objects do not keep an order.
        content = {**as_plain(self), "groups": [[name, size] for name, size in self.groups.items()]}
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
        given = versioned(content, FORMAT_VERSION, "the manifest", error=PolicyFileError)
        stored_sha256 = given.pop("content_sha256", None)
        if "groups" in given:
            given["groups"] = _groups(given["groups"])
        manifest = from_plain(cls, _upgraded(given), error=_invalid, strict=True)
        if manifest.content_sha256 != stored_sha256:
            raise PolicyFileError("the manifest was altered: its content hash does not fit its content")
        if manifest.parameters > MAX_PARAMETERS:
            raise PolicyFileError(
                f"the manifest asks for {manifest.parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed"
            )
        return manifest


def describe_actions(robot: Robot) -> tuple[Action, ...]:
    """Return the action mapping of a robot, one entry per joint in the order of the actions."""
    return tuple(
        Action(
            joint=servo.joint,
            stand=float(servo.stand),
            scale=float(servo.scale),
            limits=(float(servo.limits[0]), float(servo.limits[1])),
            stiffness=float(servo.stiffness),
            damping=float(servo.damping),
            torque=float(servo.torque),
        )
        for servo in robot.servos
    )


def describe(policy: Policy, robot: Robot, **provenance: Any) -> Manifest:
    """Return the manifest of a policy that moves a robot.

    Args:
        policy: the policy.
        robot: the robot.
        provenance: the remaining fields: skills, operation, parents, seed, ...

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
        format_version=_format_of(policy, robot, counted_apart, provenance.get("skill_records")),
        model_sha256=robot.model_sha256,
        counted_apart=counted_apart,
        **provenance,
    )


def _format_of(policy: Policy, robot: Robot, counted_apart: bool, skill_records: Mapping[str, Any] | None) -> int:
    """Return the oldest format that can hold a policy, so that older versions can read what they understand."""
    shape = policy.architecture
    if shape.mixture is not None or shape.latent is not None or (shape.memory is not None and shape.memory.dense):
        return 6
    extended = shape.mean_clip is not None or shape.memory is not None
    if robot.family == "gymnasium" or extended:
        return 5
    if robot.model_sha256:
        return 4
    if skill_records:
        return 3
    return 2 if counted_apart or policy.architecture.encoders else 1


def _invalid(reason: str) -> PolicyFileError:
    return PolicyFileError(f"the manifest is not valid: {reason}")


def _upgraded(given: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the fields of format 2 that format 1 does not have."""
    if given["format_version"] > 1:
        return given
    architecture = given.get("architecture")
    if not isinstance(architecture, dict):
        raise _invalid(f"architecture is {shown(architecture)}; it must be a mapping of field names to values")
    if "counted_apart" in given or "encoders" in architecture:
        raise _invalid("format 1 has neither counted_apart nor architecture.encoders")
    return {**given, "counted_apart": False, "architecture": {**architecture, "encoders": []}}


def _groups(pairs: Any) -> dict[str, int]:
    """Return the observation groups of a file, which holds (name, size) in the order of the network's input."""
    listed = typed(Annotated[tuple[tuple[str, int], ...], Limits(entries=1000)], pairs, "groups", error=_invalid)
    for name, size in listed:
        if not 1 <= size <= _LARGEST_GROUP:
            raise _invalid(f"the size of group {name} is {size}; it must be in [1, {_LARGEST_GROUP}]")
    groups = dict(listed)
    if len(groups) != len(listed):
        raise _invalid("groups must be given each once")
    return groups
