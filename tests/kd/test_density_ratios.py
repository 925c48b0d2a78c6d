"""Weights of independence and critics against exact joint distributions and known information."""

import math

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError, ShapeError
from policykd.kd.density_ratios import (
    Critic,
    critic_loss,
    cross_fitted,
    effective_samples,
    independence_weights,
    information,
)

RNG = np.random.default_rng(0)


def test_exact_weights_make_a_joint_table_independent():
    """9 samples of (0, 0) and (1, 1) for each of (0, 1) and (1, 0)."""
    y = np.array([0] * 9 + [0] + [1] + [1] * 9)
    z = np.array([0] * 9 + [1] + [0] + [1] * 9)
    probabilities = np.stack([np.where(z == 0, 0.9, 0.1), np.where(z == 0, 0.1, 0.9)], 1)
    weights = independence_weights(probabilities, y)
    np.testing.assert_allclose(weights[[0, 9]] * 20, [0.5 / 0.9, 0.5 / 0.1], atol=1e-12)
    for a in (0, 1):
        for b in (0, 1):
            assert weights[(y == a) & (z == b)].sum() == pytest.approx(0.25)
    assert weights.sum() == pytest.approx(1.0)


def correlated(count=100_000, a=0.5):
    y = RNG.integers(0, 2, count)
    z = a * (2 * y - 1) + RNG.normal(size=count)
    up = 1 / (1 + np.exp(-2 * a * z))
    return y, z, np.stack([1 - up, up], 1)


def test_weights_of_a_continuous_nuisance():
    for y, z, expected in ((1, 1.0, 0.683940), (0, 1.0, 1.859141), (1, -2.0, 4.194528)):
        up = 1 / (1 + math.exp(-z))
        assert 0.5 / (up if y else 1 - up) == pytest.approx(expected, abs=1e-6)
    y, z, probabilities = correlated()
    weights = independence_weights(probabilities, y, smallest=1e-4, largest=1.0)
    share = weights * len(y)
    assert share.mean() == pytest.approx(1.0)
    assert (share * (y - 0.5) * z).mean() == pytest.approx(0.0, abs=0.02)
    assert weights[y == 1].sum() == pytest.approx((y == 1).mean())
    assert (share * z).mean() == pytest.approx(z.mean(), abs=0.02)
    assert effective_samples(weights) / len(y) == pytest.approx(0.7, abs=0.06)
    clamped = independence_weights(probabilities, y)
    assert clamped.max() < weights.max()


def test_probabilities_come_from_the_other_folds():
    y, z = RNG.integers(0, 3, 60), RNG.normal(size=(60, 1))
    seen = []

    def fit(inputs, labels):
        seen.append((set(inputs[:, 0]), np.bincount(labels, minlength=3)))
        known = set(inputs[:, 0])
        return lambda asked: np.array([[float(v in known), len(known), 0.0] for v in asked[:, 0]])

    found = cross_fitted(fit, z, y, folds=4, rng=np.random.default_rng(1))
    assert len(seen) == 4
    assert (found[:, 0] == 0).all()  # never fitted on the sample itself
    assert {len(known) for known, _ in seen} <= set(range(42, 49))
    for _, counts in seen:  # every label is spread over the folds
        np.testing.assert_allclose(counts, np.bincount(y, minlength=3) * 0.75, atol=1.0)


def test_effective_samples_of_equal_and_single_weights():
    assert effective_samples(np.ones(7)) == pytest.approx(7.0)
    assert effective_samples(np.array([1.0, 0.0, 0.0])) == 1.0


class Constant(torch.nn.Module):
    def forward(self, representation, label, nuisance):
        return torch.zeros(len(label))


def triples(count=40):
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, 1, generator=rng),
        torch.randint(2, (count,), generator=rng),
        torch.randn(count, 1, generator=rng),
        torch.rand(count, generator=rng),
    )


def test_a_critic_without_a_clue_costs_log_2_and_finds_nothing():
    parts = triples()
    assert float(critic_loss(Constant(), *parts, generator=torch.Generator())) == pytest.approx(math.log(2))
    assert float(information(Constant(), *parts)) == 0.0


def trained(representation, label, nuisance, steps=200):
    torch.manual_seed(0)
    critic, rng = Critic(1, 1), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    weights = torch.ones(len(label))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = critic_loss(critic, representation, label, nuisance, weights, generator=rng)
        loss.backward()
        optimizer.step()
    return float(loss.detach()), float(information(critic, representation, label, nuisance, weights).detach())


def test_a_critic_estimates_the_information_of_gaussians():
    """Correlation rho of two normal variables: ``-log(1 - rho**2) / 2`` nats; without correlation nothing."""
    rng = torch.Generator().manual_seed(2)
    r, e = torch.randn(2, 2000, 1, generator=rng)
    label = torch.randint(2, (2000,), generator=rng)
    loss, found = trained(r, label, 0.8 * r + 0.6 * e)
    assert found == pytest.approx(-math.log(1 - 0.64) / 2, abs=0.12)
    assert loss < 0.6
    loss, found = trained(r, label, e)
    assert loss == pytest.approx(math.log(2), abs=0.02)
    assert found == pytest.approx(0.0, abs=0.06)


def test_information_between_label_and_nuisance_counts_too():
    rng = torch.Generator().manual_seed(3)
    label = torch.randint(2, (4000,), generator=rng)
    nuisance = 3.0 * (2.0 * label[:, None] - 1.0) + torch.randn(4000, 1, generator=rng)
    _, found = trained(torch.zeros(4000, 1), label, nuisance, 200)
    assert found == pytest.approx(math.log(2), abs=0.12)


def test_the_representation_of_a_critics_loss_is_frozen_and_that_of_information_is_not():
    representation, *rest = triples()
    representation.requires_grad_(True)
    critic = Critic(1, 1)
    critic_loss(critic, representation, *rest, generator=torch.Generator()).backward()
    assert representation.grad is None
    information(critic, representation, *rest).backward()
    assert float(representation.grad.abs().sum()) > 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="folds"):
        cross_fitted(lambda z, y: lambda x: x, np.zeros((4, 1)), np.array([0, 0, 0, 1]), folds=2, rng=RNG)
    for clamps in ({"smallest": 0.0}, {"smallest": 0.9, "largest": 0.5}, {"largest": 1.1}):
        with pytest.raises(ConfigError, match="smallest"):
            independence_weights(np.full((2, 2), 0.5), np.array([0, 1]), **clamps)
    with pytest.raises(ShapeError, match="1 representations, 2 labels, 2 nuisances"):
        Critic(1, 1)(torch.zeros(1, 1), torch.zeros(2), torch.zeros(2, 1))


def test_a_label_without_samples_limits_no_folds():
    """Labels 0 and 2 with two samples each: every fold holds one of both, whose mean is 1."""

    def fit(z, labels):
        return lambda other: np.full((len(other), 3), labels.mean())

    found = cross_fitted(fit, np.arange(4.0), np.array([0, 0, 2, 2]), folds=2, rng=np.random.default_rng(0))
    assert np.array_equal(found, np.ones((4, 3)))
