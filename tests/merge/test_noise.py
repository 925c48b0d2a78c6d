"""DART's noise against NumPy, and its power."""

import numpy as np
import pytest
import torch

from policykd.agents.policy import Policy
from policykd.merge.collect import ActionNoise, dart_noise
from policykd.merge.data.rollout import LabeledRollout

STEPS, SIMS, ACTIONS = 20, 6, 3


@pytest.fixture
def student():
    policy = Policy({"a": 4}, ACTIONS, generator_seed=0)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return policy


def rollout(student, acted):
    g = torch.Generator().manual_seed(1)
    observations = torch.randn(STEPS * SIMS, 4, generator=g)
    mix = torch.tensor([[0.3, 0.0, 0.0], [0.2, 0.05, 0.0], [0.0, 0.0, 0.01]])
    with torch.no_grad():
        labels = (student(observations).clamp(-1, 1) + torch.randn(len(observations), 3, generator=g) @ mix.T).clamp(
            -1, 1
        )
    grid = torch.zeros(STEPS, SIMS, dtype=torch.bool)
    nothing = torch.zeros(0, dtype=torch.long)
    flat = torch.zeros(STEPS * SIMS)
    return LabeledRollout(observations, labels, grid.float(), grid, grid, acted, nothing, torch.zeros(0, 4), flat, flat)


def covariance(student, data, rows):
    with torch.no_grad():
        error = (student(data.observations).clamp(-1, 1) - data.labels).double().numpy()[rows]
    return sum(np.outer(e, e) for e in error) / len(error)


def test_covariance_is_that_of_the_error_on_the_experts_states(student):
    acted = torch.rand(STEPS, SIMS, generator=torch.Generator().manual_seed(2)) < 0.5
    data = rollout(student, acted)
    noise = dart_noise(student, data, 0.2)
    expected = covariance(student, data, ~acted.view(-1).numpy())
    expected *= ACTIONS * 0.2**2 / np.trace(expected)  # the power of independent noise of 0.2
    found = (0.2**2 * noise.shape @ noise.shape.T).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    drawn = noise.draw(200_000, ACTIONS, torch.Generator().manual_seed(3)).double().numpy()
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), expected, atol=2e-3)


def test_all_states_count_where_the_student_always_acted(student):
    data = rollout(student, torch.ones(STEPS, SIMS, dtype=torch.bool))
    noise = dart_noise(student, data, 0.1)
    expected = covariance(student, data, slice(None))
    found = (noise.shape @ noise.shape.T).numpy()
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-6)


def test_a_student_without_error_gets_independent_noise(student):
    data = rollout(student, torch.zeros(STEPS, SIMS, dtype=torch.bool))
    with torch.no_grad():
        data.labels = student(data.observations).clamp(-1, 1)
    assert dart_noise(student, data, 0.1) == ActionNoise(0.1)
