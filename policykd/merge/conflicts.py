"""Conflicts: how far teachers of one observation disagree on each other's states.

A student that cannot tell two teachers apart learns the mean of their actions, with which often neither task works.
It simulates and compares; deciding what to do is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from policykd.agents.networks import group_columns
from policykd.envs.foreign.skill import TASK_ID, GymSkill
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
            of the actions.
    """

    first: int
    second: int
    disagreement: float


@torch.no_grad()
def measure_conflicts(teachers: Sequence[Teacher], seed: int = 0) -> list[Conflict]:
    """Return the disagreement of every pair of teachers, largest first.

    Args:
        teachers: one per skill; each is run in its own environment.
        seed: seed of the episodes.
    """
    states = [_visited(teacher, integer_seed(seed, "conflicts", i)) for i, teacher in enumerate(teachers)]
    found = []
    for i, first in enumerate(teachers):
        for j in range(i + 1, len(teachers)):
            shared = torch.cat([states[i], states[j]])
            actions = [_actions(t, shared) for t in (first, teachers[j])]
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
    worst = measure_conflicts(teachers, seed)[0]
    if worst.disagreement > LARGEST:
        first, second = (teachers[i] for i in (worst.first, worst.second))
        raise ContractError(
            f"{first.source} on {first.skill.id} and {second.source} on {second.skill.id} contradict each other: in "
            f"the same states their actions differ by {worst.disagreement:.0%} of the spread of the actions, and a "
            f"student would learn their mean; add --task-id, merge only one of them, or accept it with "
            f"--allow-conflicts"
        )


def _visited(teacher: Teacher, seed: int) -> torch.Tensor:
    """Return states in the order of the teacher's own groups."""
    env = make_env([teacher.skill], _SIMULATIONS, seed=seed)
    columns = teacher.skill.columns
    flat = torch.cat(list(env.reset().values()), dim=-1)
    seen = []
    for _ in range(_STEPS):
        observations = teacher.policy.select(flat, columns)
        seen.append(observations)
        flat = env.step(teacher.policy(observations)).flat
    return torch.cat(seen)


def _actions(teacher: Teacher, observations: torch.Tensor) -> torch.Tensor:
    columns = group_columns(teacher.policy.groups)
    return teacher.policy(teacher.policy.select(observations, columns)).clamp(-1.0, 1.0)
