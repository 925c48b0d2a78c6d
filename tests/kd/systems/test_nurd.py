"""NURD: the synthetic task against its exact accuracies, the losses, and the experiment."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from policykd.errors import ConfigError
from policykd.kd.density_ratios import Critic
from policykd.kd.systems.nurd import EXPERIMENT, Cell, NURDRecipe, Predictor, Rows, distillation_loss, draw_rows

TINY = replace(
    EXPERIMENT.config, samples=100, test_samples=50, batch=20, train_epochs=2, critic_epochs=0.5, density_epochs=2
)
COVARIANCE = np.array([[10.0, -1.0], [-1.0, 1.01]])


def means(a):
    """Means of x given y = 0 and y = 1."""
    return [np.array([y - a * (2 * y - 1), y + a * (2 * y - 1)]) for y in (0, 1)]


def exact_accuracy(direction, threshold, a):
    """Accuracy of the rule ``direction . x > threshold`` at correlation a."""
    low, high = (direction @ mean for mean in means(a))
    spread = math.sqrt(direction @ COVARIANCE @ direction)
    return 0.5 * (norm.cdf((threshold - low) / spread) + norm.cdf((high - threshold) / spread))


def discriminant(a):
    low, high = means(a)
    direction = np.linalg.solve(COVARIANCE, high - low)
    return direction, direction @ (low + high) / 2


def test_the_worked_accuracies():
    trained = discriminant(0.5)
    found = [exact_accuracy(*trained, a) for a in (0.5, 0.0, -0.9)]
    np.testing.assert_allclose(found, [0.8527, 0.7179, 0.3926], atol=2e-4)
    ignoring = np.array([1.0, 1.0]), 1.0
    np.testing.assert_allclose([exact_accuracy(*ignoring, a) for a in (0.5, 0.0, -0.9)], 0.6305, atol=1e-4)
    assert exact_accuracy(*discriminant(0.0), 0.0) == pytest.approx(0.7250, abs=2e-4)


@pytest.mark.parametrize("a", [0.5, -0.9])
def test_samples_have_the_exact_moments(a):
    rows = draw_rows(200_000, a, np.random.default_rng(0))
    for y, mean in enumerate(means(a)):
        x = rows.x[rows.y == y].numpy()
        np.testing.assert_allclose(x.mean(0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=0.1)
    rule = (rows.x.sum(1) > 1).long() == rows.y
    assert float(rule.double().mean()) == pytest.approx(0.6305, abs=0.005)


def test_only_the_nuisance_moves_with_the_correlation():
    one, other = (draw_rows(50, a, np.random.default_rng(3)) for a in (0.5, -0.9))
    assert torch.equal(one.y, other.y)
    torch.testing.assert_close(one.x.sum(1), other.x.sum(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(one.z - other.z, 1.4 * (2.0 * one.y[:, None] - 1), atol=1e-5, rtol=0)


def rows():
    return replace(draw_rows(30, 0.5, np.random.default_rng(1)), weights=torch.linspace(0.5, 2.0, 30))


def test_without_weight_the_loss_is_weighted_cross_entropy_and_plain_with_equal_weights():
    model, critic, data = Predictor(), Critic(1, 1), rows()
    each = F.cross_entropy(model(data.x), data.y, reduction="none")
    torch.testing.assert_close(
        distillation_loss(model, critic, data, 0.0), (each * data.weights).sum() / data.weights.sum()
    )
    equal = Rows(data.x, data.y, data.z, torch.ones(30))
    torch.testing.assert_close(distillation_loss(model, critic, equal, 0.0), each.mean())


def test_a_constant_representation_predicts_by_chance():
    model = Predictor()
    for parameter in model.parameters():
        parameter.data.zero_()
    assert float(distillation_loss(model, Critic(1, 1), rows(), 0.0).detach()) == pytest.approx(math.log(2))


def test_the_information_is_added_as_its_absolute_value():
    model, critic, data = Predictor(), Critic(1, 1), rows()
    plain = distillation_loss(model, critic, data, 0.0)
    weighted = distillation_loss(model, critic, data, 3.0)
    share = data.weights / data.weights.sum()
    value = (share * critic(model.represent(data.x), data.y, data.z)).sum()
    torch.testing.assert_close(weighted, plain + 3.0 * value.abs())


def test_weights_and_exchange_make_label_and_nuisance_independent():
    cell = Cell(0, replace(TINY, samples=5000))

    def correlation(data):
        share = data.weights / data.weights.sum()
        y, z = data.y.float(), data.z[:, 0]
        return float((share * (y - (share * y).sum()) * (z - (share * z).sum())).sum())

    assert correlation(cell.train) > 0.2
    weighted = cell.weighted(cell.train)
    assert abs(correlation(weighted)) < 0.04
    made = cell.generated()(cell.train, "t")
    assert abs(correlation(made)) < 0.04
    assert sorted(made.z[:, 0].tolist()) == sorted(cell.train.z[:, 0].tolist())


def test_a_learned_density_draws_inputs_like_the_true_ones():
    cell = Cell(1, replace(TINY, samples=5000, batch=100, density_epochs=10))
    made = cell.generated()(cell.train, "t")
    error = made.x - torch.stack([made.y - made.z[:, 0], made.y + made.z[:, 0]], 1)
    np.testing.assert_allclose(error.mean(0), 0.0, atol=0.25)
    assert float(error[:, 0].std()) == pytest.approx(3.0, rel=0.1)
    assert float(error[:, 1].std()) < 0.35


@pytest.mark.parametrize("change", [{"batch": 1001}, {"samples": 50}, {"rate": 0.0}, {"critic_epochs": 0.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        NURDRecipe(**change)


def test_a_small_cell_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert cell["plain"]["effective samples"] == 1.0 > cell["weights alone"]["effective samples"]
