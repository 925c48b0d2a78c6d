"""Masks that keep an output: fills against analytic conditionals, worked distortions, learned masks."""

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError, ShapeError
from policykd.kd.mask_explanations import (
    ConstantFill,
    GaussianFill,
    IndependentFill,
    NeighborFill,
    check_groups,
    distortion,
    gradient_relevance,
    largest_mask,
    relevance,
)

NOISE = IndependentFill(torch.zeros(3).double(), torch.ones(3).double())
ZEROS = ConstantFill(torch.zeros(3).double())
ONES = torch.ones(3).double()


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(x):
    return x @ torch.tensor([[3.0], [1.0], [0.0]]).to(x)


def product(x):
    return x[:, :1] * x[:, 1:2]


def value(network, x, kept, fill, draws=200_000):
    mask = torch.zeros(len(x), dtype=x.dtype)
    mask[list(kept)] = 1.0
    return distortion(network, x, mask, fill, draws=draws, generator=rng())


@pytest.mark.parametrize(
    ("kept", "noise", "zeros"), [((), 26, 16), ((1,), 18, 9), ((0,), 2, 1), ((0, 1), 0, 0), ((0, 2), 2, 1)]
)
def test_the_worked_distortions_of_a_linear_network(kept, noise, zeros):
    assert value(linear, ONES, kept, NOISE) == pytest.approx(noise, abs=0.25)
    assert value(linear, ONES, kept, ZEROS, 1) == pytest.approx(zeros)


@pytest.mark.parametrize(("kept", "expected"), [((), 1.0), ((0,), 0.0), ((1,), 2.25)])
def test_the_worked_distortions_of_a_product(kept, expected):
    x = torch.tensor([0.0, 1.5]).double()
    fill = IndependentFill(torch.zeros(2).double(), torch.ones(2).double())
    assert value(product, x, kept, fill) == pytest.approx(expected, abs=0.05)
    assert value(product, x, (), ConstantFill(torch.zeros(2).double()), 1) == 0.0  # zeros call everything irrelevant


@pytest.mark.parametrize(("rho", "expected"), [(0.0, 2.0), (0.9, 0.2), (0.999999, 0.0)])
def test_the_worked_distortions_of_a_correlated_proxy(rho, expected):
    """Only the second of two correlated inputs is kept; the network reads the first: (1 - rho)^2 + 1 - rho^2."""
    fill = GaussianFill(torch.zeros(2).double(), torch.tensor([[1.0, rho], [rho, 1.0]]).double())
    assert value(lambda x: x[:, :1], ONES[:2], (1,), fill) == pytest.approx(expected, abs=0.02)
    independent = IndependentFill(torch.zeros(2).double(), torch.ones(2).double())
    assert value(lambda x: x[:, :1], ONES[:2], (1,), independent) == pytest.approx(2.0, abs=0.03)


def test_conditional_draws_have_the_analytic_mean_and_covariance_and_keep_what_is_kept():
    half = torch.randn(4, 4, generator=rng(1), dtype=torch.float64)
    covariance, mean = half @ half.T + 0.2 * torch.eye(4), torch.tensor([1.0, -1.0, 0.5, 2.0]).double()
    x, mask = torch.tensor([0.3, 0.0, -1.0, 0.0]).double(), torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    drawn = GaussianFill(mean, covariance)(x, mask.expand(400_000, -1), rng())
    assert torch.equal(drawn[:, [0, 2]], x[[0, 2]].expand(400_000, -1))
    k, u = [0, 2], [1, 3]
    gain = covariance[u][:, k] @ torch.linalg.inv(covariance[k][:, k])
    np.testing.assert_allclose(drawn[:, u].mean(0), mean[u] + gain @ (x[k] - mean[k]), atol=0.02)
    expected = covariance[u][:, u] - gain @ covariance[k][:, u]
    np.testing.assert_allclose(torch.cov(drawn[:, u].T), expected, atol=0.03)


def test_masks_of_a_batch_may_differ():
    fill = GaussianFill(torch.zeros(3).double(), torch.eye(3).double() + 0.5)
    masks = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    drawn = fill(ONES, masks, rng())
    assert torch.equal(drawn[0], ONES)
    assert float(drawn[1, 1]) == 1.0
    assert float(drawn[1, 0]) != 1.0
    assert not bool((drawn[2] == 1.0).any())


def test_a_fit_shrinks_toward_the_data():
    data = torch.randn(5000, 2, generator=rng(2), dtype=torch.float64) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()
    fill = GaussianFill.fit(data + 3.0)
    np.testing.assert_allclose(fill.mean, 3.0, atol=0.05)
    np.testing.assert_allclose(fill.covariance, torch.cov(data.T), atol=0.05)


@pytest.mark.parametrize(("weight", "expected"), [(0.5, (0.99, 0.98, 0.005)), (3.0, (0.99, 0.04, 0.005))])
def test_learned_masks_of_a_linear_network(weight, expected):
    found = relevance(linear, ONES, NOISE, torch.arange(3), weight=weight, generator=rng())
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_learned_masks_of_a_product_need_a_fill_that_is_not_zero():
    x = torch.tensor([0.0, 1.5]).double()
    noise = IndependentFill(torch.zeros(2).double(), torch.ones(2).double())
    found = relevance(product, x, noise, torch.arange(2), weight=0.1, generator=rng())
    np.testing.assert_allclose(found, (0.99, 0.04), atol=0.06)
    found = relevance(product, x, ConstantFill(torch.zeros(2).double()), torch.arange(2), weight=0.1, generator=rng())
    assert float(found.max()) < 0.02


def test_only_a_plausible_fill_recognizes_redundancy():
    """Pairs of correlation 0.95; the output is ``x1 + x3**2 / 2``; the proxies x2 and x4 explain it, too."""
    block = torch.tensor([[1.0, 0.95], [0.95, 1.0]]).double()
    conditional = GaussianFill(torch.zeros(4).double(), torch.block_diag(block, block))
    independent = IndependentFill(torch.zeros(4).double(), torch.ones(4).double())
    x = torch.tensor([1.5, 1.4, -1.0, -0.9]).double()

    def network(rows):
        return rows[:, :1] + 0.5 * rows[:, 2:3] ** 2

    zero = ConstantFill(torch.zeros(4).double())
    proxies = [value(network, x, (1, 3), fill) for fill in (conditional, independent, zero)]
    np.testing.assert_allclose(proxies, (0.24, 3.69, 4.0), atol=0.06)
    nothing = [value(network, x, (), fill) for fill in (conditional, independent, zero)]
    np.testing.assert_allclose(nothing, (3.77, 3.79, 4.0), atol=0.06)
    found = relevance(network, x, conditional, torch.arange(4), weight=0.1, generator=rng())
    np.testing.assert_allclose(found, (0.98, 0.01, 0.95, 0.01), atol=0.08)


def test_a_larger_price_never_keeps_more_and_scale_is_its_unit():
    sizes = [
        float(relevance(linear, ONES, NOISE, torch.arange(3), weight=w, generator=rng(), steps=150).sum())
        for w in (0.1, 3.0, 30.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    one = relevance(linear, ONES, NOISE, torch.arange(3), weight=3.0, generator=rng(), steps=20)
    other = relevance(linear, ONES, NOISE, torch.arange(3), weight=0.3, scale=10.0, generator=rng(), steps=20)
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)  # Adam ignores a common factor but for its epsilon


def test_groups_share_a_mask():
    groups = torch.tensor([0, 1, 0])
    found = relevance(linear, ONES, NOISE, groups, weight=3.0, generator=rng())
    assert found.shape == (2,)
    assert float(found[0]) > 0.9 > 0.2 > float(found[1])
    assert largest_mask(found, groups, 1).tolist() == [1.0, 0.0, 1.0]
    assert largest_mask(torch.tensor([0.5, 0.5, 0.1]), torch.arange(3), 1).tolist() == [1.0, 0.0, 0.0]


def test_gradient_times_input_of_a_linear_network():
    found = gradient_relevance(linear, 2 * ONES, ONES, torch.tensor([0, 1, 1]))
    np.testing.assert_allclose(found, (9.0, 1.0))


def test_neighbors_are_real_inputs_that_agree_where_it_counts():
    data = torch.tensor([[0.0, 5.0], [1.0, 6.0], [9.0, 7.0]])
    fill, x = NeighborFill(data, neighbors=2), torch.tensor([0.2, 0.0])
    found = fill(x, torch.tensor([[1.0, 0.0]]).expand(200, -1), rng())
    assert bool((found[:, 0] == x[0]).all())
    assert sorted(found[:, 1].unique().tolist()) == [5.0, 6.0]


def test_what_does_not_fit_is_refused():
    for groups in (torch.tensor([0, 2]), torch.tensor([1, 2]), torch.zeros(1, 1, dtype=torch.long)):
        with pytest.raises(ShapeError, match="without a gap"):
            check_groups(groups)
    with pytest.raises(ShapeError, match="must be"):
        relevance(linear, ONES, NOISE, torch.arange(2), weight=1.0, generator=rng())
    with pytest.raises(ConfigError, match="weight"):
        relevance(linear, ONES, NOISE, torch.arange(3), weight=-1.0, generator=rng())
