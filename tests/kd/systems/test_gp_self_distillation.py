"""Self-distillation of Gaussian processes: the noisy sine of the literature, the two moons, and the experiment."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.metrics.pairwise import rbf_kernel

from policykd.errors import ConfigError
from policykd.kd.gaussian_processes import BERNOULLI, Belief, data_centric_targets, effective_noise
from policykd.kd.kernel_self_distillation import KernelSelfDistillation
from policykd.kd.systems.gp_self_distillation import (
    EXPERIMENT,
    GPRecipe,
    classification_metrics,
    distilled_classifiers,
    regression_metrics,
    split,
)


def test_the_data_centric_mean_is_kernel_ridge_regression_without_ground_truth():
    x = np.linspace(0, 1, 11)[:, None]
    kernel, y = rbf_kernel(x, gamma=20.0), np.sin(2 * np.pi * x[:, 0]) + 0.3 * np.cos(17 * x[:, 0])
    theirs = KernelSelfDistillation(kernel, y, ridge=0.2).predictions(kernel, [0.0] * 4)
    found = data_centric_targets(kernel, y, [0.2] * len(theirs))
    np.testing.assert_allclose(found[1:], theirs, atol=1e-10)


def test_distribution_centric_steps_end_in_interpolation():
    x = np.linspace(0, 1, 11)[:, None]
    kernel, y = rbf_kernel(x, gamma=20.0) + 1e-8 * np.eye(11), np.sin(2 * np.pi * x[:, 0])
    y = y + 0.2 * np.random.default_rng(0).normal(size=11)
    errors = [
        np.abs(Belief.prior(kernel).observe(np.arange(11), y, effective_noise([0.2] * t)).mean - y).max()
        for t in (1, 2, 5, 50, 10**6)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_moons_scaled_and_repeated_decide_alike_and_repeated_is_surer(seed):
    x, y = make_moons(560, noise=0.3, random_state=seed)
    rows, prior = np.arange(60), Belief.prior(rbf_kernel(x, gamma=1 / (2 * 0.6**2)))
    found = distilled_classifiers(prior, rows, y[rows].astype(float), 5)
    metrics = {name: classification_metrics(one, y, rows, found["repeated data"][0]) for name, one in found.items()}
    assert metrics["scaled kernel"]["agreement"] == 1.0
    sure = [metrics[name]["confidence"] for name in ("first fit", "scaled kernel", "repeated data")]
    assert sure == sorted(sure)
    assert metrics["repeated data"]["nll"] < metrics["scaled kernel"]["nll"] < metrics["first fit"]["nll"]
    assert metrics["sequential"]["agreement"] > 0.97


def test_one_step_is_the_first_fit():
    x, y = make_moons(80, noise=0.3, random_state=0)
    rows, prior = np.arange(60), Belief.prior(rbf_kernel(x, gamma=1.0))
    found = distilled_classifiers(prior, rows, y[rows].astype(float), 2)
    assert found["repeated data"][0].mean[0] != found["first fit"][0].mean[0]
    once = prior.classify(rows, y[rows].astype(float), repeats=1)
    np.testing.assert_allclose(once.mean, found["first fit"][0].mean)


def test_metrics_of_known_beliefs():
    belief = Belief(np.array([0.0, 1.0, -1.0]), np.diag([1.0, 0.5, 0.5]))
    found = regression_metrics(belief, np.array([0.0, 2.0, -1.0]), np.arange(1), 0.5)
    assert found["mse"] == 0.5
    density = [-0.5 * np.log(2 * np.pi) - 0.5, -0.5 * np.log(2 * np.pi)]
    assert found["nlpd"] == pytest.approx(-np.mean(density))
    sure = (Belief(np.array([0.0, 2.0, -2.0]), np.zeros((3, 3))), BERNOULLI)
    metrics = classification_metrics(sure, np.array([0.0, 1.0, 1.0]), np.arange(1), sure[0])
    p = 1 / (1 + np.exp(-2))
    assert metrics == pytest.approx(
        {"error": 0.5, "nll": -(np.log(p) + np.log(1 - p)) / 2, "confidence": p, "agreement": 1.0}
    )


def test_inputs_are_standardized_by_the_training_part():
    kernel, y, _ = split("diabetes", 100, 3)
    assert kernel.shape == (442, 442)
    assert len(y) == 442
    squares = -np.log(kernel[:100, :100][np.triu_indices(100, 1)])
    assert np.median(squares) == pytest.approx(1.0)
    assert not np.array_equal(split("diabetes", 100, 4)[1], y)


@pytest.mark.parametrize("change", [{"steps": 1}, {"small_noise": 0.0}, {"samples": 401}, {"labeled": 10}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        GPRecipe(**change)


def test_a_cell_repeats():
    config = replace(EXPERIMENT.config, steps=2, samples=40, labeled=30)
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, config) == cell
    assert cell["labels: first fit"]["agreement"] == 1.0
