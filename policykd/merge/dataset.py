"""The aggregated dataset: all labelled states of every skill, on disk round by round and in memory for sampling.

A round of a skill is one safetensors file, ``data/<round>-<skill>.safetensors``, holding the fields of
:class:`~policykd.merge.collect.LabelledRollout`. A merge resumes from these files.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from policykd.merge.collect import LabelledRollout
from policykd.storage import write_bytes


class Dataset:
    """Labelled states per skill.

    Args:
        folder: where the rounds are stored.
        skills: ids of the skills, in the order of the teachers.
    """

    def __init__(self, folder: Path, skills: list[str]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._skills = folder, skills
        self._observations: list[list[torch.Tensor]] = [[] for _ in skills]
        self._labels: list[list[torch.Tensor]] = [[] for _ in skills]
        self._pooled: list[tuple[torch.Tensor, torch.Tensor]] = []

    def file(self, round_: int, skill: int) -> Path:
        """File of one round of one skill."""
        name = self._skills[skill].replace("/", "_").replace(":", "_")
        return self._folder / f"{round_:03d}-{name}.safetensors"

    def store(self, round_: int, skill: int, rollout: LabelledRollout) -> None:
        """Write a round of a skill to disk, atomically."""
        write_bytes(self.file(round_, skill), save(rollout.tensors()))

    def load(self, round_: int, skill: int) -> LabelledRollout:
        """Read a round of a skill from disk."""
        return LabelledRollout(**load_file(self.file(round_, skill)))

    def add(self, skill: int, rollout: LabelledRollout) -> None:
        """Aggregate a round of a skill."""
        self._observations[skill].append(rollout.observations)
        self._labels[skill].append(rollout.labels)
        self._pooled = []

    @property
    def states(self) -> int:
        """Number of labelled states over all skills."""
        return sum(len(part) for parts in self._labels for part in parts)

    def pooled(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per skill, all observations (n, features) and labels (n, actions)."""
        if not self._pooled:
            self._pooled = [(torch.cat(o), torch.cat(a)) for o, a in zip(self._observations, self._labels, strict=True)]
            # Keep one copy only: the pooled tensors become the first part of the next round's pool.
            self._observations = [[o] for o, _ in self._pooled]
            self._labels = [[a] for _, a in self._pooled]
        return self._pooled

    def sample(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A minibatch with ``count`` states of every skill, drawn with replacement.

        Returns:
            Observations (skills * count, features), labels (skills * count, actions) and the skill's index of every
            row, (skills * count,).
        """
        parts = []
        for observations, labels in self.pooled():
            rows = torch.randint(len(labels), (count,), generator=generator)
            parts.append((observations[rows], labels[rows]))
        skill = torch.arange(len(parts)).repeat_interleave(count)
        return torch.cat([o for o, _ in parts]), torch.cat([a for _, a in parts]), skill
