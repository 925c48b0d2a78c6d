"""Average, task arithmetic, TIES and DARE against literal loops; normalizers against the pooled data."""

import copy
import math

import numpy as np
import pytest
import torch
from weight_samples import SIZES, draws, moved, new_policy, seen, states, under_other_statistics

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.policy import Normalizer, Policy
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge.weights import METHODS, WeightMergeConfig, pooled
from policykd.merge.weights.methods import (
    combine,
    delta_norm,
    dropped,
    elected_mean,
    sign_conflicts,
    trimmed,
)
from policykd.merge.weights.normalizers import check_reach, referred, with_parameters

LINEAR = Architecture((), (), initial_std=0.3)


def statistics(seed, count, size=6, shift=0.0):
    data = torch.randn(count, size, generator=draws(seed)) * (seed + 1) + shift
    normalizer = Normalizer(size)
    normalizer.update(data)
    return normalizer, data.double().numpy()


def test_pooled_statistics_are_those_of_all_observations():
    parts = [statistics(1, 40), statistics(2, 300, shift=5.0), statistics(3, 7, shift=-20.0)]
    found = pooled([normalizer for normalizer, _ in parts])
    data = np.concatenate([rows for _, rows in parts])
    np.testing.assert_allclose(found.mean, data.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.var, data.var(axis=0), rtol=1e-5)
    assert found.count.shape == ()
    assert float(found.count) == 347


def test_features_that_are_counted_apart_are_pooled_apart():
    first, rows = statistics(1, 40)
    second, _ = statistics(2, 60)
    second.count_apart()
    second.count[2:] = 0
    second.mean[2:] = 99.0
    found = pooled([first, second])
    assert found.count.tolist() == [100, 100, 40, 40, 40, 40]
    np.testing.assert_allclose(found.mean[2:], rows[:, 2:].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var[2:], rows[:, 2:].var(axis=0), rtol=1e-5)


def test_features_without_observations_have_the_mean_of_the_given_values():
    first, second = Normalizer(2), Normalizer(2)
    second.mean.copy_(torch.tensor([2.0, 0.0]))
    first.min_std, first.clip = 0.01, 5.0
    found = pooled([first, second])
    assert found.mean.tolist() == [1.0, 0.0]
    assert found.var.tolist() == [2.0, 1.0]
    assert (float(found.count), found.min_std, found.clip) == (0.0, 0.01, 5.0)


def merged_policy(policies, config=WeightMergeConfig(), ancestor=None):
    common = pooled([policy.normalizer for policy in policies])
    start = None if ancestor is None else referred(ancestor, common)
    values = combine([referred(policy, common) for policy in policies], start, config)
    return with_parameters(copy.deepcopy(policies[0]), values, common)


def other(policy, seed, count):
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(1.0, 1.0, policy.observation_size), rng.uniform(2.0, 5.0, policy.observation_size)
    return under_other_statistics(policy, mean, std, count)


def test_policies_of_one_function_and_other_normalizers_merge_into_that_function():
    first = new_policy(3)
    second = other(first, 4, 200)
    x = states(first)
    torch.testing.assert_close(second(x), first(x), atol=1e-5, rtol=1e-5)  # the premise
    found = merged_policy([first, second])
    torch.testing.assert_close(found(x), first(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.value(x), first.value(x), atol=1e-5, rtol=1e-5)
    naive = copy.deepcopy(first)
    with torch.no_grad():
        for mine, theirs in zip(naive.parameters(), second.parameters(), strict=True):
            mine.add_(theirs).div_(2)
    naive.normalizer.load_state_dict(found.normalizer.state_dict())
    assert (naive(x) - first(x)).abs().max() > 0.05


@pytest.mark.parametrize("method", ["task-arithmetic", "ties", "dare"])
def test_deltas_of_zero_leave_the_ancestor_whatever_the_normalizers(method):
    ancestor = new_policy(3)
    policies = [other(ancestor, 4, 200), other(ancestor, 5, 30)]
    found = merged_policy(policies, WeightMergeConfig(method, density=None), ancestor)
    x = states(ancestor)
    torch.testing.assert_close(found(x), ancestor(x), atol=1e-4, rtol=1e-4)


def test_linear_policies_add_up_as_functions():
    """Whatever their normalizers: the average of linear functions, and the sum of their differences."""
    ancestor = new_policy(1, LINEAR)
    policies = [seen(moved(ancestor, seed, 0.3), seed, 40, 2.0, 0.5) for seed in (5, 6, 7)]
    x = states(ancestor)
    with torch.no_grad():
        start, values = ancestor(x), torch.stack([policy(x) for policy in policies])
        torch.testing.assert_close(merged_policy(policies)(x), values.mean(dim=0), atol=1e-4, rtol=1e-4)
        config = WeightMergeConfig("task-arithmetic", scale=0.3)
        summed = start + 0.3 * (values - start).sum(dim=0)
        torch.testing.assert_close(merged_policy(policies, config, ancestor)(x), summed, atol=1e-4, rtol=1e-4)


def test_half_the_sum_of_two_deltas_is_their_average():
    ancestor = new_policy(1)
    policies = [moved(ancestor, 5), moved(ancestor, 6)]
    x = states(ancestor)
    found = merged_policy(policies, WeightMergeConfig("task-arithmetic"), ancestor)
    torch.testing.assert_close(found(x), merged_policy(policies)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("join", ["last", "every"])
@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_dense_encoders_take_over_their_features(join, hidden):
    encoder = Encoder("terrain", (), (), (), 5, join)
    policy = new_policy(2, Architecture(hidden, (7,), "tanh", encoders=(encoder,)))
    common = Normalizer(policy.observation_size)
    common.update(torch.randn(90, policy.observation_size, generator=draws(9)) * 2 - 0.5)
    found = with_parameters(copy.deepcopy(policy), referred(policy, common), common)
    x = states(policy)
    torch.testing.assert_close(found(x), policy(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.value(x), policy.value(x), atol=1e-5, rtol=1e-5)
    assert (found.actor[0].encoders[0].dense.weight - policy.actor[0].encoders[0].dense.weight).abs().max() > 0.01


def test_kernels_take_over_what_is_the_same_for_all_features_and_nothing_else():
    policy = new_policy(2, Architecture((8,), (7,), "tanh", encoders=(Encoder("terrain", (3, 2), (4, 2), (2, 1), 5),)))
    start = list(SIZES).index("terrain")
    first = sum(list(SIZES.values())[:start])
    span = slice(first, first + SIZES["terrain"])
    with torch.no_grad():
        policy.normalizer.mean[span], policy.normalizer.var[span] = 0.5, 4.0
    common = Normalizer(policy.observation_size)
    common.update(torch.randn(90, policy.observation_size, generator=draws(9)) * 2 - 0.5)
    common.mean[span], common.var[span] = -0.25, 9.0
    found = with_parameters(copy.deepcopy(policy), referred(policy, common), common)
    x = states(policy)
    torch.testing.assert_close(found(x), policy(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.value(x), policy.value(x), atol=1e-5, rtol=1e-5)
    for values in (common.mean, common.var):
        kept = values[first].clone()
        values[first] += 0.1
        with pytest.raises(ContractError, match="the normalizers differ in observation group terrain, which conv"):
            referred(policy, common)
        values[first] = kept


def test_normalizers_that_would_clip_a_policy_are_refused():
    common, few = new_policy(1), new_policy(2)
    with torch.no_grad():
        few.normalizer.mean[4] = 500.0
    both = pooled([common.normalizer, few.normalizer])
    check_reach({"common": common, "few": few}, both)  # 50 observations each: the spread of the pool covers both
    few.normalizer.count.fill_(1.0)
    common.normalizer.count.fill_(100_000.0)
    both = pooled([common.normalizer, few.normalizer])
    with pytest.raises(ContractError, match=r"feature 4 has mean 500 .* in few, and mean"):
        check_reach({"common": common, "few": few}, both)


def test_the_bound_of_the_reach_is_three_standard_deviations():
    policy = Policy({"a": 1}, 1, LINEAR, 0)
    common = Normalizer(1)
    common.mean.fill_(6.99)  # clips below -3.01
    check_reach({"p": policy}, common)
    common.mean.fill_(7.01)
    with pytest.raises(ContractError, match="observation group a, feature 0"):
        check_reach({"p": policy}, common)
    policy.normalizer.clip = common.clip = 2.0  # its own range is narrower than three
    common.mean.zero_()
    check_reach({"p": policy}, common)


def literal_ties(deltas, density):
    """One entry after the other."""
    deltas = [list(map(float, row)) for row in deltas]
    count = max(1, round(density * len(deltas[0])))
    for row in deltas:
        kept = sorted(range(len(row)), key=lambda j: -abs(row[j]))[:count]
        row[:] = [value if j in kept else 0.0 for j, value in enumerate(row)]
    merged = []
    for column in zip(*deltas, strict=True):
        total = math.fsum(column)
        agreeing = [value for value in column if value * total > 0]
        merged.append(math.fsum(agreeing) / len(agreeing) if agreeing else 0.0)
    return merged


@pytest.mark.parametrize("density", [0.001, 0.2, 0.55, 1.0])
def test_ties_is_the_literal_method(density):
    deltas = torch.randn(3, 41, generator=draws(2), dtype=torch.float64)
    found = elected_mean(trimmed(deltas, density))
    np.testing.assert_allclose(found, literal_ties(deltas, density), rtol=1e-12, atol=1e-15)


def test_an_entry_whose_deltas_cancel_stays():
    assert elected_mean(torch.tensor([[1.0, 2.0, 0.0], [-1.0, 4.0, -3.0]])).tolist() == [0.0, 3.0, -3.0]


def test_dare_drops_and_rescales():
    deltas = torch.randn(2, 4000, generator=draws(2), dtype=torch.float64)
    found = dropped(deltas, 0.25, 7, "actor")
    kept = found != 0
    assert 0.22 < float(kept.double().mean()) < 0.28
    torch.testing.assert_close(found[kept], 4 * deltas[kept])
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(found, dropped(deltas, 0.25, 7, "actor"))
    assert not torch.equal(found, dropped(deltas, 0.25, 8, "actor"))
    assert not torch.equal(found, dropped(deltas, 0.25, 7, "critic"))
    mean = torch.stack([dropped(deltas[:, :5], 0.25, seed, "actor") for seed in range(3000)]).mean(dim=0)
    torch.testing.assert_close(mean, deltas[:, :5], atol=0.15, rtol=0.1)


def parameters(*rows):
    """Policies of five actor and two critic parameters."""
    return [
        {"log_std": torch.tensor([row[0]]), "actor.0.weight": torch.tensor(row[1:5]).reshape(2, 2),
         "actor.0.bias": torch.tensor(row[5:6]), "critic.0.weight": torch.tensor(row[6:8])}
        for row in torch.tensor(rows, dtype=torch.float64).tolist()
    ]  # fmt: skip


def flat(values):
    return torch.cat([values[name].flatten() for name in ("log_std", "actor.0.weight", "actor.0.bias",
                                                          "critic.0.weight")]).tolist()  # fmt: skip


ANCESTOR, FIRST, SECOND = (
    [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0],
    [-1.0, 2.0, 1.0, 1.5, 1.0, 1.0, 102.0, 2.0],
    [-3.0, 2.0, 0.0, 0.75, 1.0, 1.0, 2.0, 2.5],
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (WeightMergeConfig(), [-2.0, 2.0, 0.5, 1.125, 1.0, 1.0, 52.0, 2.25]),
        (WeightMergeConfig("task-arithmetic", scale=2.0), [-2.0, 5.0, -1.0, 1.5, 1.0, 1.0, 202.0, 3.0]),
        # Two of five of the actor and one of two of the critic: shares of the parts, not of all parameters.
        (WeightMergeConfig("ties", density=0.4), [-2.0, 2.0, 0.0, 1.5, 1.0, 1.0, 102.0, 2.5]),
        (WeightMergeConfig("ties", scale=0.5, density=1.0), [-2.0, 1.5, 0.5, 1.25, 1.0, 1.0, 52.0, 2.25]),
        (WeightMergeConfig("dare", scale=2.0, density=1.0), [-2.0, 5.0, -1.0, 1.5, 1.0, 1.0, 202.0, 3.0]),
    ],
)
def test_small_merges_by_hand(config, expected):
    ancestor, first, second = parameters(ANCESTOR, FIRST, SECOND)
    assert flat(combine([first, second], ancestor, config)) == pytest.approx(expected)


def test_figures_of_the_deltas():
    ancestor, first, second = parameters(ANCESTOR, FIRST, SECOND)
    assert delta_norm(second, ancestor) == pytest.approx(math.sqrt(1 + 1 + 0.25**2))
    assert sign_conflicts([first, second], ancestor) == pytest.approx(1 / 5)


def test_settings_are_checked():
    assert set(METHODS) == {"average", "task-arithmetic", "ties", "dare"}
    assert WeightMergeConfig("ties").resolved() == WeightMergeConfig("ties", 1.0, 0.2)
    assert WeightMergeConfig("dare", 0.0).resolved() == WeightMergeConfig("dare", 0.0, 0.5)
    assert WeightMergeConfig("task-arithmetic").resolved().scale == 0.5
    for wrong, message in (
        ({"scale": 1.0}, "method average has none"),
        ({"method": "task-arithmetic", "density": 0.5}, "use ties, dare"),
        ({"method": "ties", "density": 0.0}, "density is 0.0"),
        ({"method": "ties", "density": 1.01}, "density is 1.01"),
        ({"method": "dare", "scale": 10.5}, "scale is 10.5"),
        ({"method": "dare", "scale": -0.1}, "scale is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            WeightMergeConfig(**wrong)
    with pytest.raises(UnknownNameError, match="did you mean ties"):
        WeightMergeConfig("tie")
    with pytest.raises(ConfigError, match="give one"):
        combine(parameters(FIRST, SECOND), None, WeightMergeConfig("ties"))


@pytest.mark.parametrize(("spread", "fits"), [(0.5, True), (1.5, False)])
def test_how_alike_the_features_of_a_kernel_must_be(spread, fits):
    """Scales of 1 may differ by 2e-6: by a millionth of one more than the largest."""
    policy = new_policy(2, Architecture((8,), (7,), "tanh", encoders=(Encoder("terrain", (3, 2), (4, 2), (2, 1), 5),)))
    for parameter in policy.parameters():
        parameter.data = parameter.data.double()
    policy.normalizer.double()
    start = sum(list(SIZES.values())[: list(SIZES).index("terrain")])
    common = copy.deepcopy(policy.normalizer)
    common.var[start] *= (1.0 + spread * 2e-6) ** 2
    if fits:
        referred(policy, common)
        return
    with pytest.raises(ContractError, match="the normalizers differ"):
        referred(policy, common)
