"""Options of ``policykd add-skill``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

Set = Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")]


@dataclass(frozen=True)
class AddSkill:
    """Add one skill to a student: train an expert from it, then merge both into a new student."""

    student: tyro.conf.Positional[Path]
    """Policy file of the student, or folder of its run."""
    skill: tyro.conf.Positional[str]
    """Skill to add, for example biped/walls@0.5."""
    out: Path = Path("student-grown")
    """Folder; the new student is <out>/policy."""
    steps: int = 1_500_000
    """Budget of the training, environment steps."""
    seed: int = 0
    """Seed of everything but the tracks of the measurements."""
    threads: int | None = None
    """Cores to use; default all usable ones."""
    resume: bool = False
    """Continue an interrupted run; finished stages are not run again."""
    train: Set = ()
    """Any setting of the training, for example start_level=0.3 (policykd.agents.training.TrainConfig)."""
    merge: Set = ()
    """Any setting of the merge, for example rounds=10 (policykd.merge.MergeConfig)."""
