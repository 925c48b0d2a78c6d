"""Compare curricula at equal budgets over several seeds.

Policies of all curricula and seeds walk the same tracks. The experts that scores are normalized by are the mean over
the seeds of those that ``scratch+merge`` trains, or of ``plaid``'s where it does not take part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from policykd.curriculum.comparison import Comparison, SeedResult
from policykd.curriculum.plans import budget, make_plan
from policykd.curriculum.recipe import CURRICULA, Recipe
from policykd.curriculum.records import CurriculumResult
from policykd.curriculum.run import run_curriculum
from policykd.curriculum.work import StageFolders
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.evaluation.curves import curve_of, forward_transfer
from policykd.executor import Processes, ignore
from policykd.progress import Named, Progress, Silent
from policykd.runs import RunFolder, read_log
from policykd.storage import prepare_folder, write_json

_YARDSTICKS = ("scratch+merge", "plaid", "tl-only")


@dataclass(frozen=True)
class _Job:
    recipe: Recipe
    seed: int
    out: Path
    twins: tuple[Path, ...]


def run_comparison(
    recipe: Recipe,
    out: Path,
    *,
    curricula: Sequence[str] = ("plaid", "tl-only", "tl-only+merge", "multitasker", "scratch+merge"),
    seeds: int = 5,
    threads: int | None = None,
    resume: bool = False,
    progress: Progress = Silent(),
    on_seed: Callable[[Comparison], None] = ignore,
) -> Comparison:
    """Run every curriculum with every seed, each on one core, and compare the final policies.

    Every run spends its whole budget: nothing stops early, and weak experts are merged, too, so that the curricula are
    compared at equal cost. A training that several curricula have in common is run once and counted for each.

    Args:
        recipe: what all curricula share; its ``curriculum``, ``early_stop`` and
            ``merge.min_teacher_success`` are replaced.
        out: folder; runs live in ``out / "runs" / "<curriculum>-<seed>"``.
        curricula: names of the curricula.
        seeds: number of seeds, 0 to ``seeds - 1``.
        threads: runs side by side; None for one per usable core.
        resume: continue what is there; finished runs are not run again, and seeds may be added.
        progress: who watches.
        on_seed: called with the comparison of the seeds that are whole, each time there is one more.

    Returns:
        The comparison, also written to ``out / "comparison.json"``.

    Raises:
        UnknownNameError: for an unknown curriculum.
        ConfigError: for no curriculum, one given twice, no seed, or another recipe in ``out``.
        ContractError: before anything is run, if the skills cannot share a policy.
        OutputError: if ``out`` cannot be written, or holds a comparison and ``resume`` is off.
    """
    check_range("seeds", seeds, 1, 1000)
    recipes = _recipes(recipe, curricula)
    shared = recipes[curricula[0]]
    prepare_folder(out, megabytes=1000)
    folder = RunFolder(out, {"recipe": replace(shared, curriculum=CURRICULA[0])}, resume)
    # Seed by seed, so that a comparison that is stopped early has whole seeds.
    jobs = []
    for seed in range(seeds):
        places = {name: _place(out, name, seed) for name in recipes}
        jobs += [_Job(one, seed, places[name], _others(places, name)) for name, one in recipes.items()]
    collector = _Collector(shared, tuple(curricula), seeds, folder, on_seed)
    Processes(threads).map(_run_one, jobs, progress, collector)
    return collector.comparison


def _recipes(recipe: Recipe, curricula: Sequence[str]) -> dict[str, Recipe]:
    """Every curriculum's recipe; refuses what cannot be compared."""
    for name in curricula:
        if name not in CURRICULA:
            raise UnknownNameError("curriculum", name, CURRICULA)
    if not curricula or len(set(curricula)) != len(curricula):
        raise ConfigError(f"curricula are {list(curricula)}; name at least one, each once")
    # An expert that stays weak is a result of a comparison, and no reason to stop it.
    unstopped = replace(recipe, early_stop=False, merge=replace(recipe.merge, min_teacher_success=0.0))
    recipes = {name: replace(unstopped, curriculum=name) for name in curricula}
    for one in recipes.values():
        make_plan(one, 0)
    return recipes


def _run_one(job: _Job, progress: Progress) -> Path:
    watched = Named(progress, f"{job.recipe.curriculum} {job.seed}")
    run_curriculum(job.recipe, job.out, seed=job.seed, threads=1, resume=True, twins=job.twins, progress=watched)
    return job.out


def _place(out: Path, curriculum: str, seed: int) -> Path:
    return out / "runs" / f"{curriculum}-{seed}"


def _others(places: Mapping[str, Path], name: str) -> tuple[Path, ...]:
    return tuple(place for other, place in places.items() if other != name)


class _Collector:
    """Keeps ``comparison.json`` to the seeds that all curricula have finished: it is called after every run."""

    def __init__(
        self,
        recipe: Recipe,
        curricula: tuple[str, ...],
        seeds: int,
        folder: RunFolder,
        on_seed: Callable[[Comparison], None],
    ) -> None:
        self._recipe, self._curricula, self._seeds, self._folder = recipe, curricula, seeds, folder
        self._on_seed = on_seed
        self._collected: Comparison | None = None

    def __call__(self, _: Path) -> None:
        whole = tuple(seed for seed in range(self._seeds) if self._is_whole(seed))
        if whole and (self._collected is None or self._collected.seeds != whole):
            self._collected = _collect(self._recipe, self._curricula, whole, self._folder.path)
            write_json(self._folder.path / "comparison.json", self._collected.to_json())
            self._on_seed(self._collected)

    def _is_whole(self, seed: int) -> bool:
        return all((_place(self._folder.path, name, seed) / "curriculum.json").exists() for name in self._curricula)

    @property
    def comparison(self) -> Comparison:
        """The comparison of all seeds, once every run is over."""
        assert self._collected is not None
        return self._collected


def _collect(recipe: Recipe, curricula: tuple[str, ...], seeds: tuple[int, ...], out: Path) -> Comparison:
    folders = {(name, seed): _place(out, name, seed) for name in curricula for seed in seeds}
    results = {key: CurriculumResult.load(folder / "curriculum.json") for key, folder in folders.items()}
    runs = []
    for (name, seed), result in results.items():
        scratch = folders.get(("scratch+merge", seed))
        transfer = {} if scratch is None else _transfer(result, folders[name, seed], scratch)
        own = dict(zip(result.matrix.skills, result.matrix.experts, strict=True)) if result.experts else {}
        figures = (result.steps, result.seconds, result.cpu_seconds)
        runs.append(SeedResult(name, seed, result.matrix, *figures, own, result.zero_shot, transfer))
    skills = runs[0].matrix.skills
    return Comparison(recipe, curricula, seeds, skills, budget(recipe), _yardstick(runs, skills), tuple(runs))


def _yardstick(runs: Sequence[SeedResult], skills: Sequence[str]) -> tuple[float, ...]:
    """Reward per step of the shared experts."""
    for name in (*_YARDSTICKS, *CURRICULA):
        chosen = [run for run in runs if run.curriculum == name]
        if chosen:
            return tuple(float(np.mean([run.matrix.experts[j] for run in chosen])) for j in range(len(skills)))
    raise ConfigError("there is no run to take experts from")


def _transfer(result: CurriculumResult, folder: Path, scratch: Path) -> dict[str, float]:
    """Forward transfer of every skill that was learned alone from an earlier policy, on the scratch expert's scale."""
    found = {}
    reference = CurriculumResult.load(scratch / "curriculum.json")
    matrix = result.matrix
    for j, (skill, stage) in enumerate(result.experts.items()):
        first = next(outcome for outcome in result.outcomes if outcome.name == stage)
        if j == 0 or result.recipe.curriculum == "scratch+merge":
            continue
        mine, theirs = (
            curve_of(read_log(StageFolders(place / "stages")(name) / "progress.jsonl"))
            for place, name in ((folder, stage), (scratch, reference.experts[skill]))
        )
        # Curves may pass the expert of another seed; the area is only defined up to it.
        ceiling = max(score for _, score in [*mine, *theirs]) * 1.0001
        start, untrained = matrix.scores[matrix.learned[j] - 1][j] / ceiling, matrix.untrained[j] / ceiling
        ours, other = ([(steps, score / ceiling) for steps, score in curve] for curve in (mine, theirs))
        budget_ = min(first.steps, max(steps for steps, _ in theirs))
        found[skill] = forward_transfer(ours, other, budget_, start=start, scratch_start=untrained)
    return found
