"""The demo's bookkeeping: every skill gets a folder of its own and the expert that was trained on it."""

import fcntl
from dataclasses import replace
from pathlib import Path

import pytest

from policykd import demo
from policykd.agents.training import TrainConfig
from policykd.agents.training.defaults import default_config
from policykd.cli.commands.train import Train
from policykd.envs.robots import get_robot, robot_names
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, OutputError
from policykd.progress import Silent


class FakeProcesses:
    """Runs jobs in this process."""

    def __init__(self, workers):
        pass

    def map(self, work, jobs, progress):
        return [work(job, progress) for job in jobs]


def test_two_skills_of_one_terrain_have_two_experts(tmp_path, monkeypatch):
    """0.1.0 trained biped/flat and biped/flat+run in one folder and lost one of them."""
    monkeypatch.setattr(demo, "Processes", FakeProcesses)
    monkeypatch.setattr(demo, "_train_one", lambda job, progress: job.out)
    monkeypatch.setattr(demo, "load_policy", lambda path: path)
    skills = [get_skill("biped/flat"), get_skill("biped/flat+run"), get_skill("biped/flat:hard")]
    names = demo.folder_names(skills)
    jobs = [demo._Job(skill, Path(name), replace(TrainConfig(), steps=steps), None) for skill, name, steps in
            zip(skills, names, (100_000, 300_000, 200_000), strict=True)]  # fmt: skip
    plan = demo.DEMO_PLANS["biped"]
    assert demo._train_experts(jobs, plan, None, 1, Silent()) == [Path("flat"), Path("flat+run"), Path("flat-hard")]


def test_the_others_start_from_the_expert_of_the_first_terrain(tmp_path, monkeypatch):
    started = {}

    def train(job, progress):
        started[job.out] = started.get(job.out, job.init)
        return job.out

    monkeypatch.setattr(demo, "Processes", FakeProcesses)
    monkeypatch.setattr(demo, "_train_one", train)
    monkeypatch.setattr(demo, "load_policy", lambda path: path)
    plan = demo.DEMO_PLANS["quadruped"]
    jobs = [demo._Job(skill, Path(skill.slug), plan.config(skill), None) for skill in map(get_skill, plan.skills)]
    assert demo._train_experts(jobs, plan, None, 1, Silent()) == [job.out for job in jobs]
    assert started == {job.out: None if job.out == Path("flat") else Path("flat") for job in jobs}


def test_the_slowest_training_begins_first_and_then_those_with_the_largest_budgets(monkeypatch):
    order = []

    def train(job, progress):
        order.append(job.skill.short)
        return job.out

    monkeypatch.setattr(demo, "Processes", FakeProcesses)
    monkeypatch.setattr(demo, "_train_one", train)
    monkeypatch.setattr(demo, "load_policy", lambda path: path)
    plan = demo.DEMO_PLANS["quadruped"]
    jobs = [demo._Job(skill, Path(skill.slug), plan.config(skill), None) for skill in map(get_skill, plan.skills)]
    demo._train_experts(jobs, plan, None, 1, Silent())
    assert list(dict.fromkeys(order)) == ["flat", "slopes", "gaps", "steps", "incline"]


def test_the_first_expert_of_a_humanoid_starts_from_one_that_keeps_its_balance(tmp_path, monkeypatch):
    started = {}

    def train(job, progress):
        started[job.skill.short] = job.init
        return job.out

    monkeypatch.setattr(demo, "Processes", FakeProcesses)
    monkeypatch.setattr(demo, "_train_one", train)
    monkeypatch.setattr(demo, "load_policy", lambda path: path)
    plan = demo.DEMO_PLANS["humanoid"]
    skills = [get_skill(name) for name in plan.skills]
    prepared = demo._prepare(plan, skills[0], tmp_path, 3, 1, Silent())
    jobs = [demo._Job(skill, Path(skill.slug), plan.config(skill), None) for skill in skills]
    demo._train_experts(jobs, plan, prepared, 1, Silent())
    assert started == {"flat+balance": None, "flat": tmp_path / "preparation", "slopes": Path("flat")}
    assert demo._prepare(demo.DEMO_PLANS["quadruped"], skills[0], tmp_path, 3, 1, Silent()) is None


def test_what_a_killed_demo_had_begun_to_film_is_removed(tmp_path, monkeypatch):
    for name in (".flat.mp4.0123abcd.tmp.mp4", "mine.mp4"):
        (tmp_path / name).touch()
    monkeypatch.setattr(demo, "render_video", lambda student, skill, out, seed: out.touch())
    demo._film(None, [get_skill("biped/flat")], tmp_path, 0, Silent())
    assert {path.name for path in tmp_path.iterdir()} == {"flat.mp4", "mine.mp4"}


def test_a_second_demo_in_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("policykd.runs.PATIENCE", 0.1)
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=f"another process is working in {tmp_path}"):
            demo.run_demo([get_skill("biped/flat")], tmp_path)


def test_every_robot_has_a_demo():
    for name in robot_names():
        if get_robot(name).family == "model":
            with pytest.raises(ConfigError, match="several terrains"):
                demo.demo_plan(get_robot(name))
            continue
        plan = demo.demo_plan(get_robot(name))
        assert len(plan.skills) >= 2
        assert get_skill(plan.skills[0]).robot.spatial == get_robot(name).spatial


@pytest.mark.parametrize("robot", list(demo.DEMO_PLANS))
def test_an_expert_that_is_trained_by_hand_has_the_demos_settings(robot):
    plan = demo.DEMO_PLANS[robot]
    for name in plan.skills:
        skill = get_skill(name)
        assert Train((name,))._config(skill) == plan.config(skill), name
    harder = get_skill(f"{robot}/steps@0.7")
    assert Train((harder.id,))._config(harder) == default_config(harder.robot)
