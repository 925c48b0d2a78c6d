"""The policy network: normalizer, groups, determinism, and its twin inside stable-baselines3."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Normalizer, Policy
from policykd.agents.training.sb3_policy import Sb3Policy
from policykd.errors import ConfigError, ContractError, UnknownNameError

GROUPS = {"proprio": 4, "terrain": 3}


def test_normalizer_equals_numpy_over_all_batches():
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, (n, 5)) for n in (7, 1, 100, 13)]
    normalizer = Normalizer(5)
    for batch in batches:
        normalizer.update(torch.from_numpy(batch).float())
    everything = np.concatenate(batches)
    np.testing.assert_allclose(normalizer.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normalizer.var, everything.var(0), rtol=1e-4)
    assert normalizer.count == len(everything)


def test_constant_features_do_not_explode():
    normalizer = Normalizer(1)
    normalizer.update(torch.zeros(1000, 1))
    assert normalizer(torch.tensor([[0.15]])).item() == pytest.approx(1.5)  # a 15 cm step after flat ground
    assert normalizer(torch.tensor([[1e9]])).item() == normalizer.clip


def test_flatten_takes_named_groups_in_the_policys_order():
    policy = Policy(GROUPS, 2, generator_seed=0)
    observations = {"phase": torch.zeros(1, 5), "terrain": torch.full((1, 3), 2.0), "proprio": torch.ones(1, 4)}
    assert policy.flatten(observations).tolist() == [[1, 1, 1, 1, 2, 2, 2]]


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ({"proprio": torch.zeros(1, 4)}, r"'terrain' \(3\).*only proprio \(4\)"),
        ({"proprio": torch.zeros(1, 4), "terrain": torch.zeros(1, 50)}, "'terrain' has 50.*reads 3"),
    ],
)
def test_missing_or_misshapen_groups_are_named(observations, message):
    with pytest.raises(ContractError, match=message):
        Policy(GROUPS, 2).flatten(observations)


def test_seeds_give_equal_weights_and_leave_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (
        Policy(GROUPS, 2, generator_seed=1),
        Policy(GROUPS, 2, generator_seed=1),
        Policy(GROUPS, 2, generator_seed=2),
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.actor[0].weight, b.actor[0].weight)
    assert not torch.equal(a.actor[0].weight, c.actor[0].weight)


def test_squash_bounds_the_mean():
    policy = Policy(GROUPS, 2, Architecture(squash=True), generator_seed=0)
    torch.nn.init.constant_(policy.actor[-1].bias, 100.0)
    assert policy(torch.zeros(1, 7)).max() <= 1.0


def test_inside_stable_baselines3_it_is_the_same_gaussian():
    network = Policy(GROUPS, 2, generator_seed=0)
    network.normalizer.update(torch.randn(50, 7) * 3 + 1)
    box = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    policy = Sb3Policy(box, spaces.Box(-1, 1, (2,), np.float32), lambda _: 1e-3, network=network)
    observations, actions = torch.randn(9, 7), torch.randn(9, 2)
    distribution = network.distribution(observations)
    values, log_prob, entropy = policy.evaluate_actions(observations, actions)
    torch.testing.assert_close(log_prob, distribution.log_prob(actions).sum(1))
    torch.testing.assert_close(entropy, distribution.entropy().sum(1))
    torch.testing.assert_close(values.squeeze(1), network.value(observations))
    torch.testing.assert_close(policy(observations, deterministic=True)[0], network(observations))
    assert {id(p) for p in policy.parameters()} == {id(p) for p in network.parameters()}


def test_sampled_actions_have_the_policys_spread():
    network = Policy(GROUPS, 2, Architecture(initial_std=0.3), generator_seed=0)
    box = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    policy = Sb3Policy(box, spaces.Box(-1, 1, (2,), np.float32), lambda _: 1e-3, network=network)
    torch.manual_seed(0)
    actions = policy(torch.zeros(20_000, 7))[0]
    assert actions.std(0).tolist() == pytest.approx([0.3, 0.3], rel=0.03)


def test_bad_shapes_are_refused():
    with pytest.raises(ConfigError, match="groups and actions"):
        Policy({}, 2)
    with pytest.raises(UnknownNameError, match="did you mean relu"):
        Architecture(activation="rleu")
