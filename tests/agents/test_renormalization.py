"""An extended normalizer: statistics as of all states, and the same actions and values as before."""

import pytest
import torch

from policykd.agents.architecture import Architecture, Encoder, Memory, Mixture
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.agents.renormalization import check_extends, extend_normalizer
from policykd.errors import ContractError

GROUPS = {"joints": 5, "terrain": 12}
DENSE = Architecture((16, 8), (12,), "tanh", 0.3)


def states(seed, count, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(count, 17, generator=torch.Generator().manual_seed(seed))


def policy_of(seen):
    policy = Policy(GROUPS, 3, DENSE, generator_seed=0)
    policy.update_normalizer(seen)
    return policy.double()


def test_the_policy_acts_as_before_and_its_statistics_are_those_of_all_states():
    old, new = states(0, 60, 1.0, 2.0), states(1, 20, -2.0, 3.0)
    old[:, 4], new[:, 4] = 0.3, 0.3  # a constant feature: its deviation is the lower bound before and afterward
    policy = policy_of(old)
    rows = torch.cat([old, new]).double()
    assert float(policy.normalizer(rows).abs().max()) < policy.normalizer.clip
    before = policy(rows), policy.value(rows)
    extend_normalizer(policy, new)
    torch.testing.assert_close(policy(rows), before[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(policy.value(rows), before[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(policy.normalizer.mean, rows.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(policy.normalizer.var, rows.var(0, unbiased=False), rtol=1e-5, atol=1e-6)
    assert int(policy.normalizer.count) == 80


def test_features_of_a_new_skill_are_no_longer_clipped():
    old, new = states(0, 60), states(1, 60, 40.0)
    policy = policy_of(old)
    assert bool((policy.normalizer(new.double()) == policy.normalizer.clip).all())
    extend_normalizer(policy, new)
    assert float(policy.normalizer(new.double()).abs().max()) < 2.0


def test_absent_features_are_not_counted():
    old, new = states(0, 60), states(1, 60, 4.0)
    policy = policy_of(old)
    present = torch.arange(17) < 5
    mean, before = policy.normalizer.mean.clone(), policy(old.double())
    extend_normalizer(policy, new, present)
    torch.testing.assert_close(policy.normalizer.mean[5:], mean[5:], rtol=0, atol=0)
    torch.testing.assert_close(policy.normalizer.mean[:5], torch.cat([old, new])[:, :5].double().mean(0), rtol=1e-5,
                               atol=1e-6)  # fmt: skip
    torch.testing.assert_close(policy(old.double()), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (Architecture((8,), memory=Memory("gru", 4)), "a memory"),
        (Architecture((8,), encoders=(Encoder("terrain", (2,), (3,), (1,), 4),)), "encoders"),
        (Architecture((8,), mixture=Mixture(2, 4)), "a mixture of experts"),
    ],
)
def test_other_networks_are_refused(architecture, words):
    policy = make_policy(GROUPS, 3, architecture, 0, None)
    with pytest.raises(ContractError, match=words):
        check_extends(policy)
