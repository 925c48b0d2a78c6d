"""The pool of labeled states that the student is fitted to: per skill, the latest rounds, what the teachers know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from policykd.errors import ConfigError
from policykd.merge.rollout import LabeledRollout

Pool = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Labeled states of several skills.

    Attributes:
        observations: (n, features).
        labels: (n, actions).
        skill: (n,) index of the skill.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    skill: torch.Tensor


class Dataset:
    """Labeled states in memory.

    Args:
        skills: number of skills.
        rounds_kept: latest rounds to keep; None for all.
        support: largest distance of a state from its teacher's own states, in standard deviations; labels of states
            beyond it do not count. None takes all.

    Attributes:
        states: labeled states added so far, those outside the support and of forgotten rounds included.
    """

    def __init__(self, skills: int, rounds_kept: int | None = None, support: float | None = None) -> None:
        self._kept, self._support = rounds_kept, support
        self._parts: list[list[Pool]] = [[] for _ in range(skills)]
        self._pools: list[Pool | None] = [None] * skills
        self._added, self._masked = [0] * skills, [0] * skills

    def add(self, skill: int, rollout: LabeledRollout) -> None:
        """Aggregate a round of a skill, and forget the rounds that are too old."""
        part = (rollout.observations, rollout.labels, rollout.teacher_values)
        self._added[skill] += len(rollout.labels)
        if self._support is not None:
            known = rollout.distances <= self._support
            self._masked[skill] += int((~known).sum())
            part = (part[0][known], part[1][known], part[2][known])
        self._parts[skill].append(part)
        if self._kept is not None:
            del self._parts[skill][: -self._kept]
        self._pools[skill] = None

    @property
    def states(self) -> int:
        """Number of labeled states added over all skills."""
        return sum(self._added)

    @property
    def masked(self) -> list[float]:
        """Per skill, the share of labeled states outside the teacher's support."""
        return [masked / max(1, added) for masked, added in zip(self._masked, self._added, strict=True)]

    def pool(self, skill: int) -> Pool:
        """All states of a skill that count: observations (n, features), labels (n, actions), the teacher's values (n,).

        Raises:
            ConfigError: if there is none.
        """
        pool = self._pools[skill]
        if pool is None:
            observations, labels, values = (torch.cat(pieces) for pieces in zip(*self._parts[skill], strict=True))
            pool = self._pools[skill] = (observations, labels, values)
            if not len(labels):
                raise ConfigError(f"merge.support is {self._support}; no state of skill {skill + 1} lies within it")
            if self._kept is None:  # one copy only: the pool becomes the first part of the next round's
                self._parts[skill] = [pool]
        return pool

    def sample(self, counts: Sequence[int], generator: torch.Generator) -> Batch:
        """A minibatch with ``counts[i]`` states of skill i, drawn with replacement."""
        parts = []
        for i, count in enumerate(counts):
            observations, labels, _ = self.pool(i)
            rows = torch.randint(len(labels), (count,), generator=generator, device=generator.device)
            parts.append((observations[rows], labels[rows]))
        skill = torch.arange(len(parts)).repeat_interleave(torch.tensor(counts)).to(generator.device)
        return Batch(torch.cat([o for o, _ in parts]), torch.cat([a for _, a in parts]), skill)
