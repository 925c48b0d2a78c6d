"""A curriculum from end to end: what it leaves behind, and that one that was killed ends like one that was not."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_curriculum import EPISODE, TINY, shortened

from policykd.agents.files.policy_file import load_policy
from policykd.agents.training.trainer import Run
from policykd.curriculum import (
    CurriculumResult,
    Injection,
    Measurement,
    SkillPlan,
    load_recipe,
    make_plan,
    run_curriculum,
    runner,
    stage_runner,
)
from policykd.curriculum.plans import MEASURE_UNTRAINED, budget
from policykd.curriculum.runner import run_stages
from policykd.curriculum.stage_runner import StageFolders
from policykd.envs.devices import missing_for_cuda
from policykd.errors import ConfigError, MissingDependencyError, OutputError, UnknownNameError
from policykd.evaluation import Evaluation
from policykd.finetune.run import _Run as FinetuneRun
from policykd.merge.distiller import _Merge
from policykd.progress import Silent
from policykd.report.pages.curriculum import write_curriculum_page


class Killed(Exception):
    pass


def die_once(monkeypatch, owner, name, *, at=1, after=False):
    """Make a function die at its ``at``-th call, before or after it has done its work."""
    original, calls = getattr(owner, name), []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == at and not after:
            raise Killed
        found = original(*args, **kwargs)
        if len(calls) == at:
            raise Killed
        return found

    monkeypatch.setattr(owner, name, dying)


def test_killed_within_and_between_stages_equals_uninterrupted(tmp_path, monkeypatch, finished):
    """Killed in a training, after an injection that nobody noted, in a merge, and between two stages."""
    moments = [
        (Run, "_save", {"at": 2}),
        (stage_runner, "inject_file", {"after": True}),
        (_Merge, "_save", {"at": 1, "after": True}),
        (stage_runner, "evaluate", {"at": 1}),
    ]
    out = tmp_path / "killed"
    for i, (owner, name, when) in enumerate(moments):
        with monkeypatch.context() as patch:
            die_once(patch, owner, name, **when)
            with pytest.raises(Killed):
                run_curriculum(TINY, out, threads=1, resume=i > 0)
    resumed = run_curriculum(TINY, out, threads=1, resume=True)
    whole_out, whole = finished
    assert resumed.matrix == whole.matrix
    assert resumed.steps == whole.steps
    for stage in make_plan(TINY, 0).stages:
        a, b = (StageFolders(folder / "stages").policy(stage.name) for folder in (whole_out, out))
        if a.exists():
            weights, again = (load_policy(path).policy.state_dict() for path in (a, b))
            assert all(torch.equal(value, again[name]) for name, value in weights.items()), stage.name


def test_what_a_finished_curriculum_holds(finished):
    out, result = finished
    assert CurriculumResult.load(out / "curriculum.json") == result
    assert load_recipe(out / "recipe.yaml") == TINY
    last, student = (load_policy(path).policy.state_dict() for path in (out / "stages" / "merge-gaps" / "policy", out))
    assert all(torch.equal(value, student[name]) for name, value in last.items())
    assert result.matrix.stages == ("flat", "incline", "gaps")
    assert result.steps == budget(TINY)  # nobody reaches a target here, so all is spent
    by_name = {outcome.name: outcome for outcome in result.outcomes}
    assert by_name["train-flat"].steps == 1024
    assert by_name["merge-incline"].steps == 3 * 2 * EPISODE * 2
    assert by_name[MEASURE_UNTRAINED].steps == 0
    assert by_name["inject"].figures["largest_random"] <= 1e-6
    assert all(outcome.cpu_seconds >= 0 for outcome in result.outcomes)
    assert result.cpu_seconds > 0
    assert list(result.zero_shot) == ["biped/walls"]
    content = json.loads((out / "curriculum.json").read_text())
    assert content["cost"]["steps"] == result.steps
    assert not (out / "stages" / "merge-gaps" / "data").exists()


def test_the_matrix_is_the_evaluations(finished):
    """Rows and experts of the matrix are means over the episodes of the policies that they name."""
    out, result = finished
    evaluation = Evaluation.load(out / "evaluation.json")
    mean = {key: sum(cell.reward_per_step) / len(cell.reward_per_step) for key, cell in evaluation.cells.items()}
    rows = ["train-flat", "merge-incline", "merge-gaps"]
    for i, stage in enumerate(rows):
        for j, skill in enumerate(result.matrix.skills):
            assert result.matrix.scores[i][j] == pytest.approx(mean[stage, skill])
    for j, (skill, expert) in enumerate(result.experts.items()):
        assert result.matrix.experts[j] == pytest.approx(mean[expert, skill])


def test_finished_stages_are_not_run_again(finished, monkeypatch):
    out, result = finished
    for name in ("train_expert", "merge_experts", "inject_file", "evaluate"):
        monkeypatch.setattr(stage_runner, name, lambda *args, **kwargs: pytest.fail("ran again"))
    assert run_curriculum(TINY, out, threads=1, resume=True) == result
    run_stages(make_plan(TINY, 0), StageFolders(out / "stages"), 1, Silent())


def test_a_folder_is_not_taken_over(finished):
    out, _ = finished
    with pytest.raises(OutputError, match="--resume"):
        run_curriculum(TINY, out, threads=1)
    with pytest.raises(ConfigError, match="seed"):
        run_curriculum(TINY, out, seed=1, threads=1, resume=True)
    with pytest.raises(ConfigError, match="transfer_noise"):
        run_curriculum(replace(TINY, transfer_noise=0.3), out, threads=1, resume=True)


def test_poor_experts_stop_a_merge(tmp_path):
    strict = replace(
        TINY,
        skills=TINY.skills[:2],
        injection=Injection(blind=0),
        merge=replace(TINY.merge, min_teacher_success=0.9),
    )
    with pytest.raises(ConfigError, match="success"):
        run_curriculum(strict, tmp_path, threads=1)


def test_transfer_begins_with_the_recipes_noise(tmp_path, monkeypatch):
    seen = {}

    def spy(skills, out, config, *, init, **others):
        seen[out.name] = None if init is None else init.policy.log_std.exp().tolist()
        raise Killed

    monkeypatch.setattr(stage_runner, "train_expert", spy)
    plan = make_plan(replace(TINY, transfer_noise=0.25), 0)
    folders = StageFolders(tmp_path)
    with pytest.raises(Killed):
        run_stages(plan, folders, 1, Silent())
    assert seen == {"train-flat": None}


@pytest.mark.skipif(not missing_for_cuda(), reason="a CUDA device can be used here")
def test_the_first_walker_begins_with_the_policy_of_the_preparation(tmp_path):
    recipe = replace(
        TINY, skills=TINY.skills[:1], injection=Injection(blind=0), preparation=SkillPlan("biped/flat+crouch", 512),
        measurement=Measurement(episodes=2),
    )  # fmt: skip
    with shortened():
        result = run_curriculum(recipe, tmp_path, threads=1)
    folders = StageFolders(tmp_path / "stages")
    first, walker = (load_policy(folders.policy(name)).manifest for name in ("prepare-flat+crouch", "train-flat"))
    assert walker.parents[0].weights_sha256 == first.weights_sha256
    assert result.matrix.skills == ("biped/flat",)
    assert [o.steps for o in result.outcomes if o.name.startswith(("prepare", "train"))] == [512, 1024]


def test_a_device_that_is_not_there_is_refused_before_anything_is_run(tmp_path):
    recipe = TINY.on_device("cuda")
    assert (recipe.train.device, recipe.merge.device, recipe.measurement.device) == ("cuda",) * 3
    with pytest.raises(MissingDependencyError, match="device 'cuda' cannot be used"):
        run_curriculum(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UnknownNameError, match="did you mean cuda"):
        run_curriculum(TINY.on_device("cudaa"), tmp_path / "run")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_trainings_on_a_card_run_one_after_the_other(device, tmp_path, monkeypatch):
    """On the CPU, independent trainings share the cores; on a card each has it and all cores for itself."""
    plan = make_plan(replace(TINY, curriculum="scratch+merge").on_device(device), 0)
    together, alone = [], []
    monkeypatch.setattr(runner, "_run_in_parallel", lambda jobs, cores, progress: together.append(len(jobs)))
    monkeypatch.setattr(
        runner, "run_stage", lambda stage, folders, threads, progress: alone.append((stage.kind, threads))
    )
    run_stages(plan, StageFolders(tmp_path), 2, Silent())
    trained = sum(stage.kind == "train" for stage in plan.stages)
    assert trained > 1
    assert together == ([trained] if device == "cpu" else [])
    assert alone.count(("train", 2)) == (0 if device == "cpu" else trained)


def test_what_a_sibling_has_trained_is_not_trained_again(tmp_path, monkeypatch):
    """The trainings before the last are those of the sibling; the result is that of a run without one."""
    skills = tuple(replace(plan, steps=256) for plan in TINY.skills[:2])
    short = replace(
        TINY, skills=skills, train=replace(TINY.train, segment_steps=256), merge=replace(TINY.merge, rounds=1),
        injection=Injection(blind=0), measurement=replace(TINY.measurement, zero_shot=()),
    )  # fmt: skip
    first, second = (replace(short, curriculum=name) for name in ("tl-only", "tl-only+merge"))
    run_curriculum(first, tmp_path / "first", threads=1)
    alone = run_curriculum(second, tmp_path / "alone", threads=1)
    trained = []
    original = stage_runner.train_expert
    monkeypatch.setattr(
        stage_runner, "train_expert", lambda skills, *a, **k: trained.append(skills[0].id) or original(skills, *a, **k)
    )
    helped = run_curriculum(second, tmp_path / "helped", threads=1, siblings=[tmp_path / "first"])
    assert trained == ["biped/incline"]
    assert helped.matrix == alone.matrix
    assert helped.steps == alone.steps == budget(short)
    theirs = CurriculumResult.load(tmp_path / "first" / "curriculum.json")
    seconds = {outcome.name: outcome.seconds for outcome in theirs.outcomes}
    assert [o.seconds for o in helped.outcomes if o.name == "train-flat"] == [seconds["train-flat"]]
    other = run_curriculum(second, tmp_path / "other", seed=1, threads=1, siblings=[tmp_path / "first"])
    assert len(trained) == 3
    assert other.matrix != alone.matrix


def test_a_killed_fine_tuning_of_a_curriculum_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    recipe = replace(
        TINY, curriculum="scratch+merge+finetune", skills=TINY.skills[:2], injection=Injection(blind=0),
        measurement=replace(TINY.measurement, zero_shot=()),
    )  # fmt: skip
    whole = run_curriculum(recipe, tmp_path / "whole", threads=1)
    with monkeypatch.context() as patch:
        die_once(patch, FinetuneRun, "_save", at=2)
        with pytest.raises(Killed):
            run_curriculum(recipe, tmp_path / "killed", threads=1)
    resumed = run_curriculum(recipe, tmp_path / "killed", threads=1, resume=True)
    assert (resumed.matrix, resumed.final) == (whole.matrix, "finetune")
    assert budget(recipe) <= whole.steps == resumed.steps < budget(recipe) + 6 * 16
    stages = StageFolders(tmp_path / "whole" / "stages")
    tuned, student = (load_policy(stages.policy(name)) for name in ("finetune", "merge-incline"))
    assert tuned.manifest.parents[0].weights_sha256 == student.manifest.weights_sha256
    again = load_policy(tmp_path / "killed" / "policy").policy.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in tuned.policy.state_dict().items())
    assert "finetune" in write_curriculum_page(tmp_path / "whole").read_text()


def test_no_threads_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="threads is 0"):
        run_curriculum(TINY, tmp_path / "run", threads=0)
    assert not (tmp_path / "run").exists()
