"""The outcome of a merge. It is data and loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MergeResult:
    """Outcome of a merge.

    Attributes:
        policy_path: the student's policy file, with the weights of the best validation.
        rounds: rounds run.
        states: labeled states collected, which are also the environment steps used.
        seconds: wall time, over all sessions, s.
        retention: per skill, validation reward per step of the student over the expert's.
        reached_target: whether the merge stopped because every skill reached the target retention.
        states_to_retention: labeled states after which every skill first kept a retention (``0.95``, ``0.98``), with
            its success the expert's less at most 0.05; None if that never happened.
        masked: per skill, the share of labels that did not count because their states are outside the teacher's
            support.
        phase_seconds: seconds of collection, fitting and validation; of merges with ``stop="confirmed"``.
        history: rows of ``progress.jsonl``: states, seconds by phase, simulations and retention per skill of rounds; of
            merges with ``stop="confirmed"``.
    """

    policy_path: Path
    rounds: int
    states: int
    seconds: float
    retention: dict[str, float]
    reached_target: bool
    states_to_retention: dict[str, int | None] = field(default_factory=dict)
    masked: dict[str, float] = field(default_factory=dict)
    phase_seconds: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
