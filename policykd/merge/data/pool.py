"""The pool of labeled states that the student is fitted to: per skill, the latest rounds, within the support.

It stores and draws, and knows nothing of losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from policykd.errors import ConfigError
from policykd.merge.data.rollout import LabeledRollout


class Rows(NamedTuple):
    """Labeled states of one skill.

    Attributes:
        observations: (n, features).
        labels: (n, actions).
        teacher_values: (n,) the teacher's values.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    teacher_values: torch.Tensor


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


class StatePool:
    """Labeled states in memory.

    Args:
        skills: number of skills.
        rounds_kept: latest rounds to keep; None for all.
        support: largest distance of a state from its teacher's training states, in standard deviations; labels of
            states beyond it do not count. None takes all.
    """

    def __init__(self, skills: int, rounds_kept: int | None = None, support: float | None = None) -> None:
        self._kept, self._support = rounds_kept, support
        self._parts: list[list[Rows]] = [[] for _ in range(skills)]
        self._joined: list[Rows | None] = [None] * skills
        self._added, self._masked = [0] * skills, [0] * skills
        self._index: tuple[tuple[tuple[int, ...], torch.device], torch.Tensor] | None = None

    def add(self, skill: int, rollout: LabeledRollout) -> None:
        """Add a round of a skill, and drop the rounds that are too old."""
        part = Rows(rollout.observations, rollout.labels, rollout.teacher_values)
        self._added[skill] += len(rollout.labels)
        if self._support is not None:
            within = rollout.distances <= self._support
            self._masked[skill] += int((~within).sum())
            part = Rows(*(rows[within] for rows in part))
        self._parts[skill].append(part)
        if self._kept is not None:
            del self._parts[skill][: -self._kept]
        self._joined[skill] = None

    @property
    def states(self) -> int:
        """Number of labeled states added over all skills, those outside the support and of dropped rounds included."""
        return sum(self._added)

    @property
    def masked(self) -> list[float]:
        """Per skill, the share of labeled states outside the teacher's support."""
        return [masked / max(1, added) for masked, added in zip(self._masked, self._added, strict=True)]

    def rows(self, skill: int) -> Rows:
        """Return all states of a skill that count.

        Raises:
            ConfigError: if there are none.
        """
        joined = self._joined[skill]
        if joined is None:
            joined = Rows(*(torch.cat(pieces) for pieces in zip(*self._parts[skill], strict=True)))
            self._joined[skill] = joined
            if not len(joined.labels):
                raise ConfigError(f"merge.support is {self._support}; no state of skill {skill + 1} is within it")
            if self._kept is None:  # one copy only: the joined rows become the first part of the next round's
                self._parts[skill] = [joined]
        return joined

    def sample(self, counts: Sequence[int], generator: torch.Generator) -> Batch:
        """Return a minibatch with ``counts[i]`` states of skill i, drawn with replacement."""
        parts = []
        for i, count in enumerate(counts):
            observations, labels, _ = self.rows(i)
            chosen = torch.randint(len(labels), (count,), generator=generator, device=generator.device)
            parts.append((observations[chosen], labels[chosen]))
        skill = self._skills_of(tuple(counts), generator.device)
        return Batch(torch.cat([o for o, _ in parts]), torch.cat([a for _, a in parts]), skill)

    def _skills_of(self, counts: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Return the skill of every row of a minibatch; kept, because the copy to a device waits for it."""
        if self._index is None or self._index[0] != (counts, device):
            index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
            self._index = ((counts, device), index)
        return self._index[1]
