"""Retention of the student from its own collected episodes: the early test of a quick merge. It simulates nothing.

In the first round the experts act with the noise of the collection, and their episodes are the reference. In every
later round the student acts with the same noise. The few episodes of a round are uncertain, so an exponential average
over the rounds counts. The reference is the experts' reward in episodes that succeeded: one fall among four episodes
would make a student that falls look better than its expert. It is a little too high for experts that do fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policykd.merge.quick.collecting import FirstEpisodes
from policykd.merge.retention import Score
from policykd.merge.teachers import Teacher


class EarlyTest:
    """Success and reward of the student in its collected episodes, against those of the experts in the first round.

    Args:
        teachers: one per skill.
        memory: share of its earlier value in every average, in [0, 1).
    """

    def __init__(self, teachers: Sequence[Teacher], memory: float) -> None:
        self._memory = memory
        self._ids = [t.skill.id for t in teachers]
        self._reference: list[tuple[float, float]] = []
        self._student: list[tuple[float, float]] = []

    def set_reference(self, episodes: Sequence[FirstEpisodes]) -> None:
        """Take the experts' episodes as the reference: their success, and the reward of those that succeeded.

        Args:
            episodes: per skill.
        """
        self._reference = [_reference(one) for one in episodes]

    @property
    def lowest_success(self) -> float:
        """Success of the least successful expert in its few episodes, with the noise of the collection."""
        return min(success for success, _ in self._reference)

    def add(self, episodes: Sequence[FirstEpisodes]) -> None:
        """Average over the student's episodes of one more round, per skill."""
        new, old = [_means(one) for one in episodes], self._student
        keep = self._memory if old else 0.0
        self._student = [
            (keep * a[0] + (1.0 - keep) * b[0], keep * a[1] + (1.0 - keep) * b[1])
            for a, b in zip(old or new, new, strict=True)
        ]

    def score(self) -> Score | None:
        """Return the student's score; None before its first round."""
        if not self._student:
            return None
        pairs = list(zip(self._ids, self._student, self._reference, strict=True))
        return Score(
            success={i: s[0] for i, s, _ in pairs},
            reward_per_step={i: s[1] for i, s, _ in pairs},
            retention={i: s[1] / max(r[1], 1e-9) for i, s, r in pairs},
            shortfall={i: r[0] - s[0] for i, s, r in pairs},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the averages as plain numbers."""
        return {"reference": self._reference, "student": self._student}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self._reference, self._student = state["reference"], state["student"]


def _means(episodes: FirstEpisodes) -> tuple[float, float]:
    """Return success and reward per step."""
    return float(episodes.success.double().mean()), float(episodes.reward_per_step.mean())


def _reference(episodes: FirstEpisodes) -> tuple[float, float]:
    """Return the success of an expert, and the reward per step of the episodes that succeeded, of all if none did."""
    success, reward = _means(episodes)
    return success, float(episodes.reward_per_step[episodes.success].mean()) if success > 0.0 else reward
