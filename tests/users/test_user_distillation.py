"""What users wanted of distillation: one test per thread, numbered as in the list of threads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from user_policies import BLIND, EXPERT, NETWORKS, SIGHTED, TINY_MERGE, keep, random_policy

from policykd.agents.audit import audit_policy
from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError
from policykd.finetune import FinetuneConfig, finetune
from policykd.merge import LabeledData, function_teacher, merge_experts, teachers_from

FLAT = get_skill("biped/flat")
ONE_UPDATE = PpoConfig(envs=8, rollout_steps=16, minibatch=64, epochs=2)


def test_01_student_with_other_groups_than_its_teachers_gets_each_teachers_own_labels(trio):
    student, data = load_policy(trio.merge), LabeledData.open(trio.merge)
    assert set(student.policy.groups) == {"proprio", "terrain"}
    offered = dict(data.manifest.groups)
    assert list(offered) == ["proprio", "terrain"]
    for shard in data.manifest.shards:
        teacher = load_policy(trio.blind if shard.skill == "biped/flat" else trio.sighted).policy
        rollout = data.load(shard)
        own = rollout.observations[:, : sum(offered[name] for name in teacher.groups)]
        with torch.no_grad():
            torch.testing.assert_close(rollout.labels, teacher(own).clamp(-1, 1))
        assert rollout.labels.std() > 0.1
    assert {shard.skill for shard in data.manifest.shards} == {"biped/flat", "biped/gaps"}


def test_02_labels_of_a_noisy_teacher_are_its_mean_actions(tmp_path):
    policy, students = random_policy(BLIND, 1), []
    for noise in (1.0, 0.01):
        policy.log_std.data.fill_(np.log(noise))
        path = keep(tmp_path / f"noise-{noise}", policy, BLIND)
        teachers = teachers_from([("teacher", load_policy(path))])
        merge_experts(teachers, tmp_path / f"merge-{noise}", TINY_MERGE)
        data = LabeledData.open(tmp_path / f"merge-{noise}")
        students.append((data.load(data.manifest.shards[0]).labels, load_policy(tmp_path / f"merge-{noise}").policy))
    (loud, first), (quiet, second) = students
    assert torch.equal(loud, quiet)
    assert all(torch.equal(a, b) for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True))


def test_06_reinforcement_learning_from_a_student_begins_with_it_and_never_returns_less(tmp_path):
    start = load_policy(EXPERT)
    wild = replace(ONE_UPDATE, learning_rate=0.1, learning_rate_range=(0.1, 0.1), epochs=5)
    config = TrainConfig(
        steps=512, segment_steps=512, validation_episodes=3, finalists=1, threads=1, ppo=wild, keep_init=True
    )  # fmt: skip
    before = start.manifest.weights_sha256
    result = train_expert([FLAT], tmp_path, config, init=start)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert rows[0]["steps"] == 0
    assert rows[0]["success"] == 1.0
    assert rows[1]["success"] < 1.0, "the control: this training destroys it"
    assert result.success == 1.0
    assert load_policy(tmp_path).manifest.parents[0].weights_sha256 == before
    ended, kept = load_policy(tmp_path).policy, load_policy(EXPERT).policy
    assert all(torch.equal(a, b) for a, b in zip(ended.actor.parameters(), kept.actor.parameters(), strict=True))


def test_07_the_first_updates_of_fine_tuning_do_not_destroy_the_policy(tmp_path):
    config = FinetuneConfig(
        steps=5 * 128, segment_steps=128, warm_up_steps=128, leash=1.0, validation_episodes=3, final_episodes=3,
        finalists=1, threads=1, ppo=ONE_UPDATE,
    )  # fmt: skip
    result = finetune(load_policy(EXPERT), [FLAT], tmp_path, config)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    rewards = [row["skills"]["biped/flat"]["reward_per_step"] for row in rows if row["steps"] > 0]
    assert len(rewards) >= 5, "every update is measured"
    before = result.before["biped/flat"]["reward_per_step"]
    assert min(rewards) >= 0.95 * before
    assert result.after["biped/flat"]["reward_per_step"] >= 0.98 * before


def test_08_a_student_that_ignores_its_scan_is_reported(tmp_path, capsys):
    policy = load_policy(EXPERT).policy
    with torch.no_grad():
        policy.actor[0].weight[:, policy.groups["proprio"] :] = 0.0
    policy.symmetry = None
    found = audit_policy(policy, FLAT, episodes=2, threads=1)
    assert found.unused == ["terrain"]
    path = keep(tmp_path / "ignores", policy, FLAT)
    command = ["audit", str(path), "--groups", "terrain", "--episodes", "2", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "audit.json")]) == 0
    assert "unused: terrain" in capsys.readouterr().out


def test_09_a_merge_says_after_how_many_states_it_is_done_and_stops_there(tmp_path):
    expert = load_policy(EXPERT)
    copied = replace(
        TINY_MERGE, rounds=6, start="previous", target_retention=0.98, learning_rate=1e-8,
        architecture=expert.policy.architecture,
    )  # fmt: skip
    result = merge_experts(teachers_from([("flat", expert)]), tmp_path, copied, init=load_policy(EXPERT))
    assert result.reached_target
    assert result.rounds < 6, "closed-loop retention stops it, not the budget"
    assert 0 < result.states_to_retention["0.95"] <= result.states_to_retention["0.98"] <= result.states
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert rows[-1]["retention"]["biped/flat"] >= 0.98


def test_12_merge_a_with_b_then_ab_with_c(trio, tmp_path):
    third = get_skill("biped/steps", ("proprio", "terrain"))
    path = keep(tmp_path / "c", random_policy(third, 3), third)
    tiny = ["rounds=1", "envs=2", "updates=4", "minibatch=32", "validation_episodes=2"]
    command = ["merge", str(trio.merge), str(path), "--min-teacher-success", "0", "--critic", "none", "--threads", "1"]
    assert main([*command, "--hidden", "8", "--out", str(tmp_path / "abc"), "--set", *tiny]) == 0
    manifest = read_manifest(tmp_path / "abc")
    assert manifest.skills == ("biped/flat", "biped/gaps", "biped/steps")
    hashes = {read_manifest(one).weights_sha256 for one in (trio.merge, path)}
    assert {parent.weights_sha256 for parent in manifest.parents} == hashes


def test_13_any_function_is_a_teacher(tmp_path):
    skill = gym_skill("gym:Pendulum-v1")
    teacher = function_teacher("damping", lambda rows: -1.5 * rows[:, 2:3] + rows[:, 1:2], skill)
    merge_experts([teacher], tmp_path, replace(TINY_MERGE, validation_episodes=1))
    data = LabeledData.open(tmp_path)
    rollout = data.load(data.manifest.shards[0])
    wanted = (-1.5 * rollout.observations[:, 2:3] + rollout.observations[:, 1:2]).clamp(-2, 2) / 2
    torch.testing.assert_close(rollout.labels, wanted.float())
    assert load_policy(tmp_path).manifest.parents[0].name == "damping"


def test_13_a_function_of_the_wrong_shape_is_named():
    teacher = function_teacher("flat", lambda rows: rows[:, 0], gym_skill("gym:Pendulum-v1"))
    with pytest.raises(Exception, match=r"actions of shape \(3,\)"):
        teacher.policy(torch.zeros(3, 3))


def test_two_teachers_for_one_skill_are_refused(trio):
    experts = [("a", load_policy(trio.blind)), ("b", load_policy(trio.blind))]
    with pytest.raises(ConfigError, match="biped/flat"):
        teachers_from(experts)


def test_the_networks_of_the_student_are_the_chosen_ones(trio):
    assert load_policy(trio.merge).policy.architecture == NETWORKS
    assert SIGHTED.group_sizes == load_policy(trio.merge).policy.groups
