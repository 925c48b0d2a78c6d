"""Whether a policy can act in a skill: robot, observation groups, symmetry, control step and actions are compared.

It reads manifests and skills, and no files.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from policykd.agents.files.manifest import Manifest, describe_actions
from policykd.agents.policy import check_groups
from policykd.envs.foreign.skill import any_bounds
from policykd.envs.robots import Robot
from policykd.envs.skills import Skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ContractError


def check_fits(manifest: Manifest, skill: Skill) -> None:
    """Raise unless a policy can act in a skill with the meaning that its inputs and outputs were made with.

    Args:
        manifest: the policy's manifest.
        skill: the skill; it may offer more observation groups than the policy reads.

    Raises:
        ContractError: naming what differs, with both values; and the cure, if the joints are the same in another order.
    """
    try:
        _check_fits(manifest, skill)
    except ContractError as error:
        if not _is_permuted(manifest, skill.robot):
            raise
        raise ContractError(
            f"{error}. {skill.robot.name} has the same joints in another order: reorder the policy's inputs and "
            f"outputs by name (policykd remap POLICY --robot ROBOT --out NEW)"
        ) from None


def _is_permuted(manifest: Manifest, robot: Robot) -> bool:
    """Return whether a robot has the joints of a policy's actions in another order."""
    mine, theirs = [action.joint for action in manifest.actions], [servo.joint for servo in robot.servos]
    return mine != theirs and sorted(mine) == sorted(theirs)


def _check_fits(manifest: Manifest, skill: Skill) -> None:
    robot = skill.robot
    spans = robot.family == "gymnasium" and manifest.robot == any_bounds(robot.num_actions).name
    if manifest.robot != robot.name and not spans:
        raise ContractError(f"the policy was made for robot '{manifest.robot}'; skill {skill.id} has '{robot.name}'")
    check_groups(manifest.groups, skill.group_sizes, f"skill {skill.id}")
    _check_model(manifest, robot)
    symmetry = manifest.symmetry
    if symmetry is not None and not symmetry.exchanges_like(mirror_symmetry(tuple(manifest.groups), robot)):
        raise ContractError(
            f"the policy expects a different left/right layout of {robot.name}'s observations; train it again or use "
            f"the version of policykd that wrote it"
        )
    if robot.family != "gymnasium" and not math.isclose(manifest.control_dt, robot.control_dt):
        raise ContractError(
            f"the policy acts every {manifest.control_dt:g} s; {robot.name} in skill {skill.id} every "
            f"{robot.control_dt:g} s"
        )
    offered = describe_actions(robot)
    if len(offered) != len(manifest.actions):
        raise ContractError(f"the policy has {len(manifest.actions)} actions; {robot.name} has {len(offered)} joints")
    for i, (mine, theirs) in enumerate([] if spans else zip(manifest.actions, offered, strict=True)):
        for name, value in asdict(mine).items():
            other = getattr(theirs, name)
            if value != other:
                raise ContractError(
                    f"action {i} ({mine.joint}): the policy was made with {name} {value}; {robot.name} now has {other}"
                )


def _check_model(manifest: Manifest, robot: Robot) -> None:
    if manifest.model_sha256 != robot.model_sha256:
        made_for, found = str(manifest.model_sha256)[:12], str(robot.model_sha256)[:12]
        raise ContractError(
            f"the policy was made for another body of {robot.name}: the hash of its compiled model is {made_for}, now "
            f"{found}; use the model that it was trained with, or train it again"
        )
