"""The moving average of a policy's weights."""

import math

import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import start_level
from policykd.envs.terrains import Terrain


def make_policy(seed=0):
    return Policy({"proprio": 3}, 2, Architecture(hidden=(4,), critic_hidden=(4,)), seed)


def first_weight(policy):
    return float(next(policy.actor.parameters()).detach().view(-1)[0])


def walk(average, policy, values, every):
    """Set one weight to each value in turn, ``every`` environment steps apart."""
    for i, value in enumerate(values):
        next(policy.actor.parameters()).data.view(-1)[0] = value
        average.update(policy, (i + 1) * every)


def test_follows_the_exponential_recursion():
    policy = make_policy()
    average, expected = WeightAverage(policy, 5000.0), first_weight(policy)
    values = [math.sin(i) for i in range(100)]
    walk(average, policy, values, every=1000)
    for i, value in enumerate(values):
        keep = math.exp(-1000 / min(5000.0, 0.1 * (i + 1) * 1000))
        expected = keep * expected + (1 - keep) * value
    assert first_weight(average.policy) == pytest.approx(expected, abs=1e-5)


def test_without_a_horizon_it_is_the_policy():
    policy = make_policy()
    average = WeightAverage(policy, 0)
    walk(average, policy, [0.3, -0.7], every=10)
    assert first_weight(average.policy) == first_weight(policy) == pytest.approx(-0.7)


def test_leaves_the_policy_alone_and_takes_its_normalizer():
    policy = make_policy()
    average = WeightAverage(policy, 1e6)
    policy.update_normalizer(torch.randn(50, 3))
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    average.update(policy, 1000)
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())
    assert torch.equal(average.policy.normalizer.mean, policy.normalizer.mean)
    assert average.policy.normalizer.mean.data_ptr() != policy.normalizer.mean.data_ptr()


def test_continues_from_a_checkpoint():
    policy = make_policy()
    one = WeightAverage(policy, 5000.0)
    walk(one, policy, [0.5, 0.1], every=1000)
    other = WeightAverage(make_policy(1), 5000.0)
    other.load_state_dict(one.state_dict())
    for average in (one, other):
        average.update(make_policy(2), 3000)
    assert all(torch.equal(a, b) for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True))


def test_the_curriculum_begins_where_it_suits_the_terrain_unless_told():
    assert start_level(TrainConfig(), [Terrain("steps")]) == 0.1
    assert start_level(TrainConfig(), [Terrain("flat"), Terrain("steps")]) == 0.5
    assert start_level(TrainConfig(start_level=0.3), [Terrain("steps")]) == 0.3


def test_early_in_a_run_the_memory_is_a_tenth_of_its_steps():
    """After 100 steps with a horizon of 5000, one update 10 steps later keeps exp(-10 / 11) of the average."""
    policy = make_policy()
    average = WeightAverage(policy, 5000.0)
    walk(average, policy, [0.0] * 10, every=10)
    before = first_weight(average.policy)
    next(policy.actor.parameters()).data.view(-1)[0] = 1.0
    average.update(policy, 110)
    keep = math.exp(-10 / 11)
    assert first_weight(average.policy) == pytest.approx(keep * before + (1 - keep), abs=1e-6)
