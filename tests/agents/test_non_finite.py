"""A non-finite observation or reward stops a training, naming feature, simulation and step; the best policy is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import SMALL

from policykd.agents.files.policy_file import load_policy
from policykd.agents.training import train_expert
from policykd.agents.training.non_finite import describe_non_finite
from policykd.envs.sb3_vec_env import Sb3VecEnv
from policykd.envs.skills import get_skill
from policykd.errors import NonFiniteError

FLAT = get_skill("biped/flat")
GROUPS = {"proprio": 49, "terrain": 50}
FEW = replace(SMALL, steps=4096, segment_steps=1024, finalists=1)


def spoil(monkeypatch, at, change):
    """Change what the environment returns at its call number ``at``."""
    real, calls = Sb3VecEnv.step_wait, []

    def step_wait(self):
        observations, rewards, *rest = real(self)
        calls.append(1)
        if len(calls) == at:
            observations, rewards = observations.copy(), rewards.copy()
            change(observations, rewards)
        return (observations, rewards, *rest)

    monkeypatch.setattr(Sb3VecEnv, "step_wait", step_wait)


def test_feature_simulation_and_step_are_named_and_the_best_policy_is_kept(tmp_path, monkeypatch):
    def scan(observations, rewards):
        observations[5, 52] = np.inf

    spoil(monkeypatch, 40, scan)
    text = r"feature 3 of observation group terrain of simulation 5 is inf at environment step 1,280; the best policy"
    with pytest.raises(NonFiniteError, match=text) as caught:
        train_expert([FLAT], tmp_path, FEW)
    assert "with --resume" in str(caught.value)
    policy, manifest = load_policy(tmp_path)
    assert manifest.metrics["steps"] == 1024
    assert all(torch.isfinite(value).all() for value in policy.state_dict().values())
    monkeypatch.undo()
    assert train_expert([FLAT], tmp_path, FEW, resume=True).steps == 4096


def test_before_the_first_validation_there_is_no_policy(tmp_path, monkeypatch):
    def reward(observations, rewards):
        rewards[2] = np.nan

    spoil(monkeypatch, 3, reward)
    with pytest.raises(NonFiniteError, match="the reward of simulation 2 is nan at environment step 96; no policy had"):
        train_expert([FLAT], tmp_path, FEW)
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (0, "feature 0 of observation group proprio of simulation 1"),
        (48, "feature 48 of observation group proprio of simulation 1"),
        (49, "feature 0 of observation group terrain of simulation 1"),
        (98, "feature 49 of observation group terrain of simulation 1"),
        (100, "column 100 of the observations of simulation 1"),
    ],
)
def test_columns_belong_to_their_groups(column, text):
    observations = np.zeros((3, 101))
    observations[1, column] = np.nan
    assert describe_non_finite(observations, np.zeros(3), GROUPS) == f"{text} is nan"
