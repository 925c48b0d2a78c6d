"""How an actor runs along rollouts and is run again in updates, with and without a memory.

Rows of a rollout are counted step by step: row ``t * n + i`` is simulation i of n in step t.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from typing_extensions import override

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.agents.training.device_ppo import Rollout

Memories = tuple[torch.Tensor | None, torch.Tensor | None]
"""What the policy and its start remember of the running episodes; None at their beginning."""


class Actor(Protocol):
    """A policy that learns, and the policy that it was at its start."""

    def begin(self) -> None:
        """Begin new episodes in all simulations."""

    def begin_rollout(self) -> None:
        """Begin a rollout; the episodes go on."""

    def act(self, raw: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return mean actions (n, actions) for the next observations, raw and normalized, each (n, size)."""

    def forget(self, ended: torch.Tensor) -> None:
        """Begin new episodes in the simulations whose episode ended, (n,) boolean."""

    def minibatches(self, rollout: Rollout, size: int, draw: torch.Generator) -> Sequence[torch.Tensor]:
        """Return the rows of minibatches of about ``size`` states that hold every row of the rollout once."""

    def means(self, rollout: Rollout, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean actions (m, actions) in the rows of a minibatch (m,), or in all rows, with gradients."""

    def start_means(self, rollout: Rollout) -> torch.Tensor:
        """Return the start's mean actions in all rows."""

    def memories(self) -> Memories:
        """Return what a resumed run needs to go on."""

    def remember(self, memories: Memories) -> None:
        """Continue from :meth:`memories`."""


class PlainActor(Actor):
    """An actor that reads one observation at a time.

    Args:
        policy: the policy, which learns.
        start: the policy as it was at its start.
    """

    def __init__(self, policy: Policy, start: Policy) -> None:
        self._policy, self._start = policy, start

    @override
    def begin(self) -> None: ...

    @override
    def begin_rollout(self) -> None: ...

    @override
    def act(self, raw: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self._policy.actor(features))

    @override
    def forget(self, ended: torch.Tensor) -> None: ...

    @override
    def minibatches(self, rollout: Rollout, size: int, draw: torch.Generator) -> Sequence[torch.Tensor]:
        return torch.randperm(rollout.rewards.numel(), generator=draw).split(size)

    @override
    def means(self, rollout: Rollout, rows: torch.Tensor | None = None) -> torch.Tensor:
        features = rollout.features.flatten(0, 1)
        return torch.as_tensor(self._policy.actor(features if rows is None else features[rows]))

    @override
    def start_means(self, rollout: Rollout) -> torch.Tensor:
        return torch.as_tensor(self._start.actor(rollout.features.flatten(0, 1)))

    @override
    def memories(self) -> Memories:
        return None, None

    @override
    def remember(self, memories: Memories) -> None: ...


class RecurrentActor(Actor):
    """An actor with a memory: gradients go back to the beginning of the rollout, or of the episode if that is later.

    A minibatch holds whole rollouts of some simulations. They are run again from what the policy remembered when the
    rollout began, which is not computed again after its weights changed (Kapturowski et al., 2019, call it the stored
    state).

    Args:
        policy: the policy, which learns.
        start: the policy as it was at its start; it sees the same observations and has a memory of its own.
    """

    def __init__(self, policy: RecurrentPolicy, start: RecurrentPolicy) -> None:
        self._policy, self._acting, self._start_acting = policy, Acting(policy), Acting(start)
        self._first: torch.Tensor | None = None
        self._start_means: list[torch.Tensor] = []

    @override
    def begin(self) -> None:
        self._acting.begin()
        self._start_acting.begin()

    @override
    def begin_rollout(self) -> None:
        self._first, self._start_means = self._acting.state, []

    @override
    def act(self, raw: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        self._start_means.append(self._start_acting(raw))
        return self._acting(raw)

    @override
    def forget(self, ended: torch.Tensor) -> None:
        self._acting.forget(ended)
        self._start_acting.forget(ended)

    @override
    def minibatches(self, rollout: Rollout, size: int, draw: torch.Generator) -> Sequence[torch.Tensor]:
        steps, n = rollout.rewards.shape
        begins = n * torch.arange(steps)[:, None]
        chosen = torch.randperm(n, generator=draw).split(max(1, size // steps))
        return [(begins + simulations).flatten() for simulations in chosen]

    @override
    def means(self, rollout: Rollout, rows: torch.Tensor | None = None) -> torch.Tensor:
        steps, n = rollout.rewards.shape
        which = torch.arange(n) if rows is None else rows[: len(rows) // steps]
        raw, ended = rollout.raw[:, which], rollout.ended[:, which]
        first = self._first
        state = raw.new_zeros(len(which), self._policy.state_size) if first is None else first[which]
        parts = []
        for begin, end in _segments(ended):
            mean, state = self._policy.unroll(raw[begin:end], state)
            parts.append(mean)
            state = torch.where(ended[end - 1][:, None], torch.zeros_like(state), state)
        return torch.cat(parts).flatten(0, 1)

    @override
    def start_means(self, rollout: Rollout) -> torch.Tensor:
        return torch.cat(self._start_means)

    @override
    def memories(self) -> Memories:
        return self._acting.state, self._start_acting.state

    @override
    def remember(self, memories: Memories) -> None:
        self._acting.state, self._start_acting.state = memories


def _segments(ended: torch.Tensor) -> list[tuple[int, int]]:
    """Return the first step of stretches in which no episode ends before the last step, and the step after it.

    Args:
        ended: (T, n) whether the step ended an episode.
    """
    bounds = [0, *(torch.nonzero(ended.any(dim=1)).flatten() + 1).tolist(), len(ended)]
    return [(begin, end) for begin, end in pairwise(bounds) if begin < end]


def actor_of(policy: Policy, start: Policy) -> Actor:
    """Return the actor of a policy; arguments as in :class:`PlainActor`."""
    if isinstance(policy, RecurrentPolicy) and isinstance(start, RecurrentPolicy):
        return RecurrentActor(policy, start)
    return PlainActor(policy, start)
