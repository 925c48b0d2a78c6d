"""Value targets for the student's critic from the student's own returns."""

from __future__ import annotations

import torch

from policykd.agents.policy import Policy
from policykd.merge.collect import LabelledRollout


@torch.no_grad()
def value_targets(
    student: Policy, rollout: LabelledRollout, *, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lambda-returns of the states from which the student acted to the end of the episode.

    Rewards are scaled by ``1 - gamma``. A fall ends the return; at a time limit it goes on with the value of the state
    behind it. A state counts only if the student acts there and in all that follows within its episode.

    Args:
        student: whose critic bootstraps.
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
    targets, ours = torch.empty_like(values), torch.empty_like(ended)
    ahead, ahead_is_ours = following[-1], torch.ones(n, dtype=torch.bool)
    for t in reversed(range(steps)):
        rest = torch.where(ended[t], following[t], (1 - gae_lambda) * following[t] + gae_lambda * ahead)
        ahead = (1 - gamma) * rollout.rewards[t] + gamma * rest * ~rollout.terminated[t]
        ahead_is_ours = rollout.student_acted[t] & (ended[t] | ahead_is_ours)
        targets[t], ours[t] = ahead, ahead_is_ours
    rows = torch.nonzero(ours.view(-1)).squeeze(1)
    return rows, targets.view(-1)[rows]
