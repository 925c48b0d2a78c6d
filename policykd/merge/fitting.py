"""Fitting: gradient steps of the student toward the labels.

It draws from the pool and changes the student; it simulates nothing. Students with a memory are fitted along whole
episodes, others to single states.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from policykd.agents.latent_policy import LatentPolicy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.envs.capture import Captured, Recorder, recorder_for
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.data.pool import Batch, StatePool
from policykd.merge.data.sequences import SequencePool
from policykd.merge.kfac import KFAC, is_dense
from policykd.merge.losses import LOSSES, categorical
from policykd.merge.penalties import Penalty, ReplayPenalty
from policykd.parallel import Processes
from policykd.threads import torch_threads, usable_cores


class Fitting:
    """The optimizer of a student.

    It updates a copy; the student that acts is the moving average of the copy's weights, which removes the noise of the
    minibatches.

    Args:
        student: the student; changed in place.
        log_std: (skills, actions) log standard deviation of each skill's teacher.
        config: the merge.
        choices: of discrete actions, the number of choices of each; empty for continuous actions.
        penalties: terms that are added to the loss in every gradient step.
        record: recorder of the gradient step; None for that of the device.
        group: processes that share every minibatch: each has the gradient of its part of the rows, and all make the
            step of the sum. They draw the same minibatches from pools of the same states.
    """

    def __init__(
        self,
        student: Policy,
        log_std: torch.Tensor,
        config: MergeConfig,
        choices: Sequence[int] = (),
        *,
        penalties: Sequence[Penalty] = (),
        record: Recorder | None = None,
        group: Processes = Processes(),
    ) -> None:
        self._penalties, self._group = tuple(penalties), group
        self._threads = min(config.fit_threads, usable_cores()) if group.alone else 1
        self._student, self._log_std, self._config = student, log_std.to(student.log_std.device), config
        self._learner, self._done = copy.deepcopy(student), 0
        self._averaged, self._trained = _trained(student), _trained(self._learner)
        self._optimizer = make_optimizer(self._learner, self._trained, config)
        self._categorical = categorical(config, choices) if choices else None
        # On a device, values are looked at once per round: a look in every step would make the host wait in it.
        self._loss = LOSSES[config.loss].bind(config, check=self._log_std.device.type == "cpu")
        self._rate_name = "learning_rate" if config.optimizer == "adam" else "step_length"
        self._learns_std = LOSSES[config.loss].learns_std and not choices
        device = self._log_std.device
        # Windows of episodes begin where the last ones ended, and K-FAC inverts in some steps only, which the host
        # decides: such steps cannot be recorded.
        fixed = not isinstance(student, RecurrentPolicy) and config.optimizer == "adam"
        self._record = (record or recorder_for(device)) if fixed else None
        # What changes from step to step is in tensors where the step is recorded.
        self._step_size, self._share = torch.zeros((), device=device), torch.zeros((), device=device)
        for options in self._optimizer.param_groups:
            options["capturable"] = device.type == "cuda"

    def fit(
        self,
        states: StatePool,
        counts: Sequence[int],
        round_: int,
        generator: torch.Generator,
        *,
        updates: int | None = None,
    ) -> float:
        """Make one round of gradient steps.

        Args:
            states: labeled states.
            counts: states of every skill in a minibatch.
            round_: number of the round, from 0; sets the step size.
            generator: source of the minibatches.
            updates: number of gradient steps; None for ``config.updates``, as in all rounds before.

        Returns:
            The mean loss.

        Raises:
            ConfigError: if it is not finite.
        """
        config = self._config
        if updates is None:
            self._done, updates = round_ * config.updates, config.updates
        self._learner.normalizer.load_state_dict(self._student.normalizer.state_dict())
        self._set_rate(self._rate(round_))
        total = torch.zeros((), device=self._log_std.device)
        losses = self._losses(states, counts, generator)

        def step() -> None:
            loss = next(losses)
            for penalty in self._penalties:
                whole = penalty(self._learner, self._share_of_loss, generator)
                loss = loss + (whole if self._group.alone or penalty.of_states else whole / self._group.size)
            self._optimizer.zero_grad()
            loss.backward()
            self._group.sum_gradients(self._trained)
            self._step(states, counts, generator)
            self._average()
            total.add_(loss.detach())

        work = Captured(step, self._record, [generator])  # for this round only: the next has more states
        with torch_threads(self._threads):
            for _ in range(updates):
                self._set_share(self._done)
                work()
                self._done += 1
        self._group.sum(total)
        mean = float(total) / updates
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss of round {round_ + 1} is {mean}: labels or weights are not finite; check the teachers, or "
                f"set merge.{self._rate_name} lower than {getattr(config, self._rate_name):g}"
            )
        return mean

    def _step(self, states: StatePool, counts: Sequence[int], generator: torch.Generator) -> None:
        """Move the learner along its gradients."""
        optimizer, learner = self._optimizer, self._learner
        if isinstance(optimizer, KFAC):
            if optimizer.wants_measurement:
                observations = self._weighed(states, counts, generator)
                optimizer.measure(lambda: learner(observations), generator)
        else:
            torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        optimizer.step()

    def _weighed(self, states: StatePool, counts: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        """Return observations of about half a minibatch, of new and replayed skills as the loss weighs them."""
        replays = [penalty for penalty in self._penalties if isinstance(penalty, ReplayPenalty)]
        share = 0.5 / (1.0 + sum(replay.weight for replay in replays))
        parts = [states.sample([math.ceil(count * share) for count in counts], generator)]
        parts += [replay.states.sample([math.ceil(0.5 * n) for n in replay.counts], generator) for replay in replays]
        return torch.cat([part.observations for part in parts])

    def _losses(self, states: StatePool, counts: Sequence[int], generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of one minibatch after the other, without end."""
        if isinstance(self._learner, RecurrentPolicy):
            assert isinstance(states, SequencePool)
            yield from self._losses_along(self._learner, states, counts, generator)
        while True:
            yield self._share_of_loss(self._learner, states.sample(counts, generator))

    def _share_of_loss(self, policy: Policy, batch: Batch) -> torch.Tensor:
        """Return this process's term of the mean loss of a minibatch: the terms of all processes add up to it."""
        if self._group.alone:
            return self._loss_of(policy, batch)
        rows, count = self._group.share(len(batch.labels)), len(batch.labels)
        own = Batch(batch.observations[rows], batch.labels[rows], batch.skill[rows])
        if not len(own.labels):  # fewer rows than processes
            return policy.log_std.sum() * 0.0
        return self._loss_of(policy, own) * (len(own.labels) / count)

    def _losses_along(
        self, learner: RecurrentPolicy, states: SequencePool, counts: Sequence[int], generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """Yield the loss of one window after the other: truncated backpropagation through whole episodes.

        The states of the memory are carried from window to window without gradients, and are zero where an episode
        begins. A minibatch has about as many states as one of a student without a memory.
        """
        steps = self._config.truncation
        lanes = states.lanes([max(1, count // steps) for count in counts], steps, generator)
        if len(lanes) < self._group.size:
            raise ConfigError(
                f"merge.minibatch is {self._config.minibatch}: {len(lanes)} sequences of {steps} states, which cannot "
                f"be shared by {self._group.size} processes; raise it, or start fewer"
            )
        own = self._group.share(len(lanes))  # of the lanes, whose memories this process keeps
        state = self._log_std.new_zeros(own.stop - own.start, learner.state_size)
        with torch.no_grad():
            for window in lanes.spread():
                after = learner.unroll(window.observations[:, own], state)[1]
                state = torch.where(window.runs[own, None], after, state)
        while True:
            window = lanes.next()
            if not window.counts.any():
                continue
            state = torch.where(window.begins[own, None], 0.0, state)
            means, after = learner.unroll(window.observations[:, own], state)
            state = after.detach()
            valid, skill = window.counts[:, own], window.skill[own].expand(steps, -1)
            if self._group.alone:
                yield self._compare(learner, means[valid], window.labels[valid], skill[valid])
            elif valid.any():
                loss = self._compare(learner, means[valid], window.labels[:, own][valid], skill[valid])
                yield loss * (int(valid.sum()) / int(window.counts.sum()))
            else:
                yield means.sum() * 0.0  # no label of this process counts

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the mean loss of the student on labeled states."""
        return float(self._loss_of(self._student, batch))

    @torch.no_grad()
    def loss_along(self, states: SequencePool, skill: int) -> float:
        """Return the mean loss of a student with a memory along all episodes of a skill."""
        assert isinstance(self._student, RecurrentPolicy)
        means = []
        for episode in states.episodes(skill):
            begin = self._log_std.new_zeros(1, self._student.state_size)
            means.append(self._student.unroll(episode.observations[:, None], begin)[0][:, 0])
        labels, counts = (torch.cat([e[i] for e in states.episodes(skill)]) for i in (1, 2))
        index = torch.full((int(counts.sum()),), skill, device=labels.device)
        return float(self._compare(self._student, torch.cat(means)[counts], labels[counts], index))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next round depends on, without the student."""
        return {"learner": self._learner.state_dict(), "optimizer": self._optimizer.state_dict(), "done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self._learner.load_state_dict(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._done = state.get("done", 0)  # earlier versions make the same number of steps in every round
        for options in self._optimizer.param_groups:
            options["capturable"] = self._log_std.device.type == "cuda"

    def begin(self) -> None:
        """Take over a student that was changed before its first gradient step."""
        self._learner.load_state_dict(self._student.state_dict())

    def _rate(self, round_: int) -> float:
        done = min(1.0, round_ / max(1, self._config.rounds - 1))
        return getattr(self._config, self._rate_name) * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)

    def _loss_of(self, policy: Policy, batch: Batch) -> torch.Tensor:
        if isinstance(policy, LatentPolicy) and policy is self._learner:
            mean, error = policy.imitate(batch.observations)
            return self._compare(policy, mean, batch.labels, batch.skill) + error
        return self._compare(policy, policy(batch.observations), batch.labels, batch.skill)

    def _compare(self, policy: Policy, mean: torch.Tensor, labels: torch.Tensor, skill: torch.Tensor) -> torch.Tensor:
        """Return the loss of mean actions (n, actions) of a policy, with labels (n, actions) of skills (n,)."""
        if self._categorical is not None:
            return self._categorical(mean, labels)
        # Executed actions are clamped to [-1, 1]: a mean that is beyond the label's bound needs no correction.
        same = (labels.abs() >= 1) & (mean * labels >= 1)
        student = (torch.where(same, labels, mean), policy.log_std)
        return self._loss(student, (labels, self._log_std[skill]))

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


def make_optimizer(learner: Policy, parameters: Sequence[torch.Tensor], config: MergeConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a merge.

    Raises:
        ConfigError: for K-FAC and a student that is not made of dense layers alone.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    check_optimizer(learner, config)
    return KFAC(learner.actor, lr=config.step_length)


def check_optimizer(student: Policy, config: MergeConfig) -> None:
    """Raise ConfigError for K-FAC and a student that is not made of dense layers alone."""
    if config.optimizer == "kfac" and (student.recurrent or student.latent or not is_dense(student.actor)):
        raise ConfigError(
            "merge.optimizer is kfac, which is for students of dense layers alone; this one has a memory, a latent, an "
            "encoder or a mixture: set merge.optimizer=adam (with --preset fast also passes=24)"
        )


def _trained(policy: Policy) -> list[torch.Tensor]:
    """Return the parameters that imitation trains; the critic is fitted after the last round."""
    return [*policy.acting_parameters(), policy.log_std]
