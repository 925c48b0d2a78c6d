"""The matrix A[i][j] of scores of the policy after stage i on skill j, and every figure that derives from it.

Definitions follow Lopez-Paz and Ranzato, Gradient Episodic Memory (2017), for backward transfer, and Berseth et al.,
Progressive Reinforcement Learning with Distillation (2018), for forgetting relative to the score itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policykd.errors import ConfigError, OutputError
from policykd.plain import added, as_plain, from_plain

_Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class SkillMatrix:
    """Scores of N stages on K skills.

    Attributes:
        stages: N names of the stages.
        skills: K ids of the skills.
        scores: N rows of K mean rewards per step of the policy after each stage.
        success: N rows of K success rates.
        experts: K scores of each skill's expert.
        untrained: K scores of a policy with new weights.
        learned: K indices of the stage after which each skill counts as learned.
        random: K scores of random actions, from which scores are normalized; empty where rewards are in [0, 1].

    Raises:
        ConfigError: for shapes that do not match, scores that are not finite, or an expert that scores no more than 0,
            or than random actions.
    """

    stages: tuple[str, ...]
    skills: tuple[str, ...]
    scores: _Rows
    success: _Rows
    experts: tuple[float, ...]
    untrained: tuple[float, ...]
    learned: tuple[int, ...]
    random: tuple[float, ...] = added(())

    def __post_init__(self) -> None:
        shape = (len(self.stages), len(self.skills))
        for name in ("scores", "success"):
            rows = getattr(self, name)
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows) or not np.isfinite(rows).all():
                raise ConfigError(f"{name} of the matrix must be {shape[0]} rows of {shape[1]} finite numbers")
        for name in ("experts", "untrained", "learned"):
            if len(getattr(self, name)) != shape[1]:
                raise ConfigError(f"{name} of the matrix must hold one number for each of the {shape[1]} skills")
        if len(self.random) not in (0, shape[1]):
            raise ConfigError(f"random of the matrix must hold one number for each of the {shape[1]} skills, or none")
        if self.random and (np.asarray(self.experts) <= self.random).any():
            raise ConfigError(f"the experts score {self.experts}, random actions {self.random}; experts must be better")
        if not self.random and min(self.experts) <= 0:
            raise ConfigError(f"the experts score {self.experts}; scores cannot be normalized by a score of 0")
        if min(self.learned) < 0 or max(self.learned) >= shape[0]:
            raise ConfigError(f"learned is {self.learned}; it must hold indices of the {shape[0]} stages")

    @property
    def floor(self) -> np.ndarray:
        """(K,) scores that count as 0: those of random actions, or 0."""
        return np.asarray(self.random) if self.random else np.zeros(len(self.skills))

    @property
    def normalized(self) -> np.ndarray:
        """(N, K) scores over those of the experts, both less those of random actions if they are given."""
        return (np.asarray(self.scores) - self.floor) / (np.asarray(self.experts) - self.floor)

    @property
    def retention(self) -> np.ndarray:
        """(K,) last row over the experts: the final policy's share of each expert's score."""
        return self.normalized[-1]

    def _when_learned(self) -> np.ndarray:
        """Return (K,) normalized scores of each skill right after it was learned."""
        return self.normalized[list(self.learned), np.arange(len(self.skills))]

    @property
    def old(self) -> np.ndarray:
        """(K,) whether stages followed that of the skill: only such skills can be forgotten."""
        return np.asarray(self.learned) < len(self.stages) - 1

    @property
    def forgetting(self) -> np.ndarray:
        """(K,) normalized score right after learning less the final one; negative if a skill improved."""
        return self._when_learned() - self.retention

    @property
    def relative_forgetting(self) -> np.ndarray:
        """(K,) the paper's form, (final - after learning) / |after learning|: 0 nothing lost, -1 everything."""
        return (self.retention - self._when_learned()) / np.abs(self._when_learned())

    @property
    def mean_absolute_forgetting(self) -> float | None:
        """Mean magnitude of the forgetting over the old skills; None without an old skill."""
        return float(np.abs(self.forgetting[self.old]).mean()) if self.old.any() else None

    @property
    def backward_transfer(self) -> float | None:
        """Mean change of the old skills by later stages; None without an old skill."""
        return float(-self.forgetting[self.old].mean()) if self.old.any() else None

    @property
    def jumpstart(self) -> tuple[float | None, ...]:
        """Per skill, normalized score before it was learned less that of new weights; None for skills of stage 0."""
        start = (np.asarray(self.untrained) - self.floor) / (np.asarray(self.experts) - self.floor)
        before = [None if i == 0 else float(self.normalized[i - 1, j]) for j, i in enumerate(self.learned)]
        return tuple(None if b is None else b - float(start[j]) for j, b in enumerate(before))

    def with_experts(self, experts: Sequence[float]) -> SkillMatrix:
        """Return the same scores measured against other experts, K scores."""
        return replace(self, experts=tuple(float(x) for x in experts))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, and the figures that derive from them."""
        derived = {
            "normalised": self.normalized.tolist(),
            "retention": dict(zip(self.skills, self.retention.tolist(), strict=True)),
            "mean_retention": float(self.retention.mean()),
            "forgetting": dict(zip(self.skills, self.forgetting.tolist(), strict=True)),
            "relative_forgetting": dict(zip(self.skills, self.relative_forgetting.tolist(), strict=True)),
            "mean_absolute_forgetting": self.mean_absolute_forgetting,
            "backward_transfer": self.backward_transfer,
            "jumpstart": dict(zip(self.skills, self.jumpstart, strict=True)),
        }
        return {**as_plain(self), "derived": derived}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SkillMatrix:
        """Read a record of :meth:`to_json`; derived figures are computed from the fields.

        Raises:
            OutputError: if a field is missing or garbled.
        """
        return from_plain(cls, content, "the matrix", error=OutputError, strict=True, ignore_unknown=True)
