"""Compare curricula at equal budgets over several seeds: run them, and keep every seed's values.

The policies of all curricula and seeds are measured on the same tracks. Scores are normalized by one expert per skill:
the mean over the seeds of those that ``scratch+merge`` trains, or of ``plaid``'s if it is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from policykd import __version__
from policykd.curriculum.curricula import CURRICULA, compared_curricula
from policykd.curriculum.plans import budget, make_plan
from policykd.curriculum.recipe import DEFAULT_CURRICULUM, Recipe
from policykd.curriculum.result import RESULT, CurriculumResult
from policykd.curriculum.runner import run_curriculum
from policykd.curriculum.stage_runner import StageFolders
from policykd.envs.devices import is_card
from policykd.errors import ConfigError, OutputError, UnknownNameError, check_range
from policykd.evaluation.curves import curve_of, forward_transfer
from policykd.evaluation.matrix import SkillMatrix
from policykd.executor import Executor, Inline, Processes, ignore
from policykd.plain import as_plain, from_plain, versioned
from policykd.progress import Named, Progress, Silent
from policykd.runs import RunFolder
from policykd.stats import Interval, few_seeds, stratified_bootstrap
from policykd.storage import prepare_folder, read_json, write_json

COMPARISON = "comparison.json"
"""File of a comparison in its folder."""

FORMAT_VERSION = 1
_SCRATCH = "scratch+merge"
_REFERENCE_CURRICULA = (_SCRATCH, "plaid", "tl-only")
"""Curricula whose experts normalize the scores, the first that is compared."""

AGGREGATES = ("overall", "mean", "weakest skill")
"""Columns over all skills: :meth:`Comparison.overall`, :meth:`Comparison.mean` and :meth:`Comparison.weakest`."""


@dataclass(frozen=True)
class SeedResult:
    """One curriculum with one seed.

    Attributes:
        curriculum: its name.
        seed: its seed.
        matrix: scores after every stage, against the run's own experts.
        steps: environment steps used.
        seconds: wall time of its stages, s.
        cpu_seconds: processor time of its stages, s.
        experts: skill id to reward per step of its own experts; empty if no skill is learned alone.
        zero_shot: skill id to success and reward per step of the final policy.
        transfer: skill id to forward transfer against the run of ``scratch+merge`` of the same seed; empty without.
    """

    curriculum: str
    seed: int
    matrix: SkillMatrix
    steps: int
    seconds: float
    cpu_seconds: float
    experts: Mapping[str, float]
    zero_shot: Mapping[str, Mapping[str, float]]
    transfer: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        recipe: recipe that all curricula share.
        curricula: names of the curricula.
        seeds: the seeds.
        skills: ids of the skills.
        budget: environment steps that each run may use.
        experts: reward per step that scores are normalized by, per skill.
        runs: every curriculum with every seed.
    """

    recipe: Recipe
    curricula: tuple[str, ...]
    seeds: tuple[int, ...]
    skills: tuple[str, ...]
    budget: int
    experts: tuple[float, ...]
    runs: tuple[SeedResult, ...]

    def of(self, curriculum: str) -> list[SeedResult]:
        """Return the runs of one curriculum, by seed.

        Raises:
            UnknownNameError: for a curriculum that was not compared.
        """
        if curriculum not in self.curricula:
            raise UnknownNameError("compared curriculum", curriculum, self.curricula)
        return [run for run in self.runs if run.curriculum == curriculum]

    def final_scores(self, curriculum: str) -> np.ndarray:
        """Return (seeds, skills) rewards per step of the final policies over those of the shared experts.

        Both are less those of random actions where rewards are not in [0, 1].
        """
        return np.array([run.matrix.with_experts(self.experts).retention for run in self.of(curriculum)])

    def final_success(self, curriculum: str) -> np.ndarray:
        """Return (seeds, skills) success rates of the final policies."""
        return np.array([run.matrix.success[-1] for run in self.of(curriculum)])

    def overall(self, curriculum: str) -> Interval:
        """Return the interquartile mean of normalized scores over seeds and skills, with its stratified interval."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="iqm")

    def mean(self, curriculum: str) -> Interval:
        """Return the mean, since the interquartile mean leaves out a skill that was lost."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="mean")

    def weakest(self, curriculum: str) -> Interval:
        """Return the score of every policy's weakest skill: mean over the seeds."""
        return stratified_bootstrap(self.final_scores(curriculum).min(axis=1, keepdims=True), statistic="mean")

    def on_skill(self, curriculum: str, skill: str) -> Interval:
        """Return the interquartile mean on one skill, resampled over the seeds."""
        column = self.skills.index(skill)
        return stratified_bootstrap(self.final_scores(curriculum)[:, [column]], statistic="iqm")

    def intervals(self, curriculum: str) -> dict[str, Interval]:
        """Return the intervals of a table by column: every skill, then all of them together."""
        found = {skill: self.on_skill(curriculum, skill) for skill in self.skills}
        together = (self.overall(curriculum), self.mean(curriculum), self.weakest(curriculum))
        return {**found, **dict(zip(AGGREGATES, together, strict=True))}

    def forgetting(self, curriculum: str) -> Interval | None:
        """Return mean forgetting over the seeds, normalized by the shared experts; None without an old skill.

        It is negative if old skills improved after they were added, as they do in joint training.
        """
        matrices = [run.matrix.with_experts(self.experts) for run in self.of(curriculum)]
        values = [-m.backward_transfer for m in matrices if m.backward_transfer is not None]
        return stratified_bootstrap(np.array(values)[:, None], statistic="mean") if values else None

    @property
    def warning(self) -> str:
        """Warning about a small number of seeds; empty from five seeds on."""
        return few_seeds(len(self.seeds))

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and the intervals that derive from them."""
        summary = {
            name: {
                **{column: asdict(found[column]) for column in AGGREGATES},
                "skills": {skill: asdict(found[skill]) for skill in self.skills},
                "success": dict(zip(self.skills, self.final_success(name).mean(axis=0).tolist(), strict=True)),
                "forgetting": None if (forgotten := self.forgetting(name)) is None else asdict(forgotten),
            }
            for name, found in ((name, self.intervals(name)) for name in self.curricula)
        }
        runs = [{**asdict(run), "matrix": run.matrix.to_json()} for run in self.runs]
        head = {"format_version": FORMAT_VERSION, "policykd_version": __version__, "warning": self.warning}
        body = {name: as_plain(getattr(self, name)) for name in ("curricula", "seeds", "skills", "budget", "experts")}
        return {**head, "recipe": as_plain(self.recipe), **body, "summary": summary, "runs": runs}

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read a JSON file that :func:`run_comparison` wrote.

        Raises:
            OutputError: if it is not a comparison, naming the file.
        """
        try:
            content = versioned(read_json(path), FORMAT_VERSION, str(path))
        except FileNotFoundError:
            raise OutputError(f"there is no finished comparison at {path}") from None

        def invalid(reason: str) -> OutputError:
            return OutputError(f"{path} is not a valid comparison: {reason}")

        recipe = from_plain(Recipe, content.get("recipe"), "recipe", error=invalid)
        return from_plain(cls, {**content, "recipe": recipe}, error=invalid, strict=True, ignore_unknown=True)


@dataclass(frozen=True)
class _Job:
    recipe: Recipe
    seed: int
    out: Path
    siblings: tuple[Path, ...]


def run_comparison(
    recipe: Recipe,
    out: Path,
    *,
    curricula: Sequence[str] | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    threads: int | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    progress: Progress = Silent(),
    on_seed: Callable[[Comparison], None] = ignore,
) -> Comparison:
    """Run every curriculum with every seed, each on one core, and compare the final policies.

    Every run spends its whole budget: nothing stops early, and weak experts are merged as well, so that the curricula
    are compared at equal cost. A training that several curricula have in common is run once and counted for each.

    Args:
        recipe: recipe that all curricula share; its ``curriculum``, ``early_stop`` and ``merge.min_teacher_success``
            are replaced.
        out: folder; the runs are in ``out / "runs" / "<curriculum>-<seed>"``.
        curricula: names of the curricula; None for :func:`compared_curricula`.
        seeds: number of seeds, ``first_seed`` to ``first_seed + seeds - 1``.
        first_seed: the first seed; others than 0 are for seeds that another machine runs, see
            :func:`policykd.curriculum.joining.join_comparisons`.
        threads: runs in parallel; None for one per usable core.
        executor: where the runs go, one core each; None for processes of this machine.
        resume: continue an interrupted comparison; finished runs are not run again, and seeds may be added.
        progress: progress reporter.
        on_seed: called with the comparison of all complete seeds after each new one.

    Returns:
        The comparison, also written to ``out / "comparison.json"``.

    Raises:
        UnknownNameError: for an unknown curriculum.
        ConfigError: for no curriculum, one given twice, no seed, or another recipe in ``out``.
        ContractError: before anything is run, if the skills cannot share a policy.
        OutputError: if ``out`` cannot be written, or holds a comparison and ``resume`` is off.
    """
    check_range("seeds", seeds, 1, 1000)
    check_range("first_seed", first_seed, 0, 2**31)
    all_seeds = range(first_seed, first_seed + seeds)
    curricula = compared_curricula() if curricula is None else tuple(curricula)
    recipes = _recipes(recipe, curricula)
    shared = recipes[curricula[0]]
    prepare_folder(out, megabytes=1000)
    folder = RunFolder(out, {"recipe": replace(shared, curriculum=DEFAULT_CURRICULUM)}, resume)
    # Seed by seed, so that an interrupted comparison has complete seeds.
    jobs = []
    for seed in all_seeds:
        folders = {name: run_folder(out, name, seed) for name in recipes}
        jobs += [_Job(one, seed, folders[name], _others(folders, name)) for name, one in recipes.items()]
    collector = _Collector(shared, curricula, all_seeds, folder, on_seed)
    # Processes that share a card take turns, and each compiles its kernels.
    usual = Inline() if is_card(recipe.train.device) else Processes(threads)
    (executor or usual).map(_run_one, jobs, progress, collector)
    return collector.comparison


def _recipes(recipe: Recipe, curricula: Sequence[str]) -> dict[str, Recipe]:
    """Return the recipe of every curriculum, after checking that they can be compared."""
    for name in curricula:
        CURRICULA.resolve(name)
    if not curricula or len(set(curricula)) != len(curricula):
        raise ConfigError(f"curricula are {list(curricula)}; name at least one, each once")
    # A weak expert is a result of a comparison and does not stop it.
    unstopped = replace(recipe, early_stop=False, merge=replace(recipe.merge, min_teacher_success=0.0))
    recipes = {name: replace(unstopped, curriculum=name) for name in curricula}
    for one in recipes.values():
        make_plan(one, 0)
    return recipes


def _run_one(job: _Job, progress: Progress) -> Path:
    named = Named(progress, f"{job.recipe.curriculum} {job.seed}")
    run_curriculum(job.recipe, job.out, seed=job.seed, threads=1, resume=True, siblings=job.siblings, progress=named)
    return job.out


def run_folder(out: Path, curriculum: str, seed: int) -> Path:
    """Return the folder of one curriculum with one seed in the folder of a comparison."""
    return out / "runs" / f"{curriculum}-{seed}"


def _others(folders: Mapping[str, Path], name: str) -> tuple[Path, ...]:
    return tuple(folder for other, folder in folders.items() if other != name)


class _Collector:
    """Writes ``comparison.json`` with the seeds that all curricula have finished; called after every run."""

    def __init__(
        self,
        recipe: Recipe,
        curricula: tuple[str, ...],
        seeds: Sequence[int],
        folder: RunFolder,
        on_seed: Callable[[Comparison], None],
    ) -> None:
        self._recipe, self._curricula, self._seeds, self._folder = recipe, curricula, seeds, folder
        self._on_seed = on_seed
        self._collected: Comparison | None = None

    def __call__(self, _: Path) -> None:
        complete = tuple(seed for seed in self._seeds if self._is_complete(seed))
        if complete and (self._collected is None or self._collected.seeds != complete):
            self._collected = _collect(self._recipe, self._curricula, complete, self._folder.path)
            write_json(self._folder.path / COMPARISON, self._collected.to_json())
            self._on_seed(self._collected)

    def _is_complete(self, seed: int) -> bool:
        return all((run_folder(self._folder.path, name, seed) / RESULT).exists() for name in self._curricula)

    @property
    def comparison(self) -> Comparison:
        """The comparison of all seeds, after every run."""
        assert self._collected is not None
        return self._collected


def _collect(recipe: Recipe, curricula: tuple[str, ...], seeds: tuple[int, ...], out: Path) -> Comparison:
    folders = {(name, seed): run_folder(out, name, seed) for name in curricula for seed in seeds}
    results = {key: CurriculumResult.load(folder / RESULT) for key, folder in folders.items()}
    runs = []
    for (name, seed), result in results.items():
        scratch = folders.get((_SCRATCH, seed))
        transfer = {} if scratch is None else _transfer(result, folders[name, seed], scratch)
        own = dict(zip(result.matrix.skills, result.matrix.experts, strict=True)) if result.experts else {}
        figures = (result.steps, result.seconds, result.cpu_seconds)
        runs.append(SeedResult(name, seed, result.matrix, *figures, own, result.zero_shot, transfer))
    skills = runs[0].matrix.skills
    return Comparison(recipe, curricula, seeds, skills, budget(recipe), shared_experts(runs, skills), tuple(runs))


def shared_experts(runs: Sequence[SeedResult], skills: Sequence[str]) -> tuple[float, ...]:
    """Return the reward per step, per skill, that the scores of these runs are normalized by."""
    for name in dict.fromkeys([*_REFERENCE_CURRICULA, *CURRICULA, *(run.curriculum for run in runs)]):
        chosen = [run for run in runs if run.curriculum == name]
        if chosen:
            return tuple(float(np.mean([run.matrix.experts[j] for run in chosen])) for j in range(len(skills)))
    raise ConfigError("no run was finished, so there is no expert to normalize scores by")


def _transfer(result: CurriculumResult, folder: Path, scratch: Path) -> dict[str, float]:
    """Return the forward transfer of every skill that was learned alone from an earlier policy."""
    found = {}
    reference = CurriculumResult.load(scratch / RESULT)
    matrix = result.matrix
    for j, (skill, stage) in enumerate(result.experts.items()):
        first = next(outcome for outcome in result.outcomes if outcome.name == stage)
        if matrix.learned[j] == 0:  # no policy was measured before it
            continue
        mine, theirs = (
            curve_of(StageFolders(place / "stages").log(name))
            for place, name in ((folder, stage), (scratch, reference.experts[skill]))
        )
        # Curves may pass the expert of another seed; the area is only defined up to it.
        floor = float(matrix.floor[j])
        ceiling = (max(score for _, score in [*mine, *theirs]) - floor) * 1.0001
        start, untrained = (
            (score - floor) / ceiling for score in (matrix.scores[matrix.learned[j] - 1][j], matrix.untrained[j])
        )
        ours, other = ([(steps, (score - floor) / ceiling) for steps, score in curve] for curve in (mine, theirs))
        budget_ = min(first.steps, max(steps for steps, _ in theirs))
        found[skill] = forward_transfer(ours, other, budget_, start=start, scratch_start=untrained)
    return found
