"""Compare curricula at equal budgets over several seeds: every seed's values are kept, intervals derive from them.

Policies of all curricula and seeds walk the same tracks. Scores are normalised by one expert per skill that all
curricula share: the mean over the seeds of the experts that ``scratch+merge`` trains, or of ``plaid``'s where it does
not take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from policykd import __version__
from policykd.curriculum.plans import budget, make_plan
from policykd.curriculum.recipe import CURRICULA, Recipe
from policykd.curriculum.records import CurriculumResult
from policykd.curriculum.run import run_curriculum
from policykd.curriculum.work import StageFolders
from policykd.errors import ConfigError, OutputError, UnknownNameError, check_range
from policykd.evaluation.curves import curve_of, forward_transfer
from policykd.evaluation.matrix import SkillMatrix
from policykd.executor import Processes
from policykd.progress import Named, Progress, Silent
from policykd.runs import RunFolder, as_plain, read_log
from policykd.stats import Interval, few_seeds, stratified_bootstrap
from policykd.storage import prepare_folder, read_json, write_json

FORMAT_VERSION = 1
AGGREGATES = ("overall", "mean", "weakest skill")
"""Columns over all skills: :meth:`Comparison.overall`, :meth:`Comparison.mean` and :meth:`Comparison.weakest`."""

_YARDSTICKS = ("scratch+merge", "plaid", "tl-only")


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
        experts: skill id to reward per step of its own experts; empty where nobody learns a skill alone.
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
        recipe: what all curricula share.
        curricula: their names.
        seeds: the seeds.
        skills: ids of the skills.
        budget: environment steps that each run may use.
        experts: reward per step that scores are normalised by, per skill.
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
        """The runs of one curriculum, by seed.

        Raises:
            UnknownNameError: for a curriculum that was not compared.
        """
        if curriculum not in self.curricula:
            raise UnknownNameError("compared curriculum", curriculum, self.curricula)
        return [run for run in self.runs if run.curriculum == curriculum]

    def final_scores(self, curriculum: str) -> np.ndarray:
        """(seeds, skills) rewards per step of the final policies over the shared experts'."""
        return np.array([run.matrix.scores[-1] for run in self.of(curriculum)]) / np.array(self.experts)

    def final_success(self, curriculum: str) -> np.ndarray:
        """(seeds, skills) success of the final policies."""
        return np.array([run.matrix.success[-1] for run in self.of(curriculum)])

    def overall(self, curriculum: str) -> Interval:
        """Interquartile mean of the normalised scores over seeds and skills, with its stratified 95 % interval."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="iqm")

    def mean(self, curriculum: str) -> Interval:
        """Mean in place of the interquartile mean, which leaves out a skill that was lost."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="mean")

    def weakest(self, curriculum: str) -> Interval:
        """Score of every policy's weakest skill: mean over the seeds."""
        return stratified_bootstrap(self.final_scores(curriculum).min(axis=1, keepdims=True), statistic="mean")

    def on_skill(self, curriculum: str, skill: str) -> Interval:
        """Interquartile mean on one skill: resampled over the seeds."""
        column = self.skills.index(skill)
        return stratified_bootstrap(self.final_scores(curriculum)[:, [column]], statistic="iqm")

    def intervals(self, curriculum: str) -> dict[str, Interval]:
        """What tables say of a curriculum, by the name of the column: every skill, then all of them together."""
        found = {skill: self.on_skill(curriculum, skill) for skill in self.skills}
        together = (self.overall(curriculum), self.mean(curriculum), self.weakest(curriculum))
        return {**found, **dict(zip(AGGREGATES, together, strict=True))}

    def forgetting(self, curriculum: str) -> Interval | None:
        """Mean forgetting over the seeds, normalised by the shared experts; None without an old skill.

        Below zero where old skills became better since they were added, as joint training goes on to do.
        """
        matrices = [run.matrix.with_experts(self.experts) for run in self.of(curriculum)]
        values = [-m.backward_transfer for m in matrices if m.backward_transfer is not None]
        return stratified_bootstrap(np.array(values)[:, None], statistic="mean") if values else None

    @property
    def warning(self) -> str:
        """What to keep in mind about the number of seeds; empty from five on."""
        return few_seeds(len(self.seeds))

    def to_json(self) -> dict[str, Any]:
        """Everything, with the intervals for readers who only want those."""
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
            OutputError: if it is no comparison, naming it.
        """
        from policykd.curriculum.yaml_files import from_plain

        content = read_json(path)
        if content.get("format_version") != FORMAT_VERSION:
            raise OutputError(f"{path} is no comparison of format {FORMAT_VERSION}")
        try:
            runs = [SeedResult(**{**run, "matrix": SkillMatrix.from_json(run["matrix"])}) for run in content["runs"]]
            lists = {name: tuple(content[name]) for name in ("curricula", "seeds", "skills", "experts")}
            recipe = from_plain(Recipe, content["recipe"], "recipe")
            return cls(recipe=recipe, budget=content["budget"], runs=tuple(runs), **lists)
        except (KeyError, TypeError) as error:
            raise OutputError(f"{path} lacks or garbles {error}") from None


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
) -> Comparison:
    """Run every curriculum with every seed, each on one core, and compare the final policies.

    Every run spends its whole budget: nothing stops early, so that the curricula are compared at equal cost. A training
    that several curricula have in common is run once and counted for each.

    Args:
        recipe: what all curricula share; its ``curriculum`` and ``early_stop`` are replaced.
        out: folder; runs live in ``out / "runs" / "<curriculum>-<seed>"``.
        curricula: names of the curricula.
        seeds: number of seeds, 0 to ``seeds - 1``.
        threads: runs side by side; None for one per usable core.
        resume: continue what is there; finished runs are not run again, and seeds may be added.
        progress: who watches.

    Returns:
        The comparison, also written to ``out / "comparison.json"``.

    Raises:
        UnknownNameError: for an unknown curriculum.
        ConfigError: for no curriculum, one given twice, no seed, or another recipe in ``out``.
        ContractError: before anything is run, if the skills cannot share a policy.
        OutputError: if ``out`` cannot be written, or holds a comparison and ``resume`` is off.
    """
    check_range("seeds", seeds, 1, 1000)
    for name in curricula:
        if name not in CURRICULA:
            raise UnknownNameError("curriculum", name, CURRICULA)
    if not curricula or len(set(curricula)) != len(curricula):
        raise ConfigError(f"curricula are {list(curricula)}; name at least one, each once")
    shared = replace(recipe, early_stop=False, curriculum=curricula[0])
    recipes = {name: replace(shared, curriculum=name) for name in curricula}
    for one in recipes.values():
        make_plan(one, 0)
    prepare_folder(out, megabytes=1000)
    RunFolder(out, {"recipe": replace(shared, curriculum=CURRICULA[0])}, resume)
    # Seed by seed, so that a comparison that is stopped early has whole seeds.
    jobs = []
    for seed in range(seeds):
        places = {name: out / "runs" / f"{name}-{seed}" for name in recipes}
        jobs += [_Job(one, seed, places[name], _others(places, name)) for name, one in recipes.items()]
    Processes(threads).map(_run_one, jobs, progress)
    comparison = _collect(shared, tuple(curricula), tuple(range(seeds)), out)
    write_json(out / "comparison.json", comparison.to_json())
    return comparison


def _run_one(job: _Job, progress: Progress) -> Path:
    watched = Named(progress, f"{job.recipe.curriculum} {job.seed}")
    run_curriculum(job.recipe, job.out, seed=job.seed, threads=1, resume=True, twins=job.twins, progress=watched)
    return job.out


def _others(places: Mapping[str, Path], name: str) -> tuple[Path, ...]:
    return tuple(place for other, place in places.items() if other != name)


def _collect(recipe: Recipe, curricula: tuple[str, ...], seeds: tuple[int, ...], out: Path) -> Comparison:
    folders = {(name, seed): out / "runs" / f"{name}-{seed}" for name in curricula for seed in seeds}
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
