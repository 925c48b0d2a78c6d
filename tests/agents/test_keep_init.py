"""A training that starts from a policy is never worse than it: its start is validated first, and is a candidate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import SMALL

from policykd.agents.files.policy_file import load_policy
from policykd.agents.training import PpoConfig, train_expert
from policykd.cli.main import main
from policykd.envs.skills import get_skill

STORED = Path(__file__).parents[1] / "data" / "flat-expert"
FLAT = get_skill("biped/flat")
WILD = PpoConfig(envs=32, rollout_steps=16, minibatch=256, epochs=5, learning_rate=0.1, learning_rate_range=(0.1, 0.1))
CONFIG = replace(SMALL, steps=2048, segment_steps=1024, finalists=1, target_success=0.9, ppo=WILD)


@pytest.mark.parametrize("keep", [True, False])
def test_a_training_that_destroys_its_start_returns_it(keep, tmp_path):
    start = load_policy(STORED)
    weights = {name: value.clone() for name, value in start.policy.state_dict().items()}
    result = train_expert([FLAT], tmp_path, replace(CONFIG, keep_init=keep), init=start)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == ([0] if keep else []) + [1024, 2048]
    assert max(row["success"] for row in rows[-2:]) < 0.9, "the control: this training destroys the policy"
    ended = load_policy(tmp_path).policy.state_dict()
    same = all(torch.equal(value, ended[name]) for name, value in weights.items())
    assert same == keep
    assert (result.success >= 0.9) == keep
    assert result.steps == 2048, "a start that reaches the target is still trained"


def test_the_command_keeps_its_start(tmp_path):
    tiny = ["steps=1024", "segment_steps=1024", "validation_episodes=4", "finalists=1"]
    assert main(["train", "biped/flat", "--init", str(STORED), "--out", str(tmp_path), "--set", *tiny]) == 0
    rows = (tmp_path / "flat" / "progress.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["steps"] == 0
    assert load_policy(tmp_path / "flat").manifest.config["keep_init"] is True
