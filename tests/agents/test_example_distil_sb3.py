"""The example that distills a policy of stable-baselines3: its own zip becomes a student that does the same."""

import sys
from pathlib import Path

import gymnasium
import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.merge import MergeConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from foreign_envs import register

import distil_sb3_policy

stable_baselines3 = pytest.importorskip("stable_baselines3")
register()


def test_a_zip_becomes_a_student_that_steers_as_the_expert_does(tmp_path):
    env = gymnasium.make("policykd-tests/Point-v0", goal=1.0)
    model = stable_baselines3.PPO("MlpPolicy", env, device="cpu", seed=0, policy_kwargs={"net_arch": []})
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.tensor([[-3.0, 0.0]]))
        model.policy.action_net.bias.fill_(3.0)
    model.save(tmp_path / "model.zip")
    config = MergeConfig(
        rounds=3, envs=4, updates=150, minibatch=128, critic="none", min_teacher_success=0.0, validation_episodes=2,
        threads=1, averaging=0.95, architecture=Architecture(hidden=(16,), critic_hidden=(8,)),
    )  # fmt: skip
    found = distil_sb3_policy.distil(
        [tmp_path / "model.zip"], ['policykd-tests/Point-v0?{"goal": 1.0}'], tmp_path / "out", config, episodes=4
    )
    (skill,) = found.experts
    assert found.experts == {skill: "expert-0"}
    assert found.summaries["student", skill].retention.estimate == pytest.approx(1.0, abs=0.05)
    (line,) = distil_sb3_policy.describe(found)
    assert line.startswith(f"{skill}: returns of student, expert, random actions -")
    manifest = load_policy(tmp_path / "out" / "student").manifest
    assert manifest.architecture.hidden == (16,)
    assert manifest.parents[0].name == "expert-0"


def test_a_zip_without_an_environment_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["distil", "model.zip"])
    with pytest.raises(SystemExit):
        distil_sb3_policy.main()
    assert "give a zip and the id of its environment" in capsys.readouterr().err
