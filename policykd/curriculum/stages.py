"""Stages: the steps of every curriculum as frozen records, and the outcome of a finished one.

A stage has a name and names the stages whose policies it needs. A curriculum is a list of stages;
``policykd.curriculum.stage_runner`` runs one, ``policykd.curriculum.runner`` runs the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from policykd.agents.training.config import TrainConfig
from policykd.curriculum.recipe import Injection
from policykd.envs.skills import Skill
from policykd.finetune.config import FinetuneConfig
from policykd.merge.config import MergeConfig


@dataclass(frozen=True)
class Existing:
    """An existing policy used as a starting point.

    Attributes:
        name: name of the stage.
        source: its policy file, or the folder of its run.
        weights_sha256: hash of its weights.
    """

    kind: ClassVar[str] = "given"

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
        skills: skills that are trained.
        config: the training.
        start: stage whose policy is the start; None for new weights.
        noise: exploration noise of that start, units of the action; None keeps the policy's own.
    """

    kind: ClassVar[str] = "train"

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
        source: stage whose policy gets the inputs.
        injection: groups and mode.
        seed: seed of weights that do not begin at zero.
        skill: skill that has the new groups, in which outputs are compared; None for the policy's first.
    """

    kind: ClassVar[str] = "inject"

    name: str
    source: str
    injection: Injection
    seed: int = 0
    skill: Skill | None = None

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
        allow_conflicts: merge teachers of gymnasium environments although they contradict each other.
    """

    kind: ClassVar[str] = "merge"

    name: str
    skills: tuple[Skill, ...]
    teachers: tuple[str, ...]
    config: MergeConfig
    previous: str | None = None
    keep_data: bool = False
    allow_conflicts: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return tuple(dict.fromkeys([*self.teachers, *([self.previous] if self.previous else [])]))


@dataclass(frozen=True)
class Finetune:
    """Reinforcement learning on skills of a student, from a safe start; see ``policykd.finetune``.

    Attributes:
        name: name of the stage.
        skills: skills to improve.
        config: the fine-tuning.
        start: stage whose policy is improved.
    """

    kind: ClassVar[str] = "finetune"

    name: str
    skills: tuple[Skill, ...]
    config: FinetuneConfig
    start: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose policies it needs."""
        return (self.start,)


@dataclass(frozen=True)
class Measure:
    """Evaluation of one policy.

    Attributes:
        name: name of the stage.
        policy: stage whose policy is measured; None for the untrained policy with its noise.
        skills: skills that it is measured on.
        episodes: episodes per skill.
        seed: seed of tracks and initial states.
        reference: training whose networks an untrained policy has; read only if ``policy`` is None.
        device: where it is measured.
    """

    kind: ClassVar[str] = "measure"

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


Stage = Existing | Train | Inject | Merge | Finetune | Measure


@dataclass(frozen=True)
class Row:
    """One row of the matrix: the policy that a curriculum has after a skill was added.

    Attributes:
        label: short name of the skill that was just added.
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
        experts: skill id to the stage whose policy is its expert; empty if no skill is learned alone.
        columns: ids of the skills of the matrix, in the order in which they are added.
        imports: names of skills and groups that a process must import before it runs a stage on its own.
    """

    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]
    experts: dict[str, str]
    columns: tuple[str, ...]
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Outcome of a finished stage, stored in its ``stage.json``.

    Attributes:
        name: name of the stage.
        kind: ``given``, ``train``, ``inject``, ``merge``, ``finetune`` or ``measure``.
        steps: environment steps that it used to learn; states collected by a merge count, measurements do not.
        seconds: wall time, s.
        cpu_seconds: processor time of all threads, s.
        figures: metrics of the stage, JSON.
    """

    name: str
    kind: str
    steps: int
    seconds: float
    cpu_seconds: float
    figures: dict[str, Any] = field(default_factory=dict)
