"""Penalties: terms of the fitted loss that hold a student at its old skills while it is fitted to new ones.

A distillation loss compares student and teacher in labeled states of the skills that are merged
(``policykd.merge.losses``). A penalty is added to it in every gradient step and knows the old skills: by the importance
of the student's weights (online EWC), or by labeled states that were stored (replay).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch

from policykd.agents.policy import Policy
from policykd.errors import ContractError
from policykd.merge.data.pool import Batch, StatePool
from policykd.merge.ewc import Importance, importance_parameters

Compare = Callable[[Policy, Batch], torch.Tensor]
"""From a policy and labeled states to their mean distillation loss ()."""


class Penalty(Protocol):
    """A term of the loss.

    Attributes:
        of_states: whether it is a mean over states, compared by ``compare``; otherwise of the weights alone. Processes
            that share a minibatch add up the former, and count the latter once.
    """

    of_states: ClassVar[bool]

    def __call__(self, learner: Policy, compare: Compare, generator: torch.Generator) -> torch.Tensor:
        """Return the penalty () of the weights that are fitted.

        Args:
            learner: the policy that is fitted; gradients flow to its parameters.
            compare: the merge's distillation loss.
            generator: source of the draws.
        """
        ...


@dataclass(frozen=True)
class EwcPenalty(Penalty):
    """Half of ``weight`` times the squared change of the weights, each weighed by its decayed importance.

    ``weight / 2 * sum_i decay * F_i (theta_i - anchor_i)^2`` (Schwarz et al., Progress & Compress, 2018, eq. 8); the
    quadratic term of elastic weight consolidation (Kirkpatrick et al., 2017) with one anchor for all old skills.

    Attributes:
        importance: anchor and importance of the weights.
        weight: lambda, per nat.
        decay: gamma, the share that the importance of old skills keeps when a skill is added.
    """

    importance: Importance
    weight: float
    decay: float

    of_states: ClassVar[bool] = False

    def __call__(self, learner: Policy, compare: Compare, generator: torch.Generator) -> torch.Tensor:
        """Return the penalty (); ``compare`` and ``generator`` are not used."""
        total = learner.log_std.new_zeros(())
        for name, value in importance_parameters(learner).items():
            change = value - self.importance.anchor[name]
            total = total + (self.importance.fisher[name] * change.square()).sum()
        return 0.5 * self.weight * self.decay * total


@dataclass(frozen=True)
class ReplayPenalty(Penalty):
    """The distillation loss on stored labeled states of old skills.

    Attributes:
        states: the stored states.
        counts: states of every old skill in a minibatch.
        weight: factor of the loss: the number of old skills over that of new ones gives every skill the same weight.
        offset: index of the first old skill in the merge's loss.
    """

    states: StatePool
    counts: Sequence[int]
    weight: float
    offset: int

    of_states: ClassVar[bool] = True

    def __call__(self, learner: Policy, compare: Compare, generator: torch.Generator) -> torch.Tensor:
        """Return the penalty () on a minibatch of stored states."""
        batch = self.states.sample(self.counts, generator)
        return self.weight * compare(learner, replace(batch, skill=batch.skill + self.offset))


def check_matches(importance: Importance, policy: Policy) -> None:
    """Raise ContractError unless the importance belongs to a policy of these weights' names and shapes."""
    expected = {name: tuple(value.shape) for name, value in importance_parameters(policy).items()}
    found = {name: tuple(value.shape) for name, value in importance.fisher.items()}
    if found != expected:
        differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise ContractError(
            f"the importance of weights was measured on another network: {', '.join(differing[:5])} differ; give that "
            f"of the policy of --init, or folders of its stored states without one"
        )
