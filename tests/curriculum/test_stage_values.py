"""Stages without their work: the arguments of every library call, the outcome that is stored, and the order."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_curriculum import NETWORKS, TINY

from policykd.curriculum import Injection, load_recipe, make_plan, runner, stage_runner
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
from policykd.curriculum.runner import _Job, _run_in_parallel, run_stages
from policykd.curriculum.stage_runner import StageFolders, run_stage
from policykd.curriculum.stages import Existing, Inject, Measure, Merge, Outcome, Plan, Row, Train
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, OutputError
from policykd.evaluation.results import Episodes, Evaluation
from policykd.progress import Silent
from policykd.seeding import integer_seed
from policykd.storage import read_json, write_json

FLAT, GAPS = get_skill("biped/flat"), get_skill("biped/gaps")
PROGRESS = Silent()
adding = sys.modules[AddedSkill.__module__]  # the package names the function of the same name


def store(path, content):
    """Write a JSON file into a folder that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


class Loaded:
    """Stands in for a policy that was read from a file."""

    def __init__(self, path):
        self.policy = SimpleNamespace(log_std=SimpleNamespace(data=torch.zeros(2)))
        self.manifest = SimpleNamespace(
            weights_sha256=f"{path.parent.name}", robot="biped", skills=("biped/flat",), skill_records=None,
            operation="merge", parents=(1,), seed=8, metrics={"m": 1}, config={"c": 2},
        )  # fmt: skip

    def __iter__(self):
        return iter((self.policy, self.manifest))


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Replace the library calls of stages by records of their arguments."""
    found = []

    def noted(name, answer):
        def call(*args, **options):
            found.append((name, args, options))
            return answer

        monkeypatch.setattr(stage_runner, name, call)

    monkeypatch.setattr(stage_runner, "load_policy", Loaded)
    noted("save_policy", None)
    noted("train_expert", SimpleNamespace(success=0.5, reward_per_step=0.25, reached_target=True, steps=77))
    noted("inject_file", SimpleNamespace(mode="exact", groups=("terrain",), largest_random=0.1, largest_on_policy=0.2))
    merged = SimpleNamespace(
        retention={"biped/flat": 0.9}, rounds=3, reached_target=False, states_to_retention={"0.95": 5}, states=100
    )
    noted("merge_experts", merged)
    return found


def run(stage, folder, threads=2):
    return run_stage(stage, StageFolders(folder), threads=threads, progress=PROGRESS)


def test_a_training_begins_from_its_start_with_its_noise(calls, tmp_path):
    outcome = run(Train("t", (FLAT,), TINY.train, "before", 0.3), tmp_path)
    (name, args, options), *rest = calls
    assert (name, rest) == ("train_expert", [])
    assert args == ((FLAT,), tmp_path / "t", replace(TINY.train, threads=2))
    init = options.pop("init")
    assert init.manifest.weights_sha256 == "before"
    assert init.policy.log_std.data.tolist() == pytest.approx([math.log(0.3)] * 2)
    assert options == {"resume": True, "progress": PROGRESS}
    assert (outcome.name, outcome.kind, outcome.steps) == ("t", "train", 77)
    assert outcome.figures == {"success": 0.5, "reward_per_step": 0.25, "reached_target": True}
    assert 0 < outcome.seconds < 0.9
    assert 0 <= outcome.cpu_seconds < 0.9
    assert StageFolders(tmp_path).outcome("t") == outcome
    assert run(Train("t", (FLAT,), TINY.train, "before", 0.3), tmp_path) == outcome  # not run again
    assert len(calls) == 1


@pytest.mark.parametrize(("start", "noise"), [("before", None), (None, None)])
def test_without_noise_a_start_keeps_its_own(calls, tmp_path, start, noise):
    run(Train("t", (FLAT,), TINY.train, start, noise), tmp_path)
    init = calls[0][2]["init"]
    assert (init is None) == (start is None)
    assert init is None or init.policy.log_std.data.tolist() == [0.0, 0.0]


def test_an_existing_policy_is_copied_with_its_record_unless_it_changed(calls, tmp_path):
    source = tmp_path / "given" / "policy"
    outcome = run(Existing("student", source, "given"), tmp_path)
    (name, args, options), *_ = calls
    assert (name, args[0]) == ("save_policy", tmp_path / "student" / "policy")
    robot = options.pop("robot")
    assert robot.name == "biped"
    assert options == {
        "skills": ("biped/flat",), "skill_records": None, "operation": "merge", "parents": (1,), "seed": 8,
        "metrics": {"m": 1}, "config": {"c": 2},
    }  # fmt: skip
    assert (outcome.kind, outcome.steps, outcome.figures) == ("given", 0, {})
    with pytest.raises(ConfigError, match="has changed since this run began"):
        run(Existing("other", source, "another"), tmp_path)


def test_an_injection_replaces_the_policy_of_a_killed_session(calls, tmp_path):
    left = tmp_path / "inject" / "policy"
    left.mkdir(parents=True)
    how = Injection(groups=("terrain",), mode="scaled", scale=0.2)
    outcome = run(Inject("inject", "before", how, 6), tmp_path)
    assert not left.exists()
    (name, args, options), *_ = calls
    assert (name, args) == ("inject_file", (tmp_path / "before" / "policy", left, ("terrain",)))
    assert options == {"mode": "scaled", "encoder": None, "scale": 0.2, "seed": 6, "threads": 2}
    assert (outcome.kind, outcome.steps) == ("inject", 0)
    assert outcome.figures == {
        "mode": "exact", "groups": ["terrain"], "largest_random": 0.1, "largest_on_policy": 0.2,
    }  # fmt: skip


@pytest.mark.parametrize(("critic", "steps"), [("td", 100 + (256 + 256) * 2), ("teacher", 100), ("none", 100)])
@pytest.mark.parametrize("keep", [False, True])
def test_a_merge_counts_the_critics_states_and_keeps_data_on_request(calls, tmp_path, critic, steps, keep):
    config = replace(TINY.merge, critic=critic, start="previous")
    data = tmp_path / "merge" / "data"
    data.mkdir(parents=True)
    outcome = run(Merge("merge", (FLAT, GAPS), ("a", "b"), config, "c", keep), tmp_path)
    (name, args, options), *_ = calls
    teachers, *others = args
    assert (name, others) == ("merge_experts", [tmp_path / "merge", replace(config, threads=2)])
    assert [(t.skill, t.source, t.weights_sha256) for t in teachers] == [(FLAT, "a", "a"), (GAPS, "b", "b")]
    assert options.pop("init").manifest.weights_sha256 == "c"
    assert options == {"resume": True, "progress": PROGRESS}
    assert outcome.steps == steps
    assert outcome.figures == {
        "retention": {"biped/flat": 0.9}, "rounds": 3, "reached_target": False, "states_to_retention": {"0.95": 5},
    }  # fmt: skip
    assert data.exists() == keep
    calls.clear()
    run(Merge("again", (FLAT,), ("a",), TINY.merge), tmp_path)
    assert calls[0][2]["init"] is None


CELL = Episodes((1.0, 3.0), (0.25, 0.75), (4, 4), (1.0, 2.0), (True, False))


@pytest.mark.parametrize("policy", [None, "t"])
def test_a_measurement_evaluates_a_policy_or_untrained_networks_with_noise(monkeypatch, calls, tmp_path, policy):
    seen = []

    def fake(policies, skills, **options):
        seen.append((policies, skills, options))
        (name,) = policies
        found = Evaluation((name,), ("biped/flat",), 2, 0, False, {"biped/flat": 4})
        found.cells[name, "biped/flat"] = CELL
        return found

    monkeypatch.setattr(stage_runner, "evaluate", fake)
    reference = replace(TINY.train, architecture=NETWORKS)
    outcome = run(Measure("m", policy, (FLAT,), 2, 9, reference, "auto"), tmp_path)
    ((policies, skills, options),) = seen
    assert skills == (FLAT,)
    assert options == {
        "episodes": 2, "seed": 9, "threads": 2, "device": "auto", "noise": policy is None, "progress": PROGRESS,
    }  # fmt: skip
    (measured,) = policies.values()
    if policy is None:
        assert list(policies) == [stage_runner.UNTRAINED]
        assert (measured.groups, measured.actions) == (FLAT.group_sizes, 11)
        assert measured.architecture == NETWORKS
        torch.manual_seed(integer_seed(9, stage_runner.UNTRAINED))
        first = next(iter(measured.actor.parameters())).detach()
        again = type(measured)(FLAT.group_sizes, 11, NETWORKS, integer_seed(9, stage_runner.UNTRAINED))
        assert torch.equal(first, next(iter(again.actor.parameters())))
    else:
        assert list(policies) == ["t"]
    assert (outcome.kind, outcome.steps) == ("measure", 0)
    assert outcome.figures == {"success": {"biped/flat": 0.5}, "reward_per_step": {"biped/flat": 0.5}}
    assert StageFolders(tmp_path).evaluation("m").cells == {(next(iter(policies)), "biped/flat"): CELL}


def test_only_trainings_are_taken_from_siblings_and_only_equal_ones(monkeypatch, calls, tmp_path):
    stage = Train("t", (FLAT,), TINY.train)
    monkeypatch.setattr(stage_runner, "request", lambda skills, config, start: {"asked": config.threads})
    monkeypatch.setattr(stage_runner, "same_run", lambda folder, asked: folder.name == "t" and asked == {"asked": 2})
    folders = StageFolders(tmp_path / "own", [tmp_path / "one", tmp_path / "two"])
    theirs = Outcome("t", "train", 5, 6.0, 7.0)
    store(tmp_path / "two" / "t" / "stage.json", theirs.__dict__)
    assert run_stage(stage, folders, threads=2, progress=PROGRESS) == theirs
    assert calls == []
    other = StageFolders(tmp_path / "other", [tmp_path / "two"])
    assert run_stage(stage, other, threads=3, progress=PROGRESS).steps == 77  # asked with other threads
    store(tmp_path / "two" / "i" / "stage.json", replace(theirs, name="i", kind="inject").__dict__)
    assert run_stage(Inject("i", "a", Injection()), folders, threads=2, progress=PROGRESS).kind == "inject"
    assert [name for name, *_ in calls] == ["train_expert", "inject_file"]


def test_times_of_a_killed_session_count(calls, tmp_path):
    store(tmp_path / "t" / "spent.json", {"seconds": 100.0, "cpu_seconds": 50.0})
    outcome = run(Train("t", (FLAT,), TINY.train), tmp_path)
    assert 100.0 < outcome.seconds < 160.0
    assert 50.0 <= outcome.cpu_seconds < 110.0


def test_a_garbled_outcome_is_named(tmp_path):
    folders = StageFolders(tmp_path)
    assert folders.outcome("none") is None
    assert folders.log("none") == []
    complete = Outcome("t", "train", 5, 6.0, 7.0).__dict__
    for content in ({"name": "t"}, {**complete, "steps": "5"}, {k: v for k, v in complete.items() if k != "figures"}):
        store(tmp_path / "t" / "stage.json", content)
        with pytest.raises(OutputError, match=r"stage\.json"):
            folders.outcome("t")


@pytest.fixture
def order(monkeypatch):
    """Names of stages in the order in which they run; those that run in parallel together."""
    found = []
    monkeypatch.setattr(runner, "run_stage", lambda stage, folders, **options: found.append((stage.name, options)))

    def parallel(cores):
        def run_all(work, jobs, progress):
            found.append(([job.stage.name for job in jobs], cores))

        return SimpleNamespace(map=run_all)

    monkeypatch.setattr(runner, "Processes", parallel)
    return found


def train(name, start=None, steps=100):
    return Train(name, (FLAT,), replace(TINY.train, steps=steps), start)


def test_independent_trainings_run_side_by_side_and_measurements_alone(order, tmp_path):
    stages = (train("a"), train("b", steps=300), train("c", steps=200), Measure("m", "a", (FLAT,), 1, 0))
    run_stages(Plan(stages, (), {}, ()), StageFolders(tmp_path), 2, PROGRESS)
    assert order == [(["b", "c", "a"], 2), ("m", {"threads": 2, "progress": PROGRESS})]


def test_one_core_or_one_training_at_a_time_runs_here_with_all_cores(order, tmp_path):
    stages = (train("a"), train("b"), Measure("m", "a", (FLAT,), 1, 0))
    run_stages(Plan(stages, (), {}, ()), StageFolders(tmp_path), 1, PROGRESS)
    assert order == [(name, {"threads": 1, "progress": PROGRESS}) for name in ("a", "b", "m")]
    order.clear()
    chain = (train("a"), Measure("m", "a", (FLAT,), 1, 0), train("b", "a"))
    run_stages(Plan(chain, (), {}, ()), StageFolders(tmp_path), 4, PROGRESS)
    assert order == [(name, {"threads": 4, "progress": PROGRESS}) for name in ("a", "m", "b")]


def test_finished_stages_are_left_out_of_what_runs_in_parallel(order, tmp_path):
    store(tmp_path / "a" / "stage.json", Outcome("a", "train", 5, 6.0, 7.0).__dict__)
    plan = Plan((train("a"), train("b")), (), {}, (), ("name",))
    run_stages(plan, StageFolders(tmp_path), 2, PROGRESS)
    assert order == [(["b"], 2)]
    order.clear()
    _run_in_parallel([], 2, PROGRESS)
    assert order == []
    injection = Inject("i", "a", Injection())  # has no steps: it is done last
    _run_in_parallel(
        [_Job(stage, StageFolders(tmp_path), ()) for stage in (injection, train("a", steps=1))], 3, PROGRESS
    )
    assert order == [(["a", "i"], 3)]


def test_stages_name_those_that_they_need():
    assert Existing("s", Path("p"), "0").needs == ()
    assert (train("a").needs, train("b", "a").needs) == ((), ("a",))
    assert Inject("i", "a", Injection()).needs == ("a",)
    assert Merge("m", (FLAT,) * 3, ("b", "a", "b"), TINY.merge, "c").needs == ("b", "a", "c")
    assert Merge("m", (FLAT,) * 2, ("b", "a"), TINY.merge, "a").needs == ("b", "a")
    assert Measure("m", None, (FLAT,), 1, 0).needs == ()
    assert Measure("m", "a", (FLAT,), 1, 0).needs == ("a",)


def test_a_process_of_its_own_imports_the_plans_names_first(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(runner, "import_names", lambda names: seen.append(names))
    monkeypatch.setattr(runner, "run_stage", lambda stage, folders, **options: seen.append((stage, options)))
    stage = train("a")
    runner._run_one(_Job(stage, StageFolders(tmp_path), ("lab:THING",)), PROGRESS)
    assert seen == [("lab:THING",), (stage, {"threads": 1, "progress": PROGRESS})]


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
