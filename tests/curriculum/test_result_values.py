"""Results of finished stages: matrices, costs, evaluations and added skills, written out by hand."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from stage_samples import CELL, FLAT, GAPS, Loaded, store, train
from tiny_curriculum import TINY

from policykd.curriculum import load_recipe, make_plan, runner
from policykd.curriculum import result as results
from policykd.curriculum.add_skill import AddedSkill, _plain
from policykd.curriculum.comparison import run_comparison
from policykd.curriculum.result import (
    CurriculumResult,
    _learned,
    collect_result,
    matrix_of,
    merged_evaluation,
    outcomes_of,
)
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Measure, Merge, Outcome, Plan, Row, Train
from policykd.errors import ConfigError, OutputError
from policykd.evaluation.results import Evaluation
from policykd.storage import read_json

adding = sys.modules[AddedSkill.__module__]  # the package names the function of the same name

# Two stages on two skills and one that nothing was trained on; every score is written out.
PLAN = Plan(
    stages=(
        Measure("measure-untrained", None, (FLAT, GAPS), 2, 0),
        train("a"), Measure("measure-a", "a", (FLAT, GAPS), 2, 0),
        train("b"), Measure("measure-b", "b", (FLAT, GAPS), 2, 0),
        Merge("merge", (FLAT, GAPS), ("a", "b"), TINY.merge), Measure("measure-merge", "merge", (FLAT, GAPS), 2, 0),
    ),
    rows=(Row("flat", "a"), Row("gaps", "merge")),
    experts={"biped/flat": "a", "biped/gaps": "b"},
    columns=("biped/flat", "biped/gaps"),
)  # fmt: skip
SCORES = {
    "measure-untrained": (0.05, 0.02),
    "measure-a": (0.5, 0.1),
    "measure-b": (0.3, 0.4),
    "measure-merge": (0.6, 0.35),
}


def figures(name):
    flat, gaps = SCORES[name]
    walls = {"biped/walls": 0.2} if name == "measure-merge" else {}
    reward = {"biped/flat": flat, "biped/gaps": gaps, **walls}
    return {"reward_per_step": reward, "success": {skill: value / 2 for skill, value in reward.items()}}


@pytest.fixture
def folder(tmp_path):
    """The finished stages of ``PLAN``."""
    for number, stage in enumerate(PLAN.stages):
        found = figures(stage.name) if stage.name in SCORES else {}
        outcome = Outcome(stage.name, stage.kind, 10 * number, 1.0 + number, 2.0 + number, found)
        store(tmp_path / "stages" / stage.name / "stage.json", outcome.__dict__)
        if stage.name in SCORES:
            evaluation = Evaluation((stage.name[8:],), PLAN.columns, 2, 0, False, dict.fromkeys(PLAN.columns, 4))
            evaluation.cells.update({(stage.name[8:], skill): CELL for skill in PLAN.columns})
            evaluation.save(tmp_path / "stages" / stage.name / "evaluation.json")
    log = tmp_path / "stages" / "a" / "progress.jsonl"
    log.write_text("".join(f'{{"steps": {s}, "reward_per_step": {r}}}\n' for s, r in ((5, 0.4), (9, 0.45), (12, 0.5))))
    return tmp_path


def test_the_matrix_holds_rows_experts_and_the_untrained_scores(folder):
    outcomes = outcomes_of(StageFolders(folder / "stages"), PLAN)
    assert list(outcomes) == [stage.name for stage in PLAN.stages]
    matrix = matrix_of(PLAN, outcomes)
    assert matrix.stages == ("flat", "gaps")
    assert matrix.skills == PLAN.columns
    assert matrix.scores == ((0.5, 0.1), (0.6, 0.35))
    assert matrix.success == ((0.25, 0.05), (0.3, 0.175))
    assert matrix.experts == (0.5, 0.4)
    assert matrix.untrained == (0.05, 0.02)
    assert matrix.learned == (0, 1)
    alone = replace(PLAN, experts={"biped/flat": "a"})  # gaps count as learned after row 1
    assert matrix_of(alone, outcomes).experts == (0.5, 0.35)
    shutil.rmtree(folder / "stages" / "b")
    assert "b" not in outcomes_of(StageFolders(folder / "stages"), PLAN)


@pytest.mark.parametrize(
    ("rows", "skills", "learned"), [(3, 3, (0, 1, 2)), (1, 3, (0, 0, 0)), (2, 4, (0, 0, 0, 1)), (2, 3, (0, 0, 1))]
)
def test_skills_that_share_a_row_are_learned_with_the_first(rows, skills, learned):
    plan = Plan((), (Row("r", "s"),) * rows, {}, tuple("abcd"[:skills]))
    assert _learned(plan) == learned


def test_the_evaluation_of_a_run_holds_its_rows_and_experts(folder):
    found = merged_evaluation(StageFolders(folder / "stages"), PLAN)
    assert found.policies == ("a", "b", "merge")
    assert found.skills == PLAN.columns
    assert found.episode_steps == dict.fromkeys(PLAN.columns, 4)
    assert set(found.cells) == {(name, skill) for name in ("a", "b", "merge") for skill in PLAN.columns}
    assert dict(found.experts) == PLAN.experts


def test_a_result_collects_cost_zero_shot_scores_and_steps_to_experts(folder):
    found = collect_result(folder, PLAN, TINY, 4)
    assert (found.recipe, found.seed, found.final) == (TINY, 4, "merge")
    assert found.zero_shot == {"biped/walls": {"success": 0.1, "reward_per_step": 0.2}}
    assert found.steps_to_expert == {"biped/flat": 9.0, "biped/gaps": None}  # 0.45 is 90 % of 0.5
    assert found.steps == sum(10 * n for n in range(7))
    assert found.seconds == sum(1.0 + n for n in range(7))
    assert found.cpu_seconds == sum(2.0 + n for n in range(7))
    assert found.budget == results.budget(TINY)
    assert Evaluation.load(folder / "evaluation.json").policies == ("a", "b", "merge")
    found.save(folder / "curriculum.json")
    assert CurriculumResult.load(folder / "curriculum.json") == found
    content = found.to_json()
    assert content["cost"] == {"steps": 210, "budget": found.budget, "seconds": 28.0, "cpu_seconds": 35.0}
    assert content["format_version"] == 1
    garbled = {**content, "steps_to_expert": {"biped/flat": "9.0"}}  # no text is read as a number
    for bad in ({**content, "cost": {}}, garbled, {k: v for k, v in content.items() if k != "zero_shot"}):
        store(folder / "bad.json", bad)
        with pytest.raises(OutputError, match=r"bad\.json is not a valid result of a curriculum"):
            CurriculumResult.load(folder / "bad.json")
    with pytest.raises(OutputError, match="no finished curriculum"):
        CurriculumResult.load(folder / "none.json")
    store(folder / "later.json", {**content, "note": 1})
    assert CurriculumResult.load(folder / "later.json") == found


def test_an_added_skill_is_written_with_its_price(folder):
    outcomes = outcomes_of(StageFolders(folder / "stages"), PLAN)
    matrix = matrix_of(PLAN, outcomes)
    content = _plain(AddedSkill(Path("policy"), matrix, tuple(outcomes.values()), 12, 3.5))
    assert content["matrix"] == matrix.to_json()
    assert [outcome["name"] for outcome in content["outcomes"]] == list(outcomes)
    assert (content["price_steps"], content["price_seconds"]) == (12, 3.5)


def test_a_run_is_made_of_its_plan_and_read_back(monkeypatch, folder):
    seen = []
    longer = replace(PLAN, rows=(Row("one", "a"), Row("two", "b"), Row("three", "merge")))
    monkeypatch.setattr(
        runner, "run_stages", lambda plan, folders, cores, progress: seen.append((plan, folders, cores))
    )
    monkeypatch.setattr(runner, "copy_folder", lambda source, target: seen.append((source, target)))
    monkeypatch.setattr(runner, "make_plan", lambda recipe, seed: longer)
    monkeypatch.setattr(runner, "choose_device", lambda name: seen.append(name))
    recipe = TINY.on_device("cuda")
    found = runner.run_curriculum(recipe, folder, seed=4, threads=2, siblings=[Path("other")])
    *devices, (plan, folders, cores), copied = seen
    assert devices == ["cuda"] * 3
    assert (plan, cores) == (longer, 2)
    assert (folders("x"), folders._siblings) == (folder / "stages" / "x", (Path("other/stages"),))
    assert copied == (folder / "stages" / "merge" / "policy", folder / "policy")
    assert found == collect_result(folder, longer, recipe, 4)
    assert load_recipe(folder / "recipe.yaml") == recipe
    assert 0 <= read_json(folder / "result.json")["seconds_of_last_session"] < 60
    seen.clear()
    assert runner.run_curriculum(recipe, folder, seed=4, threads=2, resume=True) == found
    assert seen == ["cuda"] * 3
    with pytest.raises(OutputError, match="--resume"):
        runner.run_curriculum(recipe, folder, seed=4, threads=2)
    assert make_plan(TINY, 0) != PLAN


def test_the_last_row_is_the_result(folder):
    longer = replace(PLAN, rows=(Row("one", "a"), Row("two", "b"), Row("three", "merge")))
    assert collect_result(folder, longer, TINY, 4).final == "merge"


@pytest.fixture
def added(monkeypatch, folder):
    """Make ``add_skill`` find its stages finished; notes what is run and copied."""
    seen = []
    monkeypatch.setattr(adding, "_plan", lambda *given: seen.append(given) or PLAN)
    monkeypatch.setattr(adding, "load_policy", Loaded)
    monkeypatch.setattr(adding, "run_stages", lambda plan, folders, cores, progress: seen.append((plan, cores)))
    monkeypatch.setattr(adding, "copy_folder", lambda source, target: seen.append((source, target)))
    for name in ("train", "measure-train"):
        source = folder / "stages" / name.replace("train", "b")
        shutil.copytree(source, folder / "stages" / name)
    stages = (*PLAN.stages, Train("train", (GAPS,), TINY.train))
    monkeypatch.setattr(adding, "outcomes_of", lambda folders, plan: outcomes_of(folders, replace(PLAN, stages=stages)))
    row = '{"states": 7, "seconds": 0.5, "retention": {"biped/flat": 0.97, "biped/gaps": 0.95}}'
    (folder / "stages" / "merge" / "progress.jsonl").write_text(row + "\n")
    return seen


def test_an_added_skill_is_run_copied_and_priced(added, folder):
    student = folder / "old" / "policy"
    found = adding.add_skill(student, "biped/gaps", folder, seed=5, noise=0.2, threads=2, measurement=TINY.measurement)
    planned, ran, copied = added
    assert (planned[0], planned[1].manifest.weights_sha256, planned[2]) == (student, "old", "biped/gaps")
    assert planned[3:] == (adding.ADD_TRAIN, adding.ADD_MERGE, 0.2, TINY.measurement, 5)
    assert ran == (PLAN, 2)
    assert copied == (folder / "stages" / "merge" / "policy", folder / "policy")
    assert found.policy_path == folder / "policy"
    assert (found.price_steps, found.price_seconds) == (30 + 7, 4.0 + 0.5)  # those of the training and of the merge
    assert found.matrix.scores == ((0.5, 0.1), (0.6, 0.35))
    assert [outcome.name for outcome in found.outcomes][-1] == "b"
    assert Evaluation.load(folder / "evaluation.json").policies == ("a", "b", "merge")
    assert read_json(folder / "added.json") == json.loads(json.dumps(_plain(found)))
    assert read_json(folder / "result.json") == {"price_steps": 37, "price_seconds": 4.5}
    again = adding.add_skill(
        student, "biped/gaps", folder, seed=5, noise=0.2, threads=2, measurement=TINY.measurement, resume=True
    )
    assert again == found
    with pytest.raises(OutputError, match="--resume"):
        adding.add_skill(student, "biped/gaps", folder, seed=5, noise=0.2, threads=2, measurement=TINY.measurement)
    for change in ({"seed": 6}, {"noise": 0.3}, {"measurement": replace(TINY.measurement, episodes=9)}):
        options = {"seed": 5, "noise": 0.2, "measurement": TINY.measurement, **change}
        with pytest.raises(ConfigError, match=next(iter(change))):
            adding.add_skill(student, "biped/gaps", folder, threads=2, resume=True, **options)


@pytest.mark.parametrize(
    ("start", "needed"),
    [
        (lambda out: adding.add_skill(out / "old" / "policy", "biped/gaps", out, threads=1), 300),
        (lambda out: runner.run_curriculum(TINY, out, threads=1), 500),
        (lambda out: run_comparison(TINY, out, curricula=("plaid",), seeds=1, threads=1), 1000),
    ],
)
def test_a_nearly_full_disk_is_refused_before_any_work(monkeypatch, added, folder, start, needed):
    monkeypatch.setattr("policykd.storage.shutil.disk_usage", lambda path: SimpleNamespace(free=needed * 1e6 - 1))
    with pytest.raises(OutputError, match=f" {needed} MB are needed"):
        start(folder)
