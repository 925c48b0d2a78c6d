"""Fitting: gradient steps of the student toward the labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.merge.config import MergeConfig
from policykd.merge.dataset import Batch, Dataset
from policykd.merge.losses import LOSSES, Imitation

_TEACH_SPREAD = ("forward_kl", "reverse_kl", "jsd", "nll")


class Fitting:
    """The optimizer of a student.

    It moves a twin; the student that acts is the moving average of the twin's weights, which leaves the noise of the
    minibatches behind.

    Args:
        student: the student; changed in place.
        spread: (skills, actions) log standard deviation of each skill's teacher.
        config: the merge.
    """

    def __init__(self, student: Policy, spread: torch.Tensor, config: MergeConfig) -> None:
        self._student, self._spread, self._config = student, spread.to(student.log_std.device), config
        self._learner = copy.deepcopy(student)
        self._averaged, self._trained = _trained(student), _trained(self._learner)
        self._optimizer = torch.optim.Adam(self._trained, lr=config.learning_rate, fused=True)
        self._loss = LOSSES[config.loss]

    def fit(self, dataset: Dataset, counts: Sequence[int], round_: int, generator: torch.Generator) -> float:
        """One round of gradient steps.

        Args:
            dataset: labeled states.
            counts: states of every skill in a minibatch.
            round_: number of the round, from 0; sets the step size.
            generator: source of the minibatches.

        Returns:
            The mean loss.
        """
        config = self._config
        self._learner.normalizer.load_state_dict(self._student.normalizer.state_dict())
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(round_)
        total = torch.zeros((), device=self._spread.device)
        for k in range(config.updates):
            loss = self._loss_of(self._learner, dataset.sample(counts, generator))
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
            self._optimizer.step()
            self._average(round_ * config.updates + k)
            total += loss.detach()
        return float(total) / config.updates

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Mean loss of the student on labeled states."""
        return float(self._loss_of(self._student, batch))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on beside the student."""
        return {"learner": self._learner.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._learner.load_state_dict(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _rate(self, round_: int) -> float:
        done = min(1.0, round_ / max(1, self._config.rounds - 1))
        return self._config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)

    def _loss_of(self, policy: Policy, batch: Batch) -> torch.Tensor:
        mean = policy(batch.observations)
        # Beyond the bound of what is executed, how far beyond makes no difference: nothing is to be learned there.
        same = (batch.labels.abs() >= 1) & (mean * batch.labels >= 1)
        student = (torch.where(same, batch.labels, mean), policy.log_std)
        return self._loss(Imitation(student, (batch.labels, self._spread[batch.skill])), self._config)

    @torch.no_grad()
    def _average(self, done: int) -> None:
        if self._config.loss in _TEACH_SPREAD:
            self._learner.log_std.clamp_(math.log(self._config.min_std), math.log(self._config.max_std))
        keep = min(self._config.averaging, (1 + done) / (10 + done))  # short memory while it learns fast
        torch._foreach_lerp_(self._averaged, self._trained, 1 - keep)


def _trained(policy: Policy) -> list[torch.Tensor]:
    """What imitation trains: the critic follows when the actor is final."""
    return [*policy.actor.parameters(), policy.log_std]
