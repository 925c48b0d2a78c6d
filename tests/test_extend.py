"""Additions from outside the package: a robot, a terrain, a task and an observation group, used without any edit.

Losses are added in tests/kd/test_add_a_loss.py, systems in tests/kd/systems/test_system.py, curricula and algorithms in
tests/curriculum and tests/agents.
"""

import json
import sys

import pytest
import torch

from policykd.cli.main import main
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.observations import GROUPS
from policykd.envs.robots import ROBOTS
from policykd.envs.skill_records import read_skill, skill_from_record, skill_record
from policykd.envs.tasks.registry import TASKS
from policykd.envs.terrains import TERRAINS

THINGS = '''
from dataclasses import dataclass, replace
import numpy as np
import torch
from policykd.envs.observations import ObservationGroup
from policykd.envs.robots import get_robot
from policykd.envs.tasks import Task
from policykd.envs.terrains import Map, Profile

HEAVY = replace(get_robot("biped"), name="heavy")

@dataclass(frozen=True)
class Ramp:
    """One long ramp."""
    grade: float = 0.1
    def profile(self, rng, count, length, difficulty):
        width = np.full((count, 1), length)
        return Profile(width, width * self.grade * difficulty, np.zeros_like(width))

@dataclass(frozen=True)
class Curbs:
    """Steps across the way, and back down on one side only."""
    height: float = 0.2
    smallest: float = 2.0
    def map(self, rng, count, length, difficulty):
        x = 2.0 + 5.0 * np.arange(int(length / 5.0))
        return Map.of(np.zeros(count), x, 1.0, self.height * difficulty, 2.0, 3.0)

@dataclass(frozen=True)
class Stand(Task):
    """Stay upright."""
    speed: float = 0.0
    def reward(self, now):
        return torch.exp(-now.state.pitch.square())

RAMP = Ramp()
CURBS = Curbs()
STAND = Stand()
PITCH = ObservationGroup("pitch", lambda robot: 1, "rad", lambda state, around: state.pitch[:, None])
'''
TINY = ["--steps", "1024", "--threads", "1", "--set", "ppo.envs=16", "ppo.rollout_steps=32", "ppo.minibatch=128",
        "ppo.epochs=1", "segment_steps=512", "validation_episodes=2", "finalists=1", "symmetric=false"]  # fmt: skip


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab/things.py").write_text(THINGS)
    monkeypatch.syspath_prepend(tmp_path)
    with ROBOTS.scope(), TERRAINS.scope(), TASKS.scope(), GROUPS.scope():
        yield tmp_path
    sys.modules.pop("own_lab.things", None)


def test_robot_terrain_task_and_group_of_ones_own_are_trained_and_evaluated(outside, capsys):
    skill = "own_lab.things:HEAVY/own_lab.things:RAMP@0.5+own_lab.things:STAND"
    train = ["train", skill, "--groups", "proprio", "own_lab.things:PITCH", "--out", str(outside / "experts"), *TINY]
    assert main(train) == 0
    policy = outside / "experts" / "ramp-0.5+stand"
    manifest = json.loads((policy / "policy" / "manifest.json").read_text())
    assert manifest["robot"] == "heavy"
    assert manifest["skills"] == ["heavy/ramp@0.5+stand"]
    assert dict(manifest["groups"]) == {"proprio": 49, "pitch": 1}
    record = manifest["skill_records"]["heavy/ramp@0.5+stand"] if "skill_records" in manifest else None
    assert record is None, "registered parts are said by the id"
    out = outside / "evaluation.json"
    arguments = ["evaluate", str(policy), "--skills", skill, "--episodes", "2", "--threads", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert json.loads(out.read_text())["skills"] == ["heavy/ramp@0.5+stand"]
    assert "heavy/ramp@0.5+stand" in capsys.readouterr().out


def test_a_ground_of_ones_own_that_varies_in_x_and_y(outside, capsys):
    """One dataclass gives a skill: physics, heights, scans, difficulty, records, refusals."""
    skill = read_skill("quadruped/own_lab.things:CURBS@0.5")
    assert skill.id == "quadruped/curbs@0.5"
    assert skill.groups[-1] == "area"
    env = BatchedEnv([skill], 2, config=EnvConfig(tracks=2), threads=1)
    env.reset()
    step = env.step(torch.zeros(2, env.num_actions))
    leg = skill.robot.leg_length
    place = [torch.full((2, 1), part * leg, dtype=torch.float64) for part in (1.0 / 0.79 + 2.0, 1.0)]
    assert env.ground_height(*place).tolist() == [[pytest.approx(0.1 * leg)]] * 2
    assert env.ground_height(place[0], -place[1]).tolist() == [[0.0]] * 2
    assert step.observations["area"].shape == (2, skill.group_sizes["area"])
    assert skill_from_record(skill_record(skill)) == skill
    assert main(["train", "biped/own_lab.things:CURBS", *TINY]) == 2
    assert "curbs varies across the track, but biped moves in a plane" in " ".join(capsys.readouterr().err.split())


def test_a_wrong_path_is_one_line(outside, capsys):
    assert main(["train", "biped/own_lab.thing:RAMP", *TINY]) == 2
    assert "error: 'own_lab.thing:RAMP' cannot be imported" in " ".join(capsys.readouterr().err.split())
