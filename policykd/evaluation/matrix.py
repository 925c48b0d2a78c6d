"""The matrix A[i][j]: how well the policy after stage i does skill j, and every figure that derives from it.

Definitions follow Lopez-Paz and Ranzato, Gradient Episodic Memory (2017), for backward transfer, and Berseth et al.,
Progressive Reinforcement Learning with Distillation (2018), for forgetting relative to the score itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from policykd.errors import ConfigError, OutputError

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

    Raises:
        ConfigError: for shapes that do not match, scores that are not finite, or an expert without any score.
    """

    stages: tuple[str, ...]
    skills: tuple[str, ...]
    scores: _Rows
    success: _Rows
    experts: tuple[float, ...]
    untrained: tuple[float, ...]
    learned: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = (len(self.stages), len(self.skills))
        for name in ("scores", "success"):
            rows = getattr(self, name)
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows) or not np.isfinite(rows).all():
                raise ConfigError(f"{name} of the matrix must be {shape[0]} rows of {shape[1]} finite numbers")
        for name in ("experts", "untrained", "learned"):
            if len(getattr(self, name)) != shape[1]:
                raise ConfigError(f"{name} of the matrix must hold one number for each of the {shape[1]} skills")
        if min(self.experts) <= 0:
            raise ConfigError(f"the experts score {self.experts}; a score of 0 cannot be compared with")
        if min(self.learned) < 0 or max(self.learned) >= shape[0]:
            raise ConfigError(f"learned is {self.learned}; it must hold indices of the {shape[0]} stages")

    @property
    def normalized(self) -> np.ndarray:
        """(N, K) scores over those of the experts."""
        return np.asarray(self.scores) / np.asarray(self.experts)

    @property
    def retention(self) -> np.ndarray:
        """(K,) last row over the experts: what the final policy keeps of each."""
        return self.normalized[-1]

    def _when_learned(self) -> np.ndarray:
        """(K,) normalized score of each skill right after it was learned."""
        return self.normalized[list(self.learned), np.arange(len(self.skills))]

    @property
    def old(self) -> np.ndarray:
        """(K,) whether stages followed the one at which the skill was learned: only those can be forgotten."""
        return np.asarray(self.learned) < len(self.stages) - 1

    @property
    def forgetting(self) -> np.ndarray:
        """(K,) normalized score right after learning less the final one; negative where a skill got better."""
        return self._when_learned() - self.retention

    @property
    def relative_forgetting(self) -> np.ndarray:
        """(K,) the paper's form, (final - after learning) / |after learning|: 0 nothing lost, -1 everything."""
        return (self.retention - self._when_learned()) / np.abs(self._when_learned())

    @property
    def mean_absolute_forgetting(self) -> float | None:
        """Mean magnitude of the forgetting over the old skills; None where there is none."""
        return float(np.abs(self.forgetting[self.old]).mean()) if self.old.any() else None

    @property
    def backward_transfer(self) -> float | None:
        """Mean change of the old skills by what was learned after them; None where there is none."""
        return float(-self.forgetting[self.old].mean()) if self.old.any() else None

    @property
    def jumpstart(self) -> tuple[float | None, ...]:
        """Per skill, normalized score before it was learned less that of new weights; None for skills of stage 0."""
        start = np.asarray(self.untrained) / np.asarray(self.experts)
        before = [None if i == 0 else float(self.normalized[i - 1, j]) for j, i in enumerate(self.learned)]
        return tuple(None if b is None else b - float(start[j]) for j, b in enumerate(before))

    def with_experts(self, experts: Sequence[float]) -> SkillMatrix:
        """The same scores measured against other experts, K scores."""
        return replace(self, experts=tuple(float(x) for x in experts))

    def to_json(self) -> dict[str, Any]:
        """The fields, and what derives from them for readers who only want that."""
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
        return {**asdict(self), "derived": derived}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SkillMatrix:
        """Read what :meth:`to_json` gave; derived figures are computed anew.

        Raises:
            OutputError: if a field is missing.
        """
        try:
            plain: dict[str, Any] = {f.name: content[f.name] for f in fields(cls)}
        except (KeyError, TypeError) as error:
            raise OutputError(f"the matrix lacks {error}") from None
        for name, value in plain.items():
            plain[name] = tuple(tuple(row) if isinstance(row, list) else row for row in value)
        return cls(**plain)
