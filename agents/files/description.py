"""What a policy reads and what its actions are, for people who run it in a loop of their own.

It reads policy files and loads nothing else: units come from the registered observation groups, usual values from the
policy's normalizer.
"""

from __future__ import annotations

from dataclasses import dataclass

from policykd.agents.files.manifest import Action
from policykd.agents.files.policy_file import LoadedPolicy
from policykd.agents.networks import group_columns
from policykd.envs.observations import GROUPS, get_group, split_history


@dataclass(frozen=True)
class Input:
    """One observation group of a policy.

    Attributes:
        group: its name.
        first: its first column in the flat observation, from 0.
        last: its last column.
        units: what its features are, in order, with units; empty for groups of gymnasium environments and groups that
            are not registered here.
        mean: (size,) usual values: means of the normalizer.
        std: (size,) standard deviations by which the normalizer divides.
    """

    group: str
    first: int
    last: int
    units: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """Inputs and outputs of a policy.

    Attributes:
        robot: name of the robot, or of the actions of gymnasium environments.
        control_dt: time between two actions, s.
        memory: kind of its memory, for example ``gru``; empty without one.
        skills: ids of the skills that it was made for.
        parameters: number of values in its weights file.
        inputs: its observation groups, in the order of its input.
        actions: its actions, in order, each in [-1, 1].
    """

    robot: str
    control_dt: float
    memory: str
    skills: tuple[str, ...]
    parameters: int
    inputs: tuple[Input, ...]
    actions: tuple[Action, ...]


def describe_policy(loaded: LoadedPolicy) -> Description:
    """Return inputs and outputs of a policy."""
    policy, manifest = loaded
    std = policy.normalizer.var.sqrt().clamp_min(policy.normalizer.min_std)
    inputs = tuple(
        Input(
            group=name,
            first=span.start,
            last=span.stop - 1,
            units=_units(name),
            mean=tuple(policy.normalizer.mean[span].tolist()),
            std=tuple(std[span].tolist()),
        )
        for name, span in group_columns(policy.groups).items()
    )
    memory = manifest.architecture.memory
    return Description(
        robot=manifest.robot,
        control_dt=manifest.control_dt,
        memory="" if memory is None else memory.kind,
        skills=manifest.skills,
        parameters=manifest.parameters,
        inputs=inputs,
        actions=manifest.actions,
    )


def _units(group: str) -> str:
    return get_group(group).units if split_history(group)[0] in GROUPS else ""
