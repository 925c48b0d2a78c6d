"""Labeled states of gymnasium environments: read again, resumed, and merged without the environments' teachers."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.envs.foreign.skill import any_bounds, gym_skill, together
from policykd.errors import ConfigError
from policykd.merge import MergeConfig, Teacher, function_teacher, merge_data, merge_experts
from policykd.merge.data.folder import LabeledData, _shard_name
from policykd.merge.distiller import _Merge

SMALL = MergeConfig(
    rounds=2, envs=4, updates=30, minibatch=64, validation_episodes=1, min_teacher_success=0.0, critic="none",
    target_retention=2.0, held_out=0.25, architecture=Architecture(hidden=(16,), critic_hidden=(8,)),
)  # fmt: skip
POINT = "gym:foreign_envs:policykd-tests/Point-v0"
SLOW, FAST = (
    gym_skill(f'{POINT}?{{"gain": {gain}, "low": -2.0, "high": 2.0}}', tasks=2, task_number=i)
    for i, gain in enumerate((1.5, 3.0))
)


def steering(gain):
    return function_teacher(f"steer {gain}", lambda rows: -gain * rows[:, :1], SLOW if gain == 1.5 else FAST)


TEACHERS = [steering(1.5), steering(3.0)]


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    return merge_experts(TEACHERS, folder, SMALL), folder


def test_states_of_two_tasks_of_one_environment_are_read_again(merged, tmp_path):
    data = LabeledData.open(merged[1])
    first = data.find(1, SLOW.id)
    assert first.labels.numpy() == pytest.approx(np.clip(-1.5 * first.observations[:, :1].numpy(), -2, 2) / 2, abs=1e-5)
    assert data.find(1, FAST.id).observations[:, 2:].unique(dim=0).tolist() == [[0.0, 1.0]]
    again = merge_data([merged[1]], tmp_path / "again", replace(SMALL, updates=200))
    student = load_policy(again.policy_path)
    assert student.manifest.skills == (SLOW.id, FAST.id)
    with torch.no_grad():
        error = (student.policy(first.observations) - first.labels).square().mean()
    assert error < 0.1 * first.labels.square().mean()
    assert student.manifest.actions == load_policy(merged[0].policy_path).manifest.actions


def test_a_killed_merge_of_tasks_goes_on_from_its_states(merged, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    save = _Merge._save

    def dying(self, *arguments):
        save(self, *arguments)
        raise Killed

    monkeypatch.setattr(_Merge, "_save", dying)
    with pytest.raises(Killed):
        merge_experts(TEACHERS, tmp_path, SMALL)
    monkeypatch.undo()
    resumed = merge_experts(TEACHERS, tmp_path, SMALL, resume=True)
    hashes = [load_policy(result.policy_path).manifest.weights_sha256 for result in (resumed, merged[0])]
    assert hashes[0] == hashes[1]


def test_environments_with_other_bounds_share_one_dataset(tmp_path):
    skills = together([gym_skill("gym:Pendulum-v1[pole=0:3]"), gym_skill(f"{POINT}[car=0:2]")])
    teachers = [function_teacher(skill.id, lambda rows: 0.5 * rows[:, 1:2], skill) for skill in skills]
    merge_experts(teachers, tmp_path / "merge", replace(SMALL, rounds=1))
    data = LabeledData.open(tmp_path / "merge")
    assert data.manifest.check_robot() == any_bounds(1)
    assert dict(data.manifest.groups) == {"pole": 3, "car": 2}
    student = load_policy(merge_data([tmp_path / "merge"], tmp_path / "again", SMALL).policy_path)
    assert student.manifest.skills == tuple(skill.id for skill in skills)


def test_discrete_labels_are_merged_by_a_loss_of_choices(tmp_path):
    skill = gym_skill("gym:foreign_envs:policykd-tests/Steps-v0")
    expert = Policy(skill.group_sizes, skill.robot.num_actions, Architecture((4,), (4,)), 0).eval()
    folder = tmp_path / "merge"
    merge_experts([Teacher(skill, expert, "expert", "0" * 64)], folder, replace(SMALL, loss="forward_kl"))
    with pytest.raises(ConfigError, match=r"merge\.loss is huber"):
        merge_data([folder], tmp_path / "wrong", replace(SMALL, loss="huber"))
    again = merge_data([folder], tmp_path / "again", replace(SMALL, loss="forward_kl", learning_rate=1e-2, updates=150))
    rollout = LabeledData.open(folder).find(1, skill.id)
    with torch.no_grad():
        logits = load_policy(again.policy_path).policy(rollout.observations)
    same = [
        (student.argmax(1) == teacher.argmax(1)).float().mean()
        for student, teacher in zip(logits.split([3, 2], 1), rollout.labels.split([3, 2], 1), strict=True)
    ]
    assert min(same) > 0.9


@pytest.mark.parametrize(
    "skill", ["biped/flat", "gym:A-v0#0", 'gym:A-v0?{"a": [1, 2]}', "gym:" + "a" * 300, "biped/x@0.5"]
)
def test_names_of_files_are_plain_and_differ(skill):
    name = _shard_name(3, skill)
    assert name.startswith("003-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
    assert len(name) < 200
    assert len({_shard_name(3, skill), _shard_name(3, skill + "#1"), _shard_name(3, skill + "#2")}) == 3
