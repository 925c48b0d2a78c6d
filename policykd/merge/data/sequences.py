"""Episodes of labeled states for students with a memory: they are read from begin to end, window after window.

It stores and draws, and knows nothing of networks or losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout


class Episode(NamedTuple):
    """The labeled states of one episode, in order; views of the rollout that holds it.

    Attributes:
        observations: (steps, features).
        labels: (steps, actions).
        counts: (steps,) whether the label counts; all states are read, so that the memory is what it would be.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    counts: torch.Tensor


@dataclass(frozen=True)
class Window:
    """The next steps of several episodes, side by side.

    Attributes:
        observations: (steps, n, features); zeros after the end of an episode.
        labels: (steps, n, actions).
        counts: (steps, n) whether the label counts; never after the end of an episode.
        skill: (n,) index of the skill.
        begins: (n,) whether the episode begins with this window.
        runs: (n,) whether the window holds steps of the episode.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    counts: torch.Tensor
    skill: torch.Tensor
    begins: torch.Tensor
    runs: torch.Tensor


class SequencePool(StatePool):
    """A pool that also keeps the episodes of its states; see :class:`StatePool`."""

    def __init__(self, skills: int, rounds_kept: int | None = None, support: float | None = None) -> None:
        super().__init__(skills, rounds_kept, support)
        self._rounds: list[list[list[Episode]]] = [[] for _ in range(skills)]

    @override
    def add(self, skill: int, rollout: LabeledRollout) -> None:
        super().add(skill, rollout)
        self._rounds[skill].append(_episodes(rollout, self._support))
        if self._kept is not None:
            del self._rounds[skill][: -self._kept]

    def episodes(self, skill: int) -> list[Episode]:
        """Return the episodes of a skill, with at least one label that counts.

        Raises:
            ConfigError: if there are none.
        """
        found = [e for round_ in self._rounds[skill] for e in round_]
        if not found:
            raise ConfigError(f"merge.support is {self._support}; no state of skill {skill + 1} is within it")
        return found

    def lanes(self, counts: Sequence[int], steps: int, generator: torch.Generator) -> Lanes:
        """Return lanes of episodes, ``counts[i]`` of them of skill i, read in windows of ``steps``."""
        return Lanes([self.episodes(i) for i in range(len(counts))], counts, steps, generator)


class Lanes:
    """Lanes that read one episode after the other; episodes are drawn with replacement, all alike.

    Args:
        episodes: episodes of each skill.
        counts: number of lanes of each skill.
        steps: steps of a window.
        generator: source of the draws.
    """

    def __init__(
        self, episodes: Sequence[Sequence[Episode]], counts: Sequence[int], steps: int, generator: torch.Generator
    ) -> None:
        self._episodes, self._steps, self._generator = episodes, steps, generator
        self._skills = [i for i, count in enumerate(counts) for _ in range(count)]
        self._now = [self._draw(skill) for skill in self._skills]
        self._at = [0] * len(self._skills)

    def __len__(self) -> int:
        return len(self._skills)

    def _draw(self, skill: int) -> Episode:
        return self._episodes[skill][self._random(len(self._episodes[skill]))]

    def _random(self, count: int) -> int:
        where = self._generator.device
        return int(torch.randint(count, (), generator=self._generator, device=where))

    def spread(self) -> Iterator[Window]:
        """Move every lane to a random window of its episode, and yield the windows on the way.

        Without it all lanes would be at the same time of their episodes.
        """
        targets = [self._steps * self._random(-(-len(e.labels) // self._steps)) for e in self._now]
        while any(at < target for at, target in zip(self._at, targets, strict=True)):
            yield self._window([at < target for at, target in zip(self._at, targets, strict=True)])

    def next(self) -> Window:
        """Return the next window; lanes whose episode has ended begin a new one."""
        for lane, episode in enumerate(self._now):
            if self._at[lane] >= len(episode.labels):
                self._now[lane], self._at[lane] = self._draw(self._skills[lane]), 0
        return self._window([True] * len(self))

    def _window(self, runs: Sequence[bool]) -> Window:
        first, n = self._now[0], len(self)
        observations = first.observations.new_zeros(self._steps, n, first.observations.shape[1])
        labels = first.labels.new_zeros(self._steps, n, first.labels.shape[1])
        counts = torch.zeros(self._steps, n, dtype=torch.bool, device=labels.device)
        begins = torch.tensor([run and at == 0 for run, at in zip(runs, self._at, strict=True)], device=labels.device)
        for lane, (episode, at) in enumerate(zip(self._now, self._at, strict=True)):
            if runs[lane]:
                part = slice(at, at + self._steps)
                size = len(episode.labels[part])
                observations[:size, lane], labels[:size, lane] = episode.observations[part], episode.labels[part]
                counts[:size, lane] = episode.counts[part]
                self._at[lane] = at + self._steps
        where = labels.device
        skill, moving = torch.tensor(self._skills, device=where), torch.tensor(list(runs), device=where)
        return Window(observations, labels, counts, skill, begins, moving)


def _episodes(rollout: LabeledRollout, support: float | None) -> list[Episode]:
    """Return the episodes of a rollout; those without a label that counts are left out."""
    ended, n = rollout.terminated | rollout.truncated, rollout.rewards.shape[1]
    observations, labels = (x.unflatten(0, (-1, n)) for x in (rollout.observations, rollout.labels))
    counts = torch.ones_like(ended) if support is None else (rollout.distances <= support).unflatten(0, (-1, n))
    found = []
    for i in range(n):
        last = [*torch.nonzero(ended[:, i]).flatten().tolist(), len(ended) - 1]
        start = 0
        for end in last:
            part = slice(start, end + 1)
            if start <= end and counts[part, i].any():
                found.append(Episode(observations[part, i], labels[part, i], counts[part, i]))
            start = end + 1
    return found
