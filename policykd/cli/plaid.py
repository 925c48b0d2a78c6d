"""Options of ``policykd plaid``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Plaid:
    """Learn skill after skill and merge each into one student (PLAID), or run one of its baselines."""

    preset: Literal["quick", "standard", "paper", "released-code"] = "quick"
    """Recipe to run: quick takes minutes, standard is the paper's five terrains."""
    recipe: Path | None = None
    """YAML file with a recipe of your own, in place of the preset."""
    curriculum: str | None = None
    """How skills are added: plaid, tl-only, tl-only+merge, multitasker, multitasker-joint or scratch+merge; default
    what the recipe says."""
    out: Path = Path("results/plaid")
    """Results folder; open its index.html."""
    seed: int = 0
    """Seed of everything but the tracks of the measurements."""
    threads: int | None = None
    """Cores to use; default all usable ones."""
    device: str | None = None
    """Where training, merging and measuring run: cpu, cuda or auto; default what the recipe says."""
    resume: bool = False
    """Continue an interrupted run; finished stages are not run again."""
    video: bool = True
    """Film the final policy on every skill."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")] = ()
    """Any other setting, for example merge.rounds=10 (fields of policykd.curriculum.Recipe)."""
