"""Comparisons without runs: jobs, shared experts, transfer, the file, and suites as recipes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_curriculum import TINY

from policykd.curriculum import CURRICULA, Injection, Measurement, SkillPlan, compared_curricula, preset
from policykd.curriculum import comparison as comparisons
from policykd.curriculum.comparison import (
    Comparison,
    SeedResult,
    _collect,
    _Collector,
    _recipes,
    _run_one,
    _transfer,
    run_comparison,
    run_folder,
    shared_experts,
)
from policykd.curriculum.presets import for_suite
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.result import CurriculumResult
from policykd.curriculum.stages import Outcome
from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.evaluation.curves import forward_transfer
from policykd.evaluation.matrix import SkillMatrix
from policykd.progress import Silent
from policykd.runs import RunFolder
from policykd.stats import stratified_bootstrap

BOTH = replace(TINY, skills=TINY.skills[:2], injection=Injection(blind=0))
SKILLS = ("biped/flat", "biped/incline")


def interval(values, statistic="iqm"):
    """A stratified interval of few resamples."""
    return stratified_bootstrap(values, statistic=statistic, resamples=100)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(comparisons, "stratified_bootstrap", interval)


def matrix(first=0.5, last=0.6, experts=(0.5, 0.4)):
    return SkillMatrix(
        ("flat", "incline"),
        SKILLS,
        ((first, 0.1), (last, 0.3)),
        ((1.0, 0.0), (0.5, 0.75)),
        experts,
        (0.1, 0.05),
        (0, 1),
    )


def run(curriculum, seed, **scores):
    return SeedResult(curriculum, seed, matrix(**scores), 10, 1.5, 2.5, {}, {}, {})


class Jobs:
    """Stands in for processes: notes the jobs and finishes them one by one."""

    def __init__(self, finish=lambda job: None):
        self.jobs, self.workers, self._finish = [], None, finish

    def __call__(self, workers):
        self.workers = workers
        return self

    def map(self, work, jobs, progress, on_result):
        self.work, self.jobs = work, jobs
        for job in jobs:
            self._finish(job)
            on_result(job.out)


def finished(out, curriculum, seed, *, first=0.5, experts=None, logs=None):
    """Write what a finished run leaves behind."""
    stages = {"biped/flat": "train-flat", "biped/incline": "train-incline"} if experts is None else experts
    outcomes = tuple(Outcome(name, "train", 40, 1.0, 2.0, {}) for name in stages.values())
    recipe = replace(BOTH, curriculum=curriculum)
    scores = {"biped/walls": {"success": 0.5, "reward_per_step": 0.25}}
    measured = matrix(first)
    if curriculum == "scratch+merge":  # one policy is measured, which learned all skills at once
        last = {"scores": measured.scores[1:], "success": measured.success[1:]}
        measured = replace(measured, stages=("incline",), learned=(0, 0), **last)
    found = CurriculumResult(recipe, seed, measured, outcomes, "last", stages, scores, {}, 99)
    folder = run_folder(out, curriculum, seed)
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "curriculum.json")
    for name, curve in (logs or {}).items():
        (folder / "stages" / name).mkdir(parents=True)
        rows = (json.dumps({"steps": s, "reward_per_step": r}) + "\n" for s, r in curve)
        (folder / "stages" / name / "progress.jsonl").write_text("".join(rows))
    return folder


LOGS = {"train-flat": [(20, 0.2), (40, 0.4)], "train-incline": [(20, 0.3), (40, 0.4)]}
SCRATCH = {"train-flat": [(20, 0.1), (40, 0.2)], "train-incline": [(20, 0.1), (30, 0.2)]}


def test_jobs_are_seed_by_seed_with_the_other_curricula_as_siblings(monkeypatch, tmp_path):
    jobs = Jobs(lambda job: finished(tmp_path, job.recipe.curriculum, job.seed, logs=LOGS))
    monkeypatch.setattr(comparisons, "Processes", jobs)
    told = []
    found = run_comparison(BOTH, tmp_path, curricula=("plaid", "tl-only"), seeds=2, threads=3, on_seed=told.append)
    assert jobs.workers == 3
    assert jobs.work is _run_one
    assert [(j.recipe.curriculum, j.seed, j.out, j.siblings) for j in jobs.jobs] == [
        (name, seed, tmp_path / "runs" / f"{name}-{seed}", (tmp_path / "runs" / f"{other}-{seed}",))
        for seed in (0, 1)
        for name, other in (("plaid", "tl-only"), ("tl-only", "plaid"))
    ]
    assert [one.seeds for one in told] == [(0,), (0, 1)]
    assert found == told[-1] == Comparison.load(tmp_path / "comparison.json")
    assert (found.curricula, found.skills, found.budget) == (("plaid", "tl-only"), SKILLS, comparisons.budget(BOTH))
    monkeypatch.setattr(comparisons, "Processes", Jobs())
    again = run_comparison(BOTH, tmp_path, curricula=("plaid", "tl-only"), seeds=2, resume=True)
    assert again == found
    with pytest.raises(OutputError, match="--resume"):
        run_comparison(BOTH, tmp_path, curricula=("plaid", "tl-only"), seeds=2)


def test_runs_on_a_card_take_turns(monkeypatch, tmp_path):
    monkeypatch.setattr(comparisons, "Processes", lambda workers: pytest.fail("processes share the card"))
    run = lambda job, progress: finished(tmp_path, job.recipe.curriculum, job.seed, logs=LOGS)  # noqa: E731
    monkeypatch.setattr(comparisons, "_run_one", run)
    found = run_comparison(BOTH.on_device("cuda"), tmp_path, curricula=("plaid", "tl-only"), seeds=2)
    assert found.seeds == (0, 1)


def test_without_names_the_compared_curricula_run(monkeypatch, tmp_path):
    jobs = Jobs(lambda job: finished(tmp_path, job.recipe.curriculum, job.seed, logs=LOGS))
    monkeypatch.setattr(comparisons, "Processes", jobs)
    assert run_comparison(BOTH, tmp_path, seeds=1).curricula == compared_curricula()
    assert [job.recipe.curriculum for job in jobs.jobs] == list(compared_curricula())


@pytest.mark.parametrize(("seeds", "refused"), [(0, True), (1000, False), (1001, True)])
def test_the_number_of_seeds_is_limited(monkeypatch, tmp_path, seeds, refused):
    def stop(workers):
        raise RuntimeError("about to run")

    monkeypatch.setattr(comparisons, "Processes", stop)
    error = (ConfigError, r"seeds .*\[1, 1000\]") if refused else (RuntimeError, "about to run")
    with pytest.raises(error[0], match=error[1]):
        run_comparison(BOTH, tmp_path, curricula=("plaid",), seeds=seeds)


def test_seeds_from_another_one_on(monkeypatch, tmp_path):
    jobs = Jobs(lambda job: finished(tmp_path, job.recipe.curriculum, job.seed, logs=LOGS))
    monkeypatch.setattr(comparisons, "Processes", jobs)
    found = run_comparison(BOTH, tmp_path, curricula=("plaid", "tl-only"), seeds=2, first_seed=3)
    assert (found.seeds, [job.seed for job in jobs.jobs]) == ((3, 4), [3, 3, 4, 4])
    with pytest.raises(ConfigError, match="first_seed"):
        run_comparison(BOTH, tmp_path / "other", seeds=1, first_seed=-1)


def test_compared_recipes_spend_all_and_refuse_no_expert():
    weak = replace(BOTH, merge=replace(BOTH.merge, min_teacher_success=0.9))
    found = _recipes(weak, ("plaid", "tl-only"))
    merge = replace(BOTH.merge, min_teacher_success=0.0)
    for name in ("plaid", "tl-only"):
        assert found[name] == replace(BOTH, curriculum=name, early_stop=False, merge=merge)
    for names in ((), ("plaid", "plaid")):
        with pytest.raises(ConfigError, match="each once"):
            _recipes(BOTH, names)
    with pytest.raises(UnknownNameError, match="biped/inclines"):
        _recipes(replace(BOTH, skills=(SkillPlan("biped/inclines"),)), ("plaid",))


def test_a_job_runs_on_one_core_and_goes_on_where_it_was(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(comparisons, "run_curriculum", lambda *args, **options: seen.append((args, options)))
    told = []

    class Told(Silent):
        def end(self, name, message=""):
            told.append(name)

    job = comparisons._Job(BOTH, 3, tmp_path, (tmp_path / "other",))
    assert _run_one(job, Told()) == tmp_path
    ((args, options),) = seen
    options.pop("progress").end("train")
    assert told == ["plaid 3: train"]
    assert args == (BOTH, tmp_path)
    assert options == {"seed": 3, "threads": 1, "resume": True, "siblings": (tmp_path / "other",)}


def test_a_seed_counts_once_all_curricula_have_finished_it(tmp_path):
    told = []
    folder = RunFolder(tmp_path, {}, False)
    collect = _Collector(BOTH, ("plaid", "tl-only"), (0, 1), folder, told.append)
    collect(finished(tmp_path, "plaid", 1))
    assert not (tmp_path / "comparison.json").exists()
    collect(finished(tmp_path, "tl-only", 1))
    collect(tmp_path)
    assert [one.seeds for one in told] == [(1,)]
    collect(finished(tmp_path, "plaid", 0))
    collect(finished(tmp_path, "tl-only", 0))
    assert [one.seeds for one in told] == [(1,), (0, 1)]
    assert collect.comparison is told[-1]


def test_collected_runs_hold_cost_own_experts_and_transfer(tmp_path):
    finished(tmp_path, "plaid", 0, first=0.2, logs=LOGS)
    finished(tmp_path, "scratch+merge", 0, logs=SCRATCH)
    found = _collect(BOTH, ("plaid", "scratch+merge"), (0,), tmp_path)
    plaid, scratch = found.runs
    assert (plaid.curriculum, plaid.seed, plaid.steps, plaid.seconds, plaid.cpu_seconds) == ("plaid", 0, 80, 2.0, 4.0)
    assert plaid.experts == {"biped/flat": 0.5, "biped/incline": 0.4}
    assert plaid.zero_shot == {"biped/walls": {"success": 0.5, "reward_per_step": 0.25}}
    top = 0.4 * 1.0001  # highest score of both curves
    mine, theirs = ([(s, r / top) for s, r in curves["train-incline"]] for curves in (LOGS, SCRATCH))
    expected = forward_transfer(mine, theirs, 30, start=0.1 / top, scratch_start=0.05 / top)
    assert plaid.transfer == {"biped/incline": pytest.approx(expected)}
    assert scratch.transfer == {}
    alone = _collect(BOTH, ("plaid",), (0,), tmp_path)
    assert alone.runs[0].transfer == {}
    finished(tmp_path, "multitasker", 0, experts={})
    together = _collect(BOTH, ("multitasker",), (0,), tmp_path)
    assert together.runs[0].experts == {}


def test_the_budget_of_a_transfer_is_the_shorter_of_both_trainings(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(comparisons, "forward_transfer", lambda ours, other, budget, **_: seen.append(budget) or 0.0)
    ours = finished(tmp_path, "plaid", 0, logs=LOGS)
    for last, expected in ((30, 30), (900, 40)):
        theirs = finished(
            tmp_path / str(last), "scratch+merge", 0, logs={**SCRATCH, "train-incline": [(20, 0.1), (last, 0.2)]}
        )
        _transfer(CurriculumResult.load(ours / "curriculum.json"), ours, theirs)
        assert seen.pop() == expected


def test_scores_are_normalized_by_the_first_reference_that_was_compared():
    runs = [
        run("tl-only", 0, experts=(0.1, 0.2)),
        run("plaid", 0, experts=(0.3, 0.5)),
        run("plaid", 1, experts=(0.5, 0.9)),
        run("multitasker", 0, experts=(0.7, 0.8)),
    ]
    assert shared_experts([*runs, run("scratch+merge", 0, experts=(0.2, 0.6))], SKILLS) == (0.2, 0.6)
    assert shared_experts(runs, SKILLS) == pytest.approx((0.4, 0.7))
    assert shared_experts([runs[0], runs[3]], SKILLS) == (0.1, 0.2)
    assert shared_experts([runs[3], run("own", 0, experts=(0.9, 0.9))], SKILLS) == (0.7, 0.8)
    assert shared_experts([run("own", 0, experts=(0.9, 0.8))], SKILLS) == (0.9, 0.8)
    with pytest.raises(ConfigError, match="no run was finished"):
        shared_experts([], SKILLS)


def test_the_file_holds_every_interval(tmp_path):
    runs = tuple(run("plaid", seed, first=0.4 + 0.1 * seed, last=0.3 + 0.05 * seed) for seed in range(3))
    found = Comparison(BOTH, ("plaid",), (0, 1, 2), SKILLS, 77, (0.5, 0.4), runs)
    scores = np.array([[0.3 + 0.05 * seed, 0.3] for seed in range(3)]) / np.array([0.5, 0.4])
    assert found.final_scores("plaid") == pytest.approx(scores)
    content = found.to_json()
    assert (content["format_version"], content["budget"], content["warning"][:12]) == (1, 77, "only 3 seeds")
    summary = content["summary"]["plaid"]

    def expected(values, statistic):
        found = interval(values, statistic)
        return pytest.approx({"estimate": found.estimate, "low": found.low, "high": found.high, "confidence": 0.95})

    assert summary["overall"] == expected(scores, "iqm")
    assert summary["mean"] == expected(scores, "mean")
    assert summary["weakest skill"] == expected(scores.min(axis=1)[:, None], "mean")
    assert summary["skills"] == {s: expected(scores[:, [j]], "iqm") for j, s in enumerate(SKILLS)}
    assert summary["success"] == {"biped/flat": 0.5, "biped/incline": 0.75}
    forgotten = np.array([[(0.4 + 0.1 * seed) - (0.3 + 0.05 * seed)] for seed in range(3)]) / 0.5
    assert summary["forgetting"] == expected(forgotten, "mean")
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert Comparison.load(tmp_path / "c.json") == found
    (tmp_path / "c.json").write_text(json.dumps({**content, "note": "later"}))
    assert Comparison.load(tmp_path / "c.json") == found
    for bad in (
        {**content, "experts": ["0.5", 0.4]},
        {k: v for k, v in content.items() if k != "runs"},
        {**content, "recipe": 1},
    ):
        (tmp_path / "c.json").write_text(json.dumps(bad))
        with pytest.raises(OutputError, match=r"c\.json is not a valid comparison"):
            Comparison.load(tmp_path / "c.json")


def test_one_row_has_no_forgetting():
    single = SkillMatrix(("all",), SKILLS, ((0.5, 0.3),), ((1.0, 1.0),), (0.5, 0.4), (0.1, 0.1), (0, 0))
    runs = (SeedResult("multitasker-joint", 0, single, 1, 1.0, 1.0, {}, {}, {}),)
    found = Comparison(BOTH, ("multitasker-joint",), (0,), SKILLS, 77, (0.5, 0.4), runs)
    assert found.forgetting("multitasker-joint") is None
    assert found.to_json()["summary"]["multitasker-joint"]["forgetting"] is None


def test_a_suite_of_other_groups_takes_no_setting_of_the_recipe():
    standard = preset("standard")
    gaits = for_suite(standard, "gaits")
    assert gaits.injection.blind == 0
    first, *others = gaits.injection.blind_groups + gaits.injection.groups
    assert gaits.injection == Injection(0, (first,), tuple(others))
    assert gaits.measurement == replace(standard.measurement, zero_shot=())
    assert {(plan.steps, plan.target_success, plan.start_level) for plan in gaits.skills} == {(1_200_000, 0.95, None)}
    assert (gaits.train, gaits.merge, gaits.transfer_noise) == (standard.train, standard.merge, standard.transfer_noise)
    assert gaits.skill_records is None


def test_a_suite_keeps_the_settings_of_skills_that_the_recipe_has():
    mine = replace(
        preset("quick"), skills=(SkillPlan("biped/steps", 77), SkillPlan("biped/flat", 88)), skill_records=None
    )
    found = for_suite(mine, "terrains")
    assert {plan.skill: plan.steps for plan in found.skills if plan.steps != 1_200_000} == {
        "biped/steps": 77, "biped/flat": 88,
    }  # fmt: skip
    assert found.injection == mine.injection  # walking on the paper's terrains begins blind
    hard = for_suite(mine, "terrains-hard")
    assert hard.injection.blind == 0


def test_suites_in_space_are_recipes_of_their_own():
    other = for_suite(replace(preset("quick"), curriculum="tl-only"), "quadruped")
    assert other == replace(preset("quadruped"), curriculum="tl-only")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkillPlan("a", 0), "steps of a is 0"),
        (lambda: SkillPlan("a", 10**12 + 1), "steps of a"),
        (lambda: SkillPlan("a", target_success=-0.01), "target_success of a"),
        (lambda: SkillPlan("a", target_success=2.01), "target_success of a"),
        (lambda: SkillPlan("a", start_level=0.009), "start_level of a"),
        (lambda: SkillPlan("a", start_level=1.01), "start_level of a"),
        (lambda: Injection(-1), "injection.blind"),
        (lambda: Injection(1001), "injection.blind"),
        (lambda: Injection(scale=-0.1), "injection.scale"),
        (lambda: Injection(scale=1.1), "injection.scale"),
        (lambda: Injection(groups=()), "must name at least one"),
        (lambda: Injection(blind_groups=()), "must name at least one"),
        (lambda: Measurement(episodes=0), "measurement.episodes"),
        (lambda: Measurement(episodes=100_001), "measurement.episodes"),
        (lambda: Measurement(seed=-1), "measurement.seed"),
        (lambda: Measurement(seed=2**63), "measurement.seed"),
        (lambda: replace(BOTH, injection=Injection(blind=3)), "injection.blind"),
        (lambda: replace(BOTH, transfer_noise=9e-4), "transfer_noise"),
        (lambda: replace(BOTH, transfer_noise=10.1), "transfer_noise"),
        (lambda: replace(BOTH, skills=()), "at least one"),
        (lambda: Recipe(BOTH.skills, injection=Injection(0), merge=BOTH.merge), "merge.architecture differs"),
    ],
)
def test_fields_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        make()


def test_limits_themselves_are_allowed():
    SkillPlan("a", 1, 0.0, 0.01)
    SkillPlan("a", 10**12, 2.0, 1.0)
    assert Injection(0, groups=()).groups == ()
    Injection(1000, scale=0.0)
    Injection(0, scale=1.0)
    Measurement(1, 0)
    Measurement(100_000, 2**63 - 1)
    replace(BOTH, transfer_noise=1e-3, injection=Injection(blind=2))
    replace(BOTH, transfer_noise=10.0)
    replace(BOTH, skill_records={"biped/walls": {}})  # also a skill without training
    assert not replace(BOTH, curriculum="not_imported:yet").keep_data
    assert "plaid" in CURRICULA
