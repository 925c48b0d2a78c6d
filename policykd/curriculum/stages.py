"""Stages: the steps that every curriculum consists of, and what a finished one leaves behind.

A stage is a frozen record with a name; it names the stages whose policies it needs. A curriculum is a list of stages,
``policykd.curriculum.work`` runs one, ``policykd.curriculum.run`` runs the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policykd.agents.training.config import TrainConfig
from policykd.curriculum.recipe import Injection
from policykd.envs.skills import Skill
from policykd.merge.config import MergeConfig


@dataclass(frozen=True)
class Given:
    """A policy that is there already.

    Attributes:
        name: name of the stage.
        source: its policy file, or the folder of its run.
        weights_sha256: hash of its weights.
    """

    name: str
    source: Path
    weights_sha256: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return ()


@dataclass(frozen=True)
class Train:
    """Reinforcement learning on one skill or on several at once.

    Attributes:
        name: name of the stage.
        skills: what is trained on.
        config: the training.
        start: stage whose policy is the start; None for new weights.
        noise: exploration noise of that start, units of the action; None keeps its own.
    """

    name: str
    skills: tuple[Skill, ...]
    config: TrainConfig
    start: str | None = None
    noise: float | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return () if self.start is None else (self.start,)


@dataclass(frozen=True)
class Inject:
    """New inputs for a policy.

    Attributes:
        name: name of the stage.
        source: stage whose policy is grown.
        injection: groups and mode.
        seed: seed of weights that do not begin at zero.
    """

    name: str
    source: str
    injection: Injection
    seed: int = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return (self.source,)


@dataclass(frozen=True)
class Merge:
    """Several policies become one.

    Attributes:
        name: name of the stage.
        skills: the student's skills, each offering all observation groups that student and teachers read.
        teachers: per skill, the stage whose policy labels it; that of the newest skill is last.
        config: the merge.
        previous: stage whose policy the student starts from, where ``config.start`` is ``previous``; otherwise None.
        keep_data: keep the labeled states.
    """

    name: str
    skills: tuple[Skill, ...]
    teachers: tuple[str, ...]
    config: MergeConfig
    previous: str | None = None
    keep_data: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return tuple(dict.fromkeys([*self.teachers, *([self.previous] if self.previous else [])]))


@dataclass(frozen=True)
class Measure:
    """Evaluation of one policy.

    Attributes:
        name: name of the stage.
        policy: stage whose policy is measured; None for the untrained policy with its noise.
        skills: what it is measured on.
        episodes: episodes per skill.
        seed: seed of tracks and initial states.
        reference: the network that an untrained policy has; only read where ``policy`` is None.
        device: where it is measured.
    """

    name: str
    policy: str | None
    skills: tuple[Skill, ...]
    episodes: int
    seed: int
    reference: TrainConfig | None = None
    device: str = "cpu"

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return () if self.policy is None else (self.policy,)


Stage = Given | Train | Inject | Merge | Measure


@dataclass(frozen=True)
class Row:
    """One row of the matrix: the policy that a curriculum has after a skill was added.

    Attributes:
        label: what was just added.
        stage: stage whose policy it is.
    """

    label: str
    stage: str


@dataclass(frozen=True)
class Plan:
    """All stages of a curriculum.

    Attributes:
        stages: in an order in which they can be run.
        rows: rows of the matrix.
        experts: skill id to the stage whose policy is its expert; empty where nobody learns a skill alone.
        columns: ids of the skills of the matrix, in the order in which they are added.
    """

    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]
    experts: dict[str, str]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a finished stage leaves behind, in its ``stage.json``.

    Attributes:
        name: name of the stage.
        kind: ``given``, ``train``, ``inject``, ``merge`` or ``measure``.
        steps: environment steps that it used to learn; states collected by a merge count, measurements do not.
        seconds: wall time, s.
        cpu_seconds: processor time of all threads, s.
        figures: what it measured of itself, JSON.
    """

    name: str
    kind: str
    steps: int
    seconds: float
    cpu_seconds: float
    figures: dict[str, Any] = field(default_factory=dict)
