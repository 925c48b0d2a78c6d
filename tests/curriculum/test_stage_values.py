"""Stages without their work: the arguments of every library call, the outcome that is stored, and the order."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stage_samples import CELL, FLAT, GAPS, Loaded, store, train
from tiny_curriculum import NETWORKS, TINY

from policykd.curriculum import Injection, runner, stage_runner
from policykd.curriculum.runner import _Job, _run_in_parallel, run_stages
from policykd.curriculum.stage_runner import StageFolders, run_stage
from policykd.curriculum.stages import Existing, Inject, Measure, Merge, Outcome, Plan, Train
from policykd.errors import ConfigError, OutputError
from policykd.evaluation.results import Evaluation
from policykd.progress import Silent
from policykd.seeding import integer_seed

PROGRESS = Silent()


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
    assert options == {"mode": "scaled", "encoder": None, "scale": 0.2, "seed": 6, "threads": 2, "skill": None}
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


@pytest.mark.parametrize("allowed", [False, True])
def test_contradicting_teachers_are_looked_for_unless_they_are_allowed(calls, tmp_path, monkeypatch, allowed):
    checked = []
    monkeypatch.setattr(stage_runner, "check_conflicts", lambda teachers, seed: checked.append((len(teachers), seed)))
    config = replace(TINY.merge, seed=11)
    run(Merge("merge", (FLAT, GAPS), ("a", "b"), config, allow_conflicts=allowed), tmp_path)
    assert checked == ([] if allowed else [(2, 11)])
    assert [name for name, *_ in calls] == ["merge_experts"]


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
