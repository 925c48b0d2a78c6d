"""Join comparisons that ran apart: other seeds on another machine, or one more curriculum with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policykd.curriculum.comparison import Comparison, SeedResult, shared_experts
from policykd.errors import ConfigError
from policykd.plain import as_plain


def join_comparisons(parts: Sequence[Comparison]) -> Comparison:
    """Return one comparison of all runs of several.

    Args:
        parts: comparisons of one recipe. Together they must have every curriculum with every seed, each once.

    Raises:
        ConfigError: for no comparison, other recipes, a run that is there twice, or one that is missing.
    """
    if not parts:
        raise ConfigError("no comparison was given to join; name at least one comparison.json")
    first, *others = parts
    for other in others:
        _check_recipe(first, other)
    runs = _by_curriculum_and_seed(parts)
    curricula = tuple(dict.fromkeys(name for part in parts for name in part.curricula))
    seeds = tuple(sorted({seed for _, seed in runs}))
    missing = [f"{name} {seed}" for name in curricula for seed in seeds if (name, seed) not in runs]
    if missing:
        raise ConfigError(f"the comparisons lack {', '.join(missing)} (curriculum and seed); run or leave out these")
    ordered = tuple(runs[name, seed] for name in curricula for seed in seeds)
    experts = shared_experts(ordered, first.skills)
    return replace(first, curricula=curricula, seeds=seeds, experts=experts, runs=ordered)


def _check_recipe(first: Comparison, other: Comparison) -> None:
    mine, theirs = (as_plain(part.recipe) for part in (first, other))
    for name in sorted({*mine, *theirs} - {"curriculum"}):
        if mine.get(name) != theirs.get(name):
            raise ConfigError(f"the comparisons differ in their recipe's {name}; only runs of one recipe can be joined")


def _by_curriculum_and_seed(parts: Sequence[Comparison]) -> dict[tuple[str, int], SeedResult]:
    found: dict[tuple[str, int], SeedResult] = {}
    for run in (run for part in parts for run in part.runs):
        key = run.curriculum, run.seed
        if key in found:
            raise ConfigError(f"{run.curriculum} with seed {run.seed} is in two of the comparisons; leave one out")
        found[key] = run
    return found
