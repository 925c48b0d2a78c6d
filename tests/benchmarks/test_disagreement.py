"""The benchmark of how differently experts act in the same states."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import disagreement
from policykd.agents.files.policy_file import load_policy

EXPERT = Path(__file__).parents[1] / "data" / "flat-expert"


def test_a_shifted_policy_is_as_far_away_as_its_shift():
    loaded = load_policy(EXPERT)
    first, shifted = loaded.policy, copy.deepcopy(loaded.policy)
    with torch.no_grad():
        shifted.actor[-1].bias += 0.05
    skill = loaded.manifest.skill("biped/flat", tuple(first.groups))
    options = disagreement.Options(experts=(), episodes=4, steps=10)
    found = disagreement.measure(skill, "own", {"own": first, "same": first, "other": shifted}, options)
    assert found["apart"]["same"] == 0.0
    assert found["apart"]["other"] == pytest.approx(0.05, rel=0.2)
    assert found["spread"] > 0.05
