"""Conflicts: how far teachers of one observation disagree on each other's states.

A student that cannot tell two teachers apart learns the mean of their actions, with which often neither task works.
It simulates and compares; deciding what to do is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from policykd.agents.acting import Acting
from policykd.agents.networks import group_columns
from policykd.envs.foreign.skill import TASK_ID, GymSkill, choices_of
from policykd.envs.make import make_env
from policykd.errors import ContractError
from policykd.merge.teachers import Teacher
from policykd.seeding import integer_seed

LARGEST = 0.5
"""Disagreement, as a share of the spread of the actions, from which on a merge is refused."""

_SIMULATIONS, _STEPS = 8, 100


@dataclass(frozen=True)
class Conflict:
    """Two teachers that disagree.

    Attributes:
        first: index of a teacher.
        second: index of the other one.
        disagreement: root mean square of the difference of their actions on states of both, over the standard deviation
            of the actions; of discrete actions, the share that they choose differently.
    """

    first: int
    second: int
    disagreement: float


@torch.no_grad()
def measure_conflicts(teachers: Sequence[Teacher], seed: int = 0) -> list[Conflict]:
    """Return the disagreement of every pair of teachers, largest first.

    Environments with other observation groups are told apart by them, and their teachers do not count as a pair.

    Args:
        teachers: one per skill; each is run in its own environment.
        seed: seed of the episodes.
    """
    visits = [_visited(teacher, integer_seed(seed, "conflicts", i)) for i, teacher in enumerate(teachers)]
    found = []
    for i, first in enumerate(teachers):
        for j in range(i + 1, len(teachers)):
            if first.skill.absent_groups != teachers[j].skill.absent_groups:
                continue
            actions = [torch.cat([_actions(t, visits[k]) for k in (i, j)]) for t in (first, teachers[j])]
            if choices := choices_of(first.skill.robot):
                found.append(Conflict(i, j, _different_choices(actions[0], actions[1], choices)))
                continue
            spread = torch.cat(actions).std(dim=0).square().mean().sqrt().clamp_min(1e-6)
            found.append(Conflict(i, j, float((actions[0] - actions[1]).square().mean().sqrt() / spread)))
    return sorted(found, key=lambda conflict: -conflict.disagreement)


def check_conflicts(teachers: Sequence[Teacher], seed: int = 0) -> None:
    """Raise ContractError if teachers of gymnasium environments contradict each other and nothing tells them apart.

    Skills of our own robots are told apart by terrain and command, and are not checked.
    """
    skills = [t.skill for t in teachers]
    if len(teachers) < 2 or not all(isinstance(s, GymSkill) and TASK_ID not in s.groups for s in skills):
        return
    worst = next(iter(measure_conflicts(teachers, seed)), None)
    if worst is None or worst.disagreement <= LARGEST:
        return
    first, second = (teachers[i] for i in (worst.first, worst.second))
    raise ContractError(
        f"{first.source} on {first.skill.id} and {second.source} on {second.skill.id} contradict each other: in "
        f"the same states their actions differ by {worst.disagreement:.0%} of the spread of the actions, and a "
        f"student would learn their mean; add --task-id, merge only one of them, or accept it with "
        f"--allow-conflicts (in a recipe: task_id: true, or allow_conflicts: true)"
    )


@dataclass(frozen=True)
class _Visit:
    """Episodes of one teacher.

    Attributes:
        states: (steps, n, size) observations in the order of the teacher's own groups.
        ended: (steps, n) whether the episode ended with that step.
    """

    states: torch.Tensor
    ended: torch.Tensor


def _visited(teacher: Teacher, seed: int) -> _Visit:
    env = make_env([teacher.skill], _SIMULATIONS, seed=seed)
    acting, columns = Acting(teacher.policy), teacher.skill.columns
    flat = torch.cat(list(env.reset().values()), dim=-1)
    seen, ended = [], []
    for _ in range(_STEPS):
        observations = teacher.policy.select(flat, columns)
        seen.append(observations)
        step = env.step(acting(observations))
        ended.append(step.terminated | step.truncated)
        acting.forget(ended[-1])
        flat = step.flat
    return _Visit(torch.stack(seen), torch.stack(ended))


def _actions(teacher: Teacher, visit: _Visit) -> torch.Tensor:
    """Return (steps * n, actions) what a teacher does along the episodes of one, with its own memory."""
    acting, columns = Acting(teacher.policy), group_columns(teacher.policy.groups)
    actions = []
    for states, ended in zip(visit.states, visit.ended, strict=True):
        actions.append(acting(teacher.policy.select(states, columns)))
        acting.forget(ended)
    whole = torch.cat(actions)
    return whole if choices_of(teacher.skill.robot) else whole.clamp(-1.0, 1.0)


def _different_choices(first: torch.Tensor, second: torch.Tensor, choices: Sequence[int]) -> float:
    """Return the share of discrete actions that two teachers, given their logits, choose differently."""
    pairs = zip(first.split(list(choices), dim=1), second.split(list(choices), dim=1), strict=True)
    return float(torch.stack([a.argmax(1) != b.argmax(1) for a, b in pairs]).double().mean())
