"""Closed forms of kernel self-distillation against recursion, another library's ridge regression and known numbers."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from policykd.errors import ConfigError
from policykd.kd.kernel_self_distillation import (
    KernelSelfDistillation,
    best_weight,
    constant_weight_factors,
    limit_factors,
    step_factors,
    summed_factors,
)

TOY_X = np.arange(11)[:, None] / 10
TOY_Y = np.array(
    [.38476636, 1.23339677, 1.33232242, .69201595, -.29756146, -.24189291, -.79644858, -.96164802, -.49672510,
     -.34690660, .55895127]
)  # fmt: skip
GRID = np.arange(101)[:, None] / 100
TRUTH = np.sin(2 * np.pi * GRID[:, 0])


def toy() -> tuple[KernelSelfDistillation, np.ndarray]:
    distillation = KernelSelfDistillation(rbf_kernel(TOY_X, gamma=80), TOY_Y, ridge=0.2)
    return distillation, rbf_kernel(GRID, TOY_X, gamma=80)


def error(predictions: np.ndarray) -> np.ndarray:
    return ((predictions - TRUTH) ** 2).mean(-1)


def spectra(count: int = 50) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [np.sort(draw.uniform(0, 0.99, 6)) for _ in range(count)]


def test_one_point():
    point = KernelSelfDistillation([[1.0]], [1.0], ridge=1.0)
    np.testing.assert_allclose(point.fitted([0.0] * 5)[:, 0], [0.5, 0.25, 0.125, 0.0625, 0.03125], atol=1e-15)
    np.testing.assert_allclose(point.fitted([0.5] * 5)[:, 0], [0.5, 0.375, 0.34375, 0.3359375, 0.333984375])
    np.testing.assert_allclose(point.limit([[1.0]], 0.5), [1 / 3])


def test_two_points():
    kernel = np.array([[1, 0.5], [0.5, 1]])
    two = KernelSelfDistillation(kernel, [1.0, 0.0], ridge=0.5)
    np.testing.assert_allclose(two.fitted([0.0, 0.0]), [[0.625, 0.125], [0.40625, 0.15625]])
    np.testing.assert_allclose(two.fitted([0.5, 0.5])[1], [0.515625, 0.140625])
    np.testing.assert_allclose(two.limit(kernel, 0.5), [0.466667, 0.133333], atol=5e-7)


@pytest.mark.parametrize(
    ("weight", "errors", "limit"),
    [
        (0.0, (0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251), 0.49505),
        (0.25, (0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011), 0.15250),
        (0.35, (0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948), 0.14959),
        (0.5, (0.16477, 0.15620, 0.15362, 0.15274, 0.15241, 0.15228), 0.15219),
        (1.0, (0.16477,) * 6, 0.16477),
    ],
)
def test_the_toy_table(weight, errors, limit):
    distillation, cross = toy()
    np.testing.assert_allclose(error(distillation.predictions(cross, [weight] * 6)), errors, atol=5.1e-6)
    np.testing.assert_allclose(error(distillation.limit(cross, weight)), limit, atol=5.1e-6)


def test_best_weights_on_the_toy_grid():
    distillation, cross = toy()
    weights = distillation.best_weights(cross, TRUTH, 5)
    np.testing.assert_allclose(weights, [1, -0.621844, 0.330359, 0.334760, 0.335769], atol=5.1e-7)
    np.testing.assert_allclose(error(distillation.predictions(cross, weights))[1], 0.148340, atol=5.1e-7)
    for step in range(1, 5):
        best = error(distillation.predictions(cross, weights[: step + 1])[-1])
        others = [error(distillation.predictions(cross, [*weights[:step], w])[-1]) for w in np.linspace(0, 1, 21)]
        assert best <= min(others) + 1e-15
    clipped = distillation.best_weights(cross, TRUTH, 3, clip=True)
    assert clipped[1] == 0.0
    assert 0 <= clipped[2] <= 1


def test_recursion_sum_and_constant_weight_agree():
    draw = np.random.default_rng(1)
    for shrinkage in spectra():
        weights = draw.uniform(0, 1, 7)
        np.testing.assert_allclose(summed_factors(shrinkage, weights), step_factors(shrinkage, weights)[-1], atol=1e-14)
        for weight in (0.0, 0.3, 1.0):
            stepwise = step_factors(shrinkage, [weight] * 7)
            for step in range(1, 8):
                np.testing.assert_allclose(constant_weight_factors(shrinkage, weight, step), stepwise[step], atol=1e-14)


def test_every_step_is_ridge_regression_on_mixed_targets():
    draw = np.random.default_rng(2)
    x, y, new = draw.normal(size=(30, 4)), draw.normal(size=(30, 3)), draw.normal(size=(9, 4))
    kernel, cross, weights = rbf_kernel(x, gamma=0.3), rbf_kernel(new, x, gamma=0.3), [0.9, 0.2, 0.6, 0.0]
    distillation = KernelSelfDistillation(kernel, y, ridge=0.7)
    oracle, before = KernelRidge(alpha=0.7, kernel="precomputed"), y
    for step, weight in enumerate(weights):
        oracle.fit(kernel, weight * y + (1 - weight) * before)
        before = oracle.predict(kernel)
        np.testing.assert_allclose(distillation.fitted(weights)[step], before, atol=1e-12)
        np.testing.assert_allclose(distillation.predictions(cross, weights)[step], oracle.predict(cross), atol=1e-12)
    for weight in (0.2, 0.5, 1.0):
        ridge = KernelRidge(alpha=0.7 / weight, kernel="precomputed").fit(kernel, y)
        np.testing.assert_allclose(distillation.limit(cross, weight), ridge.predict(cross), atol=1e-12)
        np.testing.assert_allclose(
            distillation.predictions(cross, [weight] * 400)[-1], distillation.limit(cross, weight), atol=1e-12
        )
    assert not distillation.limit(cross, 0.0).any()


def test_one_vector_of_labels_is_one_column():
    draw = np.random.default_rng(3)
    kernel, y = rbf_kernel(draw.normal(size=(8, 2))), draw.normal(size=(8, 2))
    both = KernelSelfDistillation(kernel, y, ridge=0.1)
    one = KernelSelfDistillation(kernel, y[:, 0], ridge=0.1)
    assert one.fitted([0.3, 0.3]).shape == (2, 8)
    np.testing.assert_allclose(one.fitted([0.3, 0.3]), both.fitted([0.3, 0.3])[..., 0], atol=1e-14)
    np.testing.assert_allclose(
        both.with_ridge(5.0).limit(kernel, 0.5), KernelSelfDistillation(kernel, y, ridge=5.0).limit(kernel, 0.5)
    )
    assert both.ridge == 0.1


def test_the_first_weight_is_irrelevant_and_a_weight_of_one_stands_still():
    distillation, cross = toy()
    np.testing.assert_array_equal(
        distillation.predictions(cross, [0.1, 0.4, 0.4])[1:], distillation.predictions(cross, [0.9, 0.4, 0.4])[1:]
    )
    still = distillation.predictions(cross, [1.0] * 5)
    np.testing.assert_allclose(still, np.broadcast_to(still[0], still.shape), atol=1e-12)


def test_without_ground_truth_each_step_is_fitted_to_the_last_predictions():
    distillation, _ = toy()
    kernel = rbf_kernel(TOY_X, gamma=80)
    smoother = kernel @ np.linalg.inv(kernel + 0.2 * np.eye(11))
    fitted = distillation.fitted([0.0] * 4)
    for step in range(4):
        np.testing.assert_allclose(fitted[step], np.linalg.matrix_power(smoother, step + 1) @ TOY_Y, atol=1e-12)


def test_a_singular_kernel_is_handled():
    kernel = np.ones((4, 4))
    distillation = KernelSelfDistillation(kernel, [1.0, 2.0, 3.0, 4.0], ridge=1e-3)
    np.testing.assert_allclose(distillation.predictions(kernel, [0.5] * 5), distillation.fitted([0.5] * 5), atol=1e-9)


def test_factors_shrink_and_ratios_never_fall_below_the_first():
    for shrinkage in spectra():
        for weight in (0.0, 0.1, 0.5, 0.9):
            factors = step_factors(shrinkage, [weight] * 12)[1:]
            assert (np.diff(factors, axis=0) <= 1e-15).all()
            ratios = factors[:, 1:] / factors[:, :-1]
            assert (ratios >= ratios[0] * (1 - 1e-12)).all()
            if weight == 0:
                assert (np.diff(ratios, axis=0) >= -1e-9 * ratios[1:]).all()
        eigenvalues = shrinkage / (1 - shrinkage)  # ridge 1
        limit = limit_factors(eigenvalues, 1.0, 0.4)
        np.testing.assert_allclose(limit, step_factors(shrinkage, [0.4] * 3000)[-1], atol=1e-12)
        assert (limit[1:] / limit[:-1] >= shrinkage[1:] / shrinkage[:-1] * (1 - 1e-12)).all()


def test_ratios_can_overshoot_so_that_only_the_first_is_a_bound():
    overshoots = 0
    for shrinkage in spectra(200):
        factors = step_factors(shrinkage, [0.3] * 15)[1:]
        overshoots += bool((np.diff(factors[:, 1:] / factors[:, :-1], axis=0) < -1e-9).any())
    assert overshoots


def test_bad_input_is_refused():
    kernel = np.eye(3)
    with pytest.raises(ConfigError, match="ridge is 0"):
        KernelSelfDistillation(kernel, np.ones(3), ridge=0.0)
    with pytest.raises(ConfigError, match="square and symmetric"):
        KernelSelfDistillation(np.triu(np.ones((3, 3))), np.ones(3), ridge=1.0)
    with pytest.raises(ConfigError, match=r"n = 3; got \(4,\)"):
        KernelSelfDistillation(kernel, np.ones(4), ridge=1.0)
    distillation = KernelSelfDistillation(kernel, np.ones(3), ridge=1.0)
    with pytest.raises(ConfigError, match=r"weight is 1\.5"):
        distillation.limit(kernel, 1.5)
    with pytest.raises(ConfigError, match="one per step"):
        distillation.fitted([0.1, float("nan")])
    with pytest.raises(ConfigError, match="every weight is equally good"):
        best_weight([1.0], [0.5], [0.5])
    with pytest.raises(ConfigError, match="one shape"):
        best_weight([1.0], [0.5], [0.5, 1.0])
    with pytest.raises(ConfigError, match="at least one step"):
        summed_factors(np.array([0.5]), [])
