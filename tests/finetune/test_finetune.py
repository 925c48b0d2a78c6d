"""Fine-tuning: the new task is learned, the old one is kept, nothing is worse, an interruption changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from point_tasks import NEW, OLD, SMALL, killed_at

from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skill_records import records_of
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError
from policykd.finetune import FinetuneConfig, finetune
from policykd.finetune.recorded import read_recorded
from policykd.finetune.run import _shares, worst_loss
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.merge.data.folder import LabeledData


def test_a_task_is_improved_and_the_rehearsed_one_is_kept(student, tmp_path):
    result = finetune(student, [NEW], tmp_path, replace(SMALL, steps=15_360), rehearsed=[OLD])
    old, new = (result.before[skill.id]["reward_per_step"] for skill in (OLD, NEW))
    assert result.improved
    assert result.after[NEW.id]["reward_per_step"] > new / 2, "rewards are negative: the loss is halved at least"
    assert result.after[OLD.id]["reward_per_step"] > old - SMALL.bound * abs(old)
    manifest = load_policy(result.policy_path).manifest
    assert manifest.operation == "finetune"
    assert manifest.skills == (OLD.id, NEW.id)
    assert manifest.parents[0].weights_sha256 != manifest.weights_sha256
    assert load_policy(result.policy_path).policy.log_std.exp().item() == pytest.approx(0.05), "the start's own noise"


def test_an_interrupted_run_ends_in_the_same_weights(student_file, tmp_path):
    config = replace(SMALL, steps=1_536, segment_steps=512, warm_up_steps=512)
    whole = finetune(load_policy(student_file), [NEW], tmp_path / "whole", config, rehearsed=[OLD])
    with killed_at(1_024):
        finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, rehearsed=[OLD])
    again = finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, rehearsed=[OLD], resume=True)
    hashes = [load_policy(result.policy_path).manifest.weights_sha256 for result in (whole, again)]
    assert hashes[0] == hashes[1]
    assert again.after == whole.after


def test_what_only_gets_worse_is_taken_back_and_the_start_returned(student, tmp_path):
    wild = replace(SMALL.ppo, learning_rate=0.3, learning_rate_range=(0.3, 0.3), critic_rate=0.3)
    config = replace(SMALL, ppo=wild, leash=0.0, rehearsal=0.0, warm_up_steps=0, patience=1)
    start = student.manifest.weights_sha256
    result = finetune(student, [NEW], tmp_path, config, rehearsed=[OLD])
    assert result.rollbacks >= 1
    if not result.improved:
        assert load_policy(result.policy_path).manifest.weights_sha256 == start
        assert result.after == result.before
    assert worst_loss(result.before, result.after) <= config.bound


def test_recorded_states_hold_a_skill_that_is_not_simulated(student_file, tmp_path):
    teachers = teachers_from([("student", load_policy(student_file))])
    small = MergeConfig(rounds=1, envs=24, updates=5, minibatch=32, validation_episodes=2, min_teacher_success=0.0,
                        critic="none", target_retention=2.0)  # fmt: skip
    merge_experts(teachers[:1], tmp_path / "merge", small)
    student = load_policy(student_file)
    pool, count = read_recorded([LabeledData.open(tmp_path / "merge")], student)
    assert count == 1
    rows = pool.rows(0)
    with torch.no_grad():
        torch.testing.assert_close(rows.labels, student.policy(rows.observations))
    config = replace(SMALL, rehearsal=20.0)
    held = finetune(student, [NEW], tmp_path / "held", config, recorded=[tmp_path / "merge"])
    with torch.no_grad():
        change = load_policy(held.policy_path).policy(rows.observations) - rows.labels
    assert held.improved
    assert change.clamp(-1, 1).square().mean() < 0.01
    walker, flat = load_policy(Path(__file__).parents[1] / "data" / "flat-expert"), get_skill("biped/flat")
    with pytest.raises(ContractError, match="the policy reads"):
        finetune(walker, [flat], tmp_path / "other", FinetuneConfig(threads=1), recorded=[tmp_path / "merge"])


def test_what_cannot_be_fine_tuned_is_refused(student, tmp_path):
    with pytest.raises(ConfigError, match="name at least one with --skills"):
        finetune(student, [], tmp_path / "a")
    with pytest.raises(ConfigError, match="was given twice"):
        finetune(student, [NEW], tmp_path / "a", rehearsed=[OLD, NEW])
    with pytest.raises(ContractError):
        finetune(student, [gym_skill("gym:Pendulum-v1")], tmp_path / "a")
    assert not (tmp_path / "a").exists()
    config = replace(SMALL, steps=512, segment_steps=512)
    finetune(student, [NEW], tmp_path / "run", config)
    with pytest.raises(OutputError, match="--resume"):
        finetune(student, [NEW], tmp_path / "run", config)


@pytest.mark.parametrize(("targets", "others", "share", "expected"), [
    (1, 1, 0.5, (1, 1)), (1, 4, 0.5, (4, 4)), (2, 2, 0.25, (2, 6)), (3, 0, 0.5, (3, 0)), (1, 1, 1.0, (16, 1)),
])  # fmt: skip
def test_simulations_are_shared_between_targets_and_others(targets, others, share, expected):
    first = [gym_skill(f'gym:Pendulum-v1?{{"g": {i + 1}.0}}') for i in range(targets + others)]
    shared = _shares(first[:targets], first[targets:], share)
    names = [skill.id for skill in first[:targets]]
    assert (sum(s.id in names for s in shared), sum(s.id not in names for s in shared)) == expected
    assert {skill.id for skill in shared} == {skill.id for skill in first}


def test_the_worst_loss_is_of_success_or_of_the_share_of_the_reward():
    before = {"a": {"success": 1.0, "reward_per_step": 0.8}, "b": {"success": 0.5, "reward_per_step": -2.0}}
    gains = {"a": {"success": 1.0, "reward_per_step": 0.9}, "b": {"success": 0.9, "reward_per_step": -1.0}}
    assert worst_loss(before, gains) == pytest.approx(0.0)
    fall = {**gains, "a": {"success": 0.9, "reward_per_step": 0.8}}
    assert worst_loss(before, fall) == pytest.approx(0.1)
    poorer = {**gains, "b": {"success": 0.5, "reward_per_step": -2.5}}
    assert worst_loss(before, poorer) == pytest.approx(0.25)


def test_the_command_rehearses_all_other_skills(student_file, tmp_path, capsys):
    options = ["--set", "ppo.envs=16", "ppo.rollout_steps=16", "ppo.minibatch=64", "segment_steps=512",
               "validation_episodes=4", "final_episodes=4", "warm_up_steps=0"]  # fmt: skip
    status = main(["finetune", str(student_file), "--skills", NEW.id, "--steps", "512", "--out", str(tmp_path / "f"),
                   "--threads", "1", *options])  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    assert f"{NEW.id} *" in printed
    assert OLD.id in printed
    assert "note:" not in printed
    assert main(["finetune", str(student_file)]) == 2


def test_a_student_without_a_critic_is_told_apart(student, tmp_path, capsys):
    path = tmp_path / "student"
    save_policy(
        path, student.policy, robot=OLD.robot, skills=[OLD.id, NEW.id], operation="merge", seed=0,
        skill_records=records_of([OLD, NEW]), config={"critic": "none"},
    )  # fmt: skip
    command = ["finetune", str(path), "--skills", NEW.id, "--steps", "256", "--out", str(tmp_path / "f"),
               "--threads", "1", "--set", "ppo.envs=16", "ppo.rollout_steps=16", "ppo.minibatch=64",
               "validation_episodes=2", "final_episodes=2"]  # fmt: skip
    assert main(command) == 0
    assert "was merged without a critic" in capsys.readouterr().out
