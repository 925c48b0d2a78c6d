"""``policykd merge-weights``: one policy from the weights of several, without a simulation.

Options and printing only; the work is in ``policykd.merge.weights``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where
from policykd.merge.weights.config import WeightMergeConfig

_CONFIG = WeightMergeConfig()


@dataclass(frozen=True)
class MergeWeights:
    """Merge policies in weight space, a baseline for merge and a start for it (merge ... --init)."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more policy files, or folders of runs, of the same architecture and observation groups."""
    out: Path
    """New policy file: a folder, or a .zip."""
    method: Literal["average", "task-arithmetic", "ties", "dare"] = "average"
    """Mean of the weights; or sum of the deltas over the common ancestor, whole, trimmed (ties) or thinned (dare)."""
    ancestor: Path | None = None
    """Policy file of the common ancestor; default found in the lineages. Not for average."""
    scale: float | None = None
    """Factor of the combined delta; default 0.5, of ties 1."""
    density: float | None = None
    """Share of each delta that ties and dare keep; default 0.2 of ties, 0.5 of dare."""
    search: tuple[Path, ...] = ()
    """Folders in which parents are searched, in addition to those around the runs."""
    seed: int = _CONFIG.seed
    """Seed of the draws of dare."""

    def run(self, console: Console) -> None:
        """Merge and print the deltas.

        Raises:
            PolicykdError: for policies that cannot be merged, or an ancestor that is not found.
        """
        from policykd.agents.lineage.tree import shown_path
        from policykd.merge.weights import merge_weights

        config = WeightMergeConfig(self.method, self.scale, self.density, self.seed)
        found = merge_weights(self.policies, self.out, config, ancestor=self.ancestor, search=self.search)
        say(console, f"{self.method} of {len(self.policies)} policies: {', '.join(found.manifest.skills)}")
        if found.ancestor is not None:
            say(console, f"common ancestor {shown_path(found.ancestor)}")
            norms = ", ".join(f"{name} {norm:.3g}" for name, norm in found.delta_norms.items())
            say(console, f"norms of the deltas {norms}; moved in opposite directions {found.sign_conflicts:.1%}")
        if not found.related:
            what = "have no policy in common" if found.ancestor is None else "do not name this ancestor"
            say(console, f"their lineages {what}: weights that were not trained from one policy seldom fit each other")
        say(console, "the policy was not validated; use policykd evaluate")
        say_where(console, self.out)
