"""Training on a device, run on the CPU: the same folders, files and answers as training with stable-baselines3."""

import json
from dataclasses import replace

import pytest
import torch

from policykd.agents.files.policy_file import load_policy
from policykd.agents.training import PpoConfig, TrainConfig, experts, train_expert
from policykd.agents.training.device_trainer import DeviceRun
from policykd.envs import devices
from policykd.envs.skills import get_skill
from policykd.envs.terrains.tracks import graded_rows
from policykd.errors import ConfigError, MissingDependencyError
from policykd.evaluation import evaluate

FLAT = get_skill("biped/flat")
TINY = TrainConfig(
    steps=1024, segment_steps=512, validation_episodes=2, threads=1, target_success=2.0,
    ppo=PpoConfig(envs=16, rollout_steps=16, minibatch=128, epochs=1),
)  # fmt: skip


@pytest.fixture
def on_device(monkeypatch):
    """Runs are those of a device; the device is the CPU."""
    monkeypatch.setattr(experts, "_run_class", lambda config: DeviceRun)


def rows(folder):
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_policy_that_is_evaluated_anywhere(on_device, tmp_path):
    result = train_expert([FLAT], tmp_path / "run", TINY)
    assert result.steps == 1024
    assert [row["steps"] for row in rows(tmp_path / "run")] == [512, 1024]
    loaded = load_policy(result.policy_path)
    assert list(loaded.manifest.skills) == ["biped/flat"]
    assert loaded.policy.normalizer.count >= 512  # the first segment may have done best
    measured = evaluate({"expert": loaded.policy}, [FLAT], episodes=2, threads=1, device="cpu")
    assert len(measured.cells["expert", "biped/flat"].total_reward) == 2


@pytest.mark.parametrize("name", ["quadruped/gaps", "quadruped/stairs"])
def test_robots_in_space_are_trained_there_too(on_device, tmp_path, name):
    skill = replace(get_skill(name), episode_steps=100)
    result = train_expert([skill], tmp_path / "run", replace(TINY, start_level=0.01))
    policy = load_policy(result.policy_path).policy
    found = evaluate({"expert": policy}, [skill], episodes=4, seed=0).summaries["expert", skill.id]
    assert 0.0 < found.reward_per_step.estimate < 1.0
    assert [row["steps"] for row in rows(tmp_path / "run")] == [512, 1024]


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(on_device, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    update, calls = DeviceRun._update, []

    def interrupted(run):
        calls.append(run._steps)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(run)

    with monkeypatch.context() as patch:
        patch.setattr(DeviceRun, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_expert([FLAT], folder, TINY)
    assert [row["steps"] for row in rows(folder)] == [512]
    resumed = train_expert([FLAT], folder, TINY, resume=True)
    whole = train_expert([FLAT], tmp_path / "whole", TINY)
    assert [row["steps"] for row in rows(folder)] == [512, 1024]
    mine, theirs = (load_policy(result.policy_path).policy.state_dict() for result in (resumed, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert rows(folder)[-1]["reward_per_step"] == rows(tmp_path / "whole")[-1]["reward_per_step"]


def test_success_raises_the_level_of_the_next_episodes(on_device, tmp_path, monkeypatch):
    levels = []
    monkeypatch.setattr("policykd.agents.training.device_ppo.EpisodeMeans.take",
                        lambda self, least=1: {"train_success": 0.9})  # fmt: skip
    original = DeviceRun._update

    def noted(run):
        figures = original(run)
        levels.append((run._env.level, max(run._env._pool[0].tolist())))
        return figures

    monkeypatch.setattr(DeviceRun, "_update", noted)
    train_expert([FLAT], tmp_path / "run", TINY)
    assert [round(level, 2) for level, _ in levels] == [0.54, 0.58, 0.62, 0.66]
    assert all(hardest < graded_rows(1024, level)[1] for level, hardest in levels)
    assert [hardest for _, hardest in levels] == sorted(hardest for _, hardest in levels)


def test_a_device_that_is_not_there_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    config = TrainConfig(device="cuda")
    with pytest.raises(MissingDependencyError, match="built without CUDA"):
        train_expert([FLAT], tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(devices, "missing_for_cuda", list)
    with pytest.raises(ConfigError, match="algorithm sac runs on the CPU only"):
        train_expert([FLAT], tmp_path / "run", TrainConfig(device="cuda", algorithm="sac"))
    assert not (tmp_path / "run").exists()


def test_a_run_knows_what_auto_stood_for(tmp_path, monkeypatch):
    """Begun on the CPU, it is not silently continued elsewhere."""
    config = replace(TINY, device="auto", steps=512)
    train_expert([FLAT], tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["device"] == "cpu"
    monkeypatch.setattr(experts, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(ConfigError, match="device"):
        train_expert([FLAT], tmp_path, config, resume=True)
