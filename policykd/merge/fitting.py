"""Fitting: gradient steps of the student toward the labels.

It draws from the pool and changes the student; it simulates nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.envs.capture import Captured, Recorder, recorder_for
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.data.pool import Batch, StatePool
from policykd.merge.losses import LOSSES, categorical


class Fitting:
    """The optimizer of a student.

    It updates a copy; the student that acts is the moving average of the copy's weights, which removes the noise of the
    minibatches.

    Args:
        student: the student; changed in place.
        log_std: (skills, actions) log standard deviation of each skill's teacher.
        config: the merge.
        choices: of discrete actions, the number of choices of each; empty for continuous actions.
        record: recorder of the gradient step; None for that of the device.
    """

    def __init__(
        self,
        student: Policy,
        log_std: torch.Tensor,
        config: MergeConfig,
        choices: Sequence[int] = (),
        *,
        record: Recorder | None = None,
    ) -> None:
        self._student, self._log_std, self._config = student, log_std.to(student.log_std.device), config
        self._learner = copy.deepcopy(student)
        self._averaged, self._trained = _trained(student), _trained(self._learner)
        self._optimizer = torch.optim.Adam(self._trained, lr=config.learning_rate, fused=True)
        self._categorical = categorical(config, choices) if choices else None
        # On a device, values are looked at once per round: a look in every step would make the host wait in it.
        self._loss = LOSSES[config.loss].bind(config, check=self._log_std.device.type == "cpu")
        self._learns_std = LOSSES[config.loss].learns_std and not choices
        device = self._log_std.device
        self._record = record or recorder_for(device)
        # What changes from step to step is in tensors where the step is recorded.
        self._step_size, self._share = torch.zeros((), device=device), torch.zeros((), device=device)
        for group in self._optimizer.param_groups:
            group["capturable"] = device.type == "cuda"

    def fit(self, states: StatePool, counts: Sequence[int], round_: int, generator: torch.Generator) -> float:
        """Make one round of gradient steps.

        Args:
            states: labeled states.
            counts: states of every skill in a minibatch.
            round_: number of the round, from 0; sets the step size.
            generator: source of the minibatches.

        Returns:
            The mean loss.

        Raises:
            ConfigError: if it is not finite.
        """
        config = self._config
        self._learner.normalizer.load_state_dict(self._student.normalizer.state_dict())
        self._set_rate(self._rate(round_))
        total = torch.zeros((), device=self._log_std.device)

        def step() -> None:
            loss = self._loss_of(self._learner, states.sample(counts, generator))
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
            self._optimizer.step()
            self._average()
            total.add_(loss.detach())

        work = Captured(step, self._record, [generator])  # for this round only: the next has more states
        for k in range(config.updates):
            self._set_share(round_ * config.updates + k)
            work()
        mean = float(total) / config.updates
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss of round {round_ + 1} is {mean}: labels or weights are not finite; check the teachers, or "
                f"set merge.learning_rate lower than {config.learning_rate:g}"
            )
        return mean

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the mean loss of the student on labeled states."""
        return float(self._loss_of(self._student, batch))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next round depends on, without the student."""
        return {"learner": self._learner.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self._learner.load_state_dict(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group["capturable"] = self._log_std.device.type == "cuda"

    def _rate(self, round_: int) -> float:
        done = min(1.0, round_ / max(1, self._config.rounds - 1))
        return self._config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)

    def _loss_of(self, policy: Policy, batch: Batch) -> torch.Tensor:
        mean = policy(batch.observations)
        if self._categorical is not None:
            return self._categorical(mean, batch.labels)
        # Executed actions are clamped to [-1, 1]: a mean that is beyond the label's bound needs no correction.
        same = (batch.labels.abs() >= 1) & (mean * batch.labels >= 1)
        student = (torch.where(same, batch.labels, mean), policy.log_std)
        return self._loss(student, (batch.labels, self._log_std[batch.skill]))

    def _set_rate(self, rate: float) -> None:
        """Set the step size: a number, or its tensor where steps are recorded."""
        self._step_size.fill_(rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate if self._record is None else self._step_size

    def _set_share(self, done: int) -> None:
        """Set how much of the optimizer's weights the average takes over after ``done`` steps."""
        keep = min(self._config.averaging, (1 + done) / (10 + done))  # a short average while it learns fast
        self._newest = 1 - keep
        if self._record is not None:
            self._share.fill_(self._newest)

    @torch.no_grad()
    def _average(self) -> None:
        if self._learns_std:
            self._learner.log_std.clamp_(math.log(self._config.min_std), math.log(self._config.max_std))
        if self._record is None:
            torch._foreach_lerp_(self._averaged, self._trained, self._newest)
            return
        change = torch._foreach_sub(self._trained, self._averaged)
        torch._foreach_mul_(change, self._share)
        torch._foreach_add_(self._averaged, change)


def _trained(policy: Policy) -> list[torch.Tensor]:
    """Return the parameters that imitation trains; the critic is fitted after the last round."""
    return [*policy.actor.parameters(), policy.log_std]
