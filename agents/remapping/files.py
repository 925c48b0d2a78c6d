"""Remapping from one policy file into another, with a comparison of the bodies and of the actions.

It uses the operations on networks, and ``agents.files`` for reading and writing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.agents.remapping.networks import reordered
from policykd.agents.remapping.orders import Orders, find_orders
from policykd.envs.robots import ROBOTS, Robot
from policykd.envs.robots.same_body import check_same_body
from policykd.envs.skill_records import records_of
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, ContractError, OutputError
from policykd.seeding import integer_seed

ROUNDING = 1e-5
"""Largest difference of actions that rounding in single precision explains, in units of the largest action, at least 1:
sums of some hundred products run in another order, in every layer and every step of a memory."""

_OBSERVATIONS, _STEPS = 512, 8  # compared; steps of sequences, for policies with a memory


@dataclass(frozen=True)
class RemapReport:
    """Outcome of a remapping.

    Attributes:
        policy_path: the new policy file.
        orders: places of the robot's features and actions among those of the policy.
        largest_difference: largest difference of an action, by name, over random observations.
        skills: ids of the new policy's skills.
    """

    policy_path: Path
    orders: Orders
    largest_difference: float
    skills: tuple[str, ...]


def remap_file(source: Path, robot: Robot, out: Path, *, seed: int = 0) -> RemapReport:
    """Write a policy for a robot that is the same body with its joints in another order.

    Args:
        source: policy file, or folder of a run.
        robot: the robot with another order; its name may differ.
        out: the new policy file, a folder or a ``.zip``, which must not exist.
        seed: seed of the random observations of the comparison.

    Returns:
        The report; the new policy's only parent is the old one.

    Raises:
        OutputError: if ``out`` exists.
        ConfigError: if the orders are equal, so that there is nothing to remap.
        ContractError: for a robot that is not the same body, or as :func:`find_orders` and :func:`reordered`.
        PolicyFileError: if the source cannot be loaded.
    """
    if out.exists():
        raise OutputError(f"{out} exists; choose another --out")
    policy, manifest = load_policy(source)
    skills = _skills(manifest)
    before = skills[0].robot
    check_same_body(before, robot)
    orders = find_orders(tuple(policy.groups), before, robot)
    if not any(map(orders.changes, policy.groups)) and orders.actions == tuple(range(policy.actions)):
        raise ConfigError(f"{robot.name} has the joints of {before.name} in the same order; there is nothing to remap")
    after = reordered(policy, orders)
    difference = _checked_difference(policy, after, orders, seed)
    there = [replace(skill, robot=robot) for skill in skills]
    save_policy(
        out,
        after,
        robot=robot,
        skills=[skill.id for skill in there],
        skill_records=records_of(there),
        operation="remap",
        parents=[manifest.as_parent(" ".join(manifest.skills))],
        seed=seed,
        metrics={"largest_difference": difference, "observations": _OBSERVATIONS},
        config={"robot": before.name, "joints": [action.joint for action in manifest.actions]},
    )
    return RemapReport(out, orders, difference, tuple(skill.id for skill in there))


def _skills(manifest: Manifest) -> list[Skill]:
    """Return the skills of a policy, without keeping its robot registered: the new one may have the same name.

    Raises:
        ContractError: for a policy without skills, or one that its robot does not fit any more.
    """
    with ROBOTS.scope():
        skills = [manifest.skill(name) for name in manifest.skills]
        for skill in skills:
            found = skill.robot.model_sha256
            if found != manifest.model_sha256:
                raise ContractError(
                    f"the policy was made for another body of {skill.robot.name} than the one registered here, so its "
                    f"order cannot be compared; use the model that it was trained with"
                )
    if not skills:
        raise ContractError("the policy names no skill, so the robot that it was made for is not known")
    return skills


@torch.no_grad()
def _checked_difference(before: Policy, after: Policy, orders: Orders, seed: int) -> float:
    """Return the largest difference of an action, by name.

    Raises:
        ContractError: if it is larger than rounding explains.
    """
    draws = torch.Generator().manual_seed(integer_seed(seed, "remapping"))
    statistics, size = before.normalizer, before.observation_size
    noise = torch.randn(_STEPS, _OBSERVATIONS // _STEPS, size, generator=draws)
    observations = statistics.mean + statistics.var.sqrt().clamp_min(statistics.min_std) * noise
    mine, theirs = _actions(before, observations), _actions(after, observations[..., orders.features])
    difference = float((mine[..., list(orders.actions)] - theirs).abs().max())
    bound = ROUNDING * max(1.0, float(mine.abs().max()))
    if not difference <= bound:
        raise ContractError(f"remapping changed the actions by {difference:.3g}; rounding explains {bound:.3g}")
    return difference


def _actions(policy: Policy, observations: torch.Tensor) -> torch.Tensor:
    """Return mean actions (steps, n, actions) along sequences (steps, n, observation_size)."""
    if isinstance(policy, RecurrentPolicy):
        return policy.unroll(observations, observations.new_zeros(observations.shape[1], policy.state_size))[0]
    return policy(observations.flatten(0, 1)).unflatten(0, observations.shape[:2])
