"""The step size follows the divergence of updates, and the share of the budget that is spent never exceeds 1."""

from types import SimpleNamespace

import pytest
import torch

from policykd.agents.policy import Policy
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.algorithms.ppo import PpoAdaptation, PpoConfig
from policykd.agents.training.sb3_callback import TrainingCallback

CONFIG = PpoConfig(target_kl=0.02, final_target_kl=0.01, learning_rate=1e-3, learning_rate_range=(1e-5, 1e-2))


@pytest.mark.parametrize(
    ("divergence", "spent", "factor"),
    [
        (0.04, 0.0, 1.0), (0.0401, 0.0, 1 / 1.5), (0.01, 0.0, 1.0), (0.0099, 0.0, 1.5), (0.02, 0.0, 1.0),
        (0.02, 1.0, 1.0), (0.0201, 1.0, 1 / 1.5), (0.005, 1.0, 1.0), (0.0049, 1.0, 1.5), (0.031, 0.5, 1 / 1.5),
    ],
)  # fmt: skip
def test_the_step_changes_beyond_twice_or_half_the_target_only(divergence, spent, factor):
    adaptation = PpoAdaptation(CONFIG)
    adaptation.adapt(divergence, spent)
    assert adaptation.value == pytest.approx(1e-3 * factor, rel=1e-12)


def test_the_step_stays_within_its_range():
    adaptation = PpoAdaptation(CONFIG)
    for _ in range(40):
        adaptation.adapt(1.0, 0.0)
    assert adaptation.value == 1e-5
    for _ in range(40):
        adaptation.adapt(0.0, 0.0)
    assert adaptation.value == 1e-2


@pytest.mark.parametrize(("steps", "share"), [(50, 0.5), (100, 1.0), (130, 1.0)])
def test_the_spent_share_of_the_budget_is_at_most_one(steps, share):
    """The last rollout may go beyond the budget."""
    callback = TrainingCallback.__new__(TrainingCallback)
    seen = []
    adaptation = Adaptation(1e-3)
    adaptation.adapt = lambda divergence, spent: seen.append(spent)
    callback._adaptation, callback._config = adaptation, SimpleNamespace(steps=100)
    callback._rollout = SimpleNamespace(divergence=lambda policy: 0.0, observations=torch.zeros(2, 3))
    callback._policy = Policy({"a": 3}, 2)
    callback._env = SimpleNamespace(skills=[SimpleNamespace(absent_groups=())])
    callback._average, callback.num_timesteps = SimpleNamespace(update=lambda policy, steps: None), steps
    callback._on_rollout_start()
    assert seen == [share]
