"""The student's critic, fitted after the last round: to the student's own returns, or to the teachers' values.

It changes the critic's weights only; the actor stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.merge.config import MergeConfig
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.parallel import Processes

_REFRESHES = 5


@torch.no_grad()
def value_targets(
    student: Policy, rollout: LabeledRollout, *, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return lambda-returns of the states from which the student acted to the end of the episode.

    Rewards are scaled by ``1 - gamma``. A fall ends the return; at a time limit it continues with the value of the next
    state. A state counts only if the student acts there and in all later states of its episode.

    Args:
        student: policy whose critic bootstraps.
        rollout: T steps of n simulations.
        gamma: discount factor.
        gae_lambda: lambda of the returns.

    Returns:
        ``rows`` (k,) rows of the rollout's observations, and ``targets`` (k,) their returns in [0, 1].
    """
    steps, n = rollout.rewards.shape
    values = student.value(rollout.observations).view(steps, n)
    following = torch.cat([values[1:], torch.zeros_like(values[:1])])
    following.view(-1)[rollout.final_rows] = student.value(rollout.final_observations)
    ended = rollout.terminated | rollout.truncated
    targets, counts = torch.empty_like(values), torch.empty_like(ended)
    ahead, ahead_counts = following[-1], ended.new_ones(n)
    for t in reversed(range(steps)):
        rest = torch.where(ended[t], following[t], (1 - gae_lambda) * following[t] + gae_lambda * ahead)
        ahead = (1 - gamma) * rollout.rewards[t] + gamma * rest * ~rollout.terminated[t]
        ahead_counts = rollout.student_acted[t] & (ended[t] | ahead_counts)
        targets[t], counts[t] = ahead, ahead_counts
    rows = torch.nonzero(counts.view(-1)).squeeze(1)
    return rows, targets.view(-1)[rows]


def fit_critic(
    student: Policy,
    rollouts: Sequence[LabeledRollout],
    config: MergeConfig,
    generator: torch.Generator,
    group: Processes = Processes(),
) -> None:
    """Fit the critic to lambda-returns of the student's rollouts; the actor does not change.

    The targets bootstrap from the critic itself, so they are computed ``_REFRESHES`` times.

    Args:
        student: the student; its critic is trained in place.
        rollouts: the student's own rollouts, one per skill.
        config: gamma, lambda, number of gradient steps, minibatch and step size.
        generator: source of the minibatches.
        group: processes that share every minibatch.
    """
    optimizer = torch.optim.Adam(student.critic.parameters(), lr=config.learning_rate)
    for _ in range(_REFRESHES):
        parts = [value_targets(student, r, gamma=config.gamma, gae_lambda=config.gae_lambda) for r in rollouts]
        states = torch.cat([r.observations[rows] for r, (rows, _) in zip(rollouts, parts, strict=True)])
        targets = torch.cat([target for _, target in parts])
        _regress(student, optimizer, states, targets, max(1, config.updates // _REFRESHES), config, generator, group)


def fit_critic_to_teachers(
    student: Policy,
    states: StatePool,
    skills: int,
    config: MergeConfig,
    generator: torch.Generator,
    group: Processes = Processes(),
) -> None:
    """Fit the critic to the teachers' values on the labeled states; the actor does not change.

    This costs less than returns of the student and needs no simulator, but the values are those of the teachers'
    behavior (as in sb3-distill's student distillation).

    Args:
        student: the student; its critic is trained in place.
        states: labeled states with the values of each skill's teacher.
        skills: number of skills.
        config: number of gradient steps, minibatch and step size.
        generator: source of the minibatches.
        group: processes that share every minibatch.
    """
    pools = [states.rows(i) for i in range(skills)]
    rows = min(len(pool.teacher_values) for pool in pools)
    how: dict[str, Any] = {"generator": generator, "device": generator.device}
    chosen = [torch.randperm(len(pool.teacher_values), **how)[:rows] for pool in pools]  # the same number per skill
    observations = torch.cat([pool.observations[c] for pool, c in zip(pools, chosen, strict=True)])
    targets = torch.cat([pool.teacher_values[c] for pool, c in zip(pools, chosen, strict=True)])
    optimizer = torch.optim.Adam(student.critic.parameters(), lr=config.learning_rate)
    _regress(student, optimizer, observations, targets, config.updates, config, generator, group)


def _regress(
    student: Policy,
    optimizer: torch.optim.Optimizer,
    states: torch.Tensor,
    targets: torch.Tensor,
    updates: int,
    config: MergeConfig,
    generator: torch.Generator,
    group: Processes = Processes(),
) -> None:
    """Make gradient steps of the critic toward targets (n,) of states (n, features)."""
    trained = list(student.critic.parameters())
    for _ in range(updates):
        rows = torch.randint(len(targets), (config.minibatch,), generator=generator, device=generator.device)
        own = rows[group.share(len(rows))]
        loss = (student.value(states[own]) - targets[own]).square().mean()
        optimizer.zero_grad()
        (loss if group.alone else loss * (len(own) / len(rows))).backward()
        group.sum_gradients(trained)
        optimizer.step()
