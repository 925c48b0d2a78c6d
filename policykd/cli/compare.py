"""Options of ``policykd compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Compare:
    """Compare PLAID with its baselines at equal environment steps over several seeds."""

    preset: Literal["quick", "standard", "paper", "released-code"] = "standard"
    """Recipe that all share."""
    recipe: Path | None = None
    """YAML file with a recipe of your own, in place of the preset."""
    suite: str | None = None
    """Skills of this suite in place of the recipe's: terrains, terrains-hard or gaits."""
    curricula: tuple[str, ...] = ("plaid", "tl-only", "tl-only+merge", "multitasker", "scratch+merge")
    """Curricula to compare; multitasker-joint is another."""
    seeds: int = 5
    """Number of seeds; fewer than 5 give intervals that are too narrow."""
    out: Path = Path("results/compare")
    """Results folder; index.html shows comparison.json, which holds the values of all seeds that are finished."""
    threads: int | None = None
    """Runs side by side; default one per usable core."""
    resume: bool = False
    """Continue an interrupted comparison; finished runs are not run again, and seeds may be added."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")] = ()
    """Any other setting, for example merge.rounds=10 (fields of policykd.curriculum.Recipe)."""
