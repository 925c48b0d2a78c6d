"""Audit of a policy: what happens to success and actions when one observation group is shuffled, frozen or delayed.

A group whose loss changes nothing is not used; one that a robot cannot measure and whose loss costs success must be
distilled away. It simulates with the mean actions and changes no policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from policykd.agents.episodes import run_actions
from policykd.agents.networks import group_columns
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import check_memoryless
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import check_continuous
from policykd.envs.make import AnyEnv, make_env
from policykd.envs.skills import Skill
from policykd.errors import UnknownNameError, check_range
from policykd.seeding import integer_seed

FAULTS = ("shuffled", "frozen", "delayed")
"""Faults of a group: the values of other simulations, those of the first step, or those of some steps ago."""

PRIVILEGED = ("base_velocity", "proprio", "state")
"""Groups that a robot does not measure with joint encoders, an inertial unit or a scanner."""

UNUSED = 1e-3
"""Change of the actions below which a group counts as unused."""


@dataclass(frozen=True)
class GroupAudit:
    """Effect of one fault of one group.

    Attributes:
        group: the observation group.
        fault: one of :data:`FAULTS`.
        success: success with the fault.
        reward_per_step: reward per step with the fault.
        action_change: root mean square of the change of the actions, in the states of the undisturbed policy.
    """

    group: str
    fault: str
    success: float
    reward_per_step: float
    action_change: float


@dataclass(frozen=True)
class Audit:
    """Audit of a policy on a skill.

    Attributes:
        skill: id of the skill.
        episodes: episodes per fault, on equal tracks.
        delay: steps of the fault ``delayed``.
        success: success without a fault.
        reward_per_step: reward per step without a fault.
        groups: effects of the faults.
        dead: features by group that never changed in the undisturbed episodes.
    """

    skill: str
    episodes: int
    delay: int
    success: float
    reward_per_step: float
    groups: tuple[GroupAudit, ...]
    dead: dict[str, list[int]]

    @property
    def unused(self) -> list[str]:
        """Groups whose faults hardly change the actions."""
        names = dict.fromkeys(entry.group for entry in self.groups)
        return [n for n in names if all(e.action_change < UNUSED for e in self.groups if e.group == n)]


def audit_policy(
    policy: Policy,
    skill: Skill,
    *,
    groups: Sequence[str] = (),
    episodes: int = 64,
    delay: int = 2,
    seed: int = 0,
    threads: int | None = None,
) -> Audit:
    """Audit a policy on a skill.

    Args:
        policy: the policy.
        skill: a skill that offers its groups.
        groups: groups to disturb; empty for all.
        episodes: episodes per fault.
        delay: steps of the fault ``delayed``.
        seed: seed of tracks and shuffling.
        threads: threads of the simulation; None for all.

    Raises:
        UnknownNameError: for a group that the policy does not read.
        ConfigError: for options out of range.
        ContractError: for a recurrent policy, or discrete actions.
    """
    check_memoryless(policy, "policykd audit")
    check_continuous(skill.robot, "policykd audit")
    check_range("episodes", episodes, 2, 100_000)
    check_range("delay", delay, 1, 1000)
    for name in groups:
        if name not in policy.groups:
            raise UnknownNameError("observation group of the policy", name, policy.groups)
    config = EnvConfig(tracks=episodes, ordered=True)
    env = make_env([skill], episodes, seed=integer_seed(seed, "audit"), config=config, threads=threads)
    plain = _Run(policy, env, seed, lambda now, history: now)
    states = torch.stack(plain.seen)
    columns = group_columns(policy.groups)
    found = []
    for name in groups or policy.groups:
        for fault in FAULTS:
            disturb = _disturbance(fault, columns[name], delay, seed)
            run = _Run(policy, env, seed, disturb)
            found.append(GroupAudit(name, fault, run.success, run.reward, _change(policy, states, disturb)))
    still = states.flatten(0, 1).std(dim=0) < 1e-7
    dead = {name: torch.nonzero(still[span]).flatten().tolist() for name, span in columns.items()}
    return Audit(
        skill.id, episodes, delay, plain.success, plain.reward, tuple(found), {n: d for n, d in dead.items() if d}
    )


Disturbance = Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]
"""Function of the observations (n, size) now and of all earlier ones to the observations that the policy reads."""


def _disturbance(fault: str, span: slice, delay: int, seed: int) -> Disturbance:
    generator = torch.Generator().manual_seed(integer_seed(seed, "audit", fault))

    def disturb(now: torch.Tensor, history: list[torch.Tensor]) -> torch.Tensor:
        changed = now.clone()
        if fault == "shuffled":
            order = torch.randperm(len(now), generator=generator).to(now.device)
            changed[:, span] = now[order, span]
        elif fault == "frozen":
            changed[:, span] = (history[0] if history else now)[:, span]
        else:
            changed[:, span] = (history[max(0, len(history) - delay)] if history else now)[:, span]
        return changed

    return disturb


@torch.no_grad()
def _change(policy: Policy, states: torch.Tensor, disturb: Disturbance) -> float:
    """Return the root mean square change of the actions in states (steps, n, size)."""
    history: list[torch.Tensor] = []
    total, count = 0.0, 0
    for now in states:
        difference = policy(disturb(now, history)).clamp(-1, 1) - policy(now).clamp(-1, 1)
        total, count = total + float(difference.square().sum()), count + difference.numel()
        history.append(now)
    return (total / count) ** 0.5


class _Run:
    """One episode per simulation with a fault.

    Attributes:
        success: share of successful episodes.
        reward: mean reward per step of a whole episode.
        seen: undisturbed observations of every step, while any episode ran.
    """

    def __init__(self, policy: Policy, env: AnyEnv, seed: int, disturb: Disturbance) -> None:
        self.seen: list[torch.Tensor] = []
        env.seed(integer_seed(seed, "audit"))

        def act(flat: torch.Tensor) -> torch.Tensor:
            now = policy.select(flat, env.skill.columns)
            actions = policy(disturb(now, self.seen))
            self.seen.append(now.clone())
            return actions

        outcomes = run_actions(act, env)
        self.success = float(outcomes.success.double().mean())
        self.reward = float(outcomes.reward_per_step.mean())
