"""Gaussian processes against worked values, scikit-learn and torch's continuous Bernoulli distribution."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from policykd.errors import ConfigError, ShapeError
from policykd.kd.gaussian_processes import (
    BERNOULLI,
    CONTINUOUS_BERNOULLI,
    Belief,
    data_centric_targets,
    effective_noise,
    laplace,
    log_evidence,
)

K = np.array([[1.0, 0.5], [0.5, 1.0]])
Y = np.array([1.0, 0.0])
JOINT = np.array([[1.0, 0.5, 0.8], [0.5, 1.0, 0.3], [0.8, 0.3, 1.0]])  # the third is the test point
ROWS = np.array([0, 1])


def test_the_worked_regression():
    found = Belief.prior(JOINT).observe(ROWS, Y, 0.5)
    np.testing.assert_allclose(found.mean, [0.625, 0.125, 0.525], atol=1e-12)
    np.testing.assert_allclose(found.covariance[:2, :2], [[0.3125, 0.0625], [0.0625, 0.3125]], atol=1e-12)
    assert found.variance[2] == pytest.approx(0.5725)


@pytest.mark.parametrize("noises", [(0.5, 0.3), (0.3, 0.5)])
def test_conditioning_twice_is_one_fit_with_the_effective_noise(noises):
    assert effective_noise(noises) == pytest.approx(0.1875)
    twice = Belief.prior(JOINT)
    for noise in noises:
        twice = twice.observe(ROWS, Y, noise)
    once = Belief.prior(JOINT).observe(ROWS, Y, 0.1875)
    np.testing.assert_allclose(twice.mean, once.mean, atol=1e-12)
    np.testing.assert_allclose(twice.covariance, once.covariance, atol=1e-12)
    np.testing.assert_allclose(twice.mean, [0.808081, 0.080808, 0.689562], atol=1e-6)
    np.testing.assert_allclose(twice.covariance[0, :2], [0.151515, 0.015152], atol=1e-6)
    assert twice.variance[2] == pytest.approx(0.459663, abs=1e-6)


def test_the_worked_data_centric_steps_are_the_recursion():
    steps = data_centric_targets(K, Y, (0.5, 0.3))
    np.testing.assert_allclose(steps[1:], [[0.625, 0.125], [0.46875, 0.15625]], atol=1e-12)
    last = Belief.prior(JOINT).observe(ROWS, steps[1], 0.3)
    assert last.mean[2] == pytest.approx(0.385417, abs=1e-6)
    assert last.variance[2] == pytest.approx(0.507639, abs=1e-6)
    equal = data_centric_targets(K, Y, (0.5, 0.5, 0.5))
    np.testing.assert_allclose(equal[3], [0.273438, 0.148438], atol=1e-6)
    assert Belief.prior(JOINT).observe(ROWS, equal[2], 0.5).mean[2] == pytest.approx(0.217188, abs=1e-6)
    assert (np.diff(np.linalg.norm(equal, axis=1)) < 0).all()


def test_decomposing_the_noisy_kernel_would_be_another_model():
    """A published implementation does so; its mean at the test point is 0.386667."""
    assert Belief.prior(JOINT).observe(ROWS, Y, 1.0).mean[2] == pytest.approx(0.386667, abs=1e-6)
    assert Belief.prior(JOINT).observe(ROWS, data_centric_targets(K, Y, ())[0], 0.5).mean[2] == pytest.approx(0.525)


def points(count=25, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (count + 10, 2))
    return x, np.sin(2 * x[:, 0]) + 0.3 * rng.normal(size=count + 10), np.arange(count)


def test_regression_is_that_of_scikit_learn():
    x, y, rows = points()
    kernel = 1.3 * RBF(0.7)
    theirs = GaussianProcessRegressor(kernel, alpha=0.2, optimizer=None).fit(x[rows], y[rows])
    found = Belief.prior(kernel(x)).observe(rows, y[rows], 0.2)
    mean, covariance = theirs.predict(x, return_cov=True)
    np.testing.assert_allclose(found.mean, mean, atol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-10)
    evidence = log_evidence(kernel(x[rows]), y[rows], 0.2)
    assert evidence == pytest.approx(theirs.log_marginal_likelihood(theirs.kernel_.theta), abs=1e-8)


def test_classification_is_that_of_scikit_learn():
    x, y, rows = points(40, 1)
    labels, kernel = (y > 0).astype(int), ConstantKernel(2.0) * RBF(0.8)
    theirs = GaussianProcessClassifier(kernel, optimizer=None).fit(x[rows], labels[rows])
    found = Belief.prior(kernel(x)).classify(rows, labels[rows])
    np.testing.assert_allclose(found.probabilities(), theirs.predict_proba(x)[:, 1], atol=2e-3)
    evidence = laplace(kernel(x[rows]), labels[rows]).log_evidence
    assert evidence == pytest.approx(theirs.log_marginal_likelihood(kernel.theta), abs=1e-6)


X = np.array([0.0, 0.5, 1.0, 2.0])
LABELS = np.array([0.0, 1.0, 1.0, 0.0])
KERNEL = 2 * np.exp(-((X[:, None] - X) ** 2) / 2) + 1e-9 * np.eye(4)
ALL = np.arange(4)


def test_the_worked_modes():
    np.testing.assert_allclose(laplace(KERNEL, LABELS).mode, [0.069553, 0.346678, 0.383787, -0.253487], atol=2e-5)
    thrice = laplace(KERNEL, LABELS, repeats=3)
    np.testing.assert_allclose(thrice.mode, [-0.105727, 0.604989, 0.775388, -0.631749], atol=2e-5)
    np.testing.assert_allclose(laplace(3 * KERNEL, LABELS).mode, thrice.mode, atol=2e-5)


def test_a_scaled_kernel_has_the_mode_of_repeated_data_and_as_many_times_its_variance():
    repeated = Belief.prior(KERNEL).classify(ALL, LABELS, repeats=3)
    scaled = Belief.prior(3 * KERNEL).classify(ALL, LABELS)
    np.testing.assert_allclose(scaled.variance / repeated.variance, 3.0, rtol=1e-4)
    np.testing.assert_array_equal(scaled.mean > 0, repeated.mean > 0)


def test_copies_of_the_data_are_repeats():
    rows = np.tile(ALL, 2)
    copied = laplace(KERNEL[np.ix_(rows, rows)] + 1e-9 * np.eye(8), np.tile(LABELS, 2))
    np.testing.assert_allclose(copied.mode[:4], laplace(KERNEL, LABELS, repeats=2).mode, atol=1e-4)


def test_the_worked_sequential_fit_is_close_to_repeats_and_not_equal():
    first = Belief.prior(KERNEL).classify(ALL, LABELS)
    sequential = first.classify(ALL, LABELS)
    np.testing.assert_allclose(sequential.mean, [-0.009824, 0.499320, 0.602483, -0.464446], atol=2e-5)
    repeated = laplace(KERNEL, LABELS, repeats=2).mode
    np.testing.assert_allclose(repeated, [-0.009248, 0.500215, 0.603306, -0.464774], atol=2e-5)


def test_the_worked_soft_targets():
    soft = BERNOULLI.mean(laplace(KERNEL, LABELS).mode)
    np.testing.assert_allclose(soft, [0.517381, 0.585812, 0.594786, 0.436965], atol=1e-5)
    refit = laplace(KERNEL, soft).mode
    np.testing.assert_allclose(refit, [0.121271, 0.148274, 0.125269, -0.013884], atol=2e-5)
    continuous = laplace(KERNEL, soft, likelihood=CONTINUOUS_BERNOULLI).mode
    np.testing.assert_allclose(continuous, [0.197079, 0.231514, 0.197713, 0.010631], atol=2e-5)


@pytest.mark.parametrize("likelihood", [BERNOULLI, CONTINUOUS_BERNOULLI])
def test_the_mode_has_no_gradient_and_matches_an_independent_search(likelihood):
    target, inverse = np.array([0.2, 0.9, 0.6, 0.1]), np.linalg.inv(KERNEL + 1e-6 * np.eye(4))

    def objective(f):
        return 0.5 * f @ inverse @ f - likelihood.log_density(target, f).sum()

    searched = minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    found = laplace(KERNEL + 1e-6 * np.eye(4), target, likelihood=likelihood)
    np.testing.assert_allclose(found.mode, searched.x, atol=1e-4)
    np.testing.assert_allclose(found.gradient, inverse @ found.mode, atol=1e-5)


@pytest.mark.parametrize(
    ("f", "mean", "variance", "normalizer"),
    [
        (0.0, 0.5, 0.0833333, 0.6931472),
        (1.0, 0.5819767, 0.0793264, 0.7719369),
        (-2.0, 0.3434824, 0.0689846, 0.9654886),
        (5.0, 0.8067837, 0.0331703, 1.6229140),
    ],
)
def test_the_worked_continuous_bernoulli(f, mean, variance, normalizer):
    value = np.array([f])
    assert CONTINUOUS_BERNOULLI.mean(value)[0] == pytest.approx(mean, abs=1e-7)
    assert CONTINUOUS_BERNOULLI.variance(value)[0] == pytest.approx(variance, abs=1e-7)
    assert CONTINUOUS_BERNOULLI.log_normalizer(value)[0] == pytest.approx(normalizer, abs=1e-7)


def test_the_continuous_bernoulli_is_torchs_and_finite_everywhere():
    f = np.array([-700.0, -40.0, -3.0, -0.02, -1e-3, -1e-5, 0.0, 1e-5, 5e-3, 0.04, 0.06, 2.0, 40.0, 700.0])
    middle = np.abs(f) < 10  # torch clamps probabilities at the precision of float32
    theirs = torch.distributions.ContinuousBernoulli(logits=torch.from_numpy(f[middle]))
    np.testing.assert_allclose(CONTINUOUS_BERNOULLI.mean(f[middle]), theirs.mean, atol=2e-5)
    np.testing.assert_allclose(CONTINUOUS_BERNOULLI.variance(f[middle]), theirs.variance, atol=2e-5)
    density = CONTINUOUS_BERNOULLI.log_density(np.full(len(f), 0.3), f)
    np.testing.assert_allclose(density[middle], theirs.log_prob(torch.tensor(0.3).double()), atol=2e-5)
    by_normalizer = BERNOULLI.log_density(np.full(len(f), 0.3), f) + CONTINUOUS_BERNOULLI.log_normalizer(f)
    np.testing.assert_allclose(density, by_normalizer, atol=1e-6)
    assert np.isfinite(density).all()
    variance = CONTINUOUS_BERNOULLI.variance(f)
    assert ((variance > 0) & (variance <= 1 / 12)).all()
    np.testing.assert_allclose(CONTINUOUS_BERNOULLI.mean(f[[0, -1]]), [1 / 700, 1 - 1 / 700], rtol=1e-9)


@pytest.mark.parametrize("f", [-0.06, -0.045, -9e-3, -9e-4, -9e-5, -2e-5, 2e-5, 5e-4, 2e-3, 0.012, 0.03, 0.049, 0.07])
def test_near_zero_the_series_are_exact(f):
    """Against the closed forms with 60 digits, where a float would lose them all."""
    with mpmath.workdps(60):
        x = mpmath.mpf(f)
        mean, normalizer = 1 / (1 - mpmath.exp(-x)) - 1 / x, mpmath.log(x / mpmath.tanh(x / 2))
        variance = 1 / x**2 - 1 / (4 * mpmath.sinh(x / 2) ** 2)
        density = mpmath.mpf(0.3) * x - mpmath.log((mpmath.exp(x) - 1) / x)
    value = np.array([f])
    assert CONTINUOUS_BERNOULLI.mean(value)[0] == pytest.approx(float(mean), abs=1e-12)
    assert CONTINUOUS_BERNOULLI.variance(value)[0] == pytest.approx(float(variance), abs=2e-12)
    assert CONTINUOUS_BERNOULLI.log_normalizer(value)[0] == pytest.approx(float(normalizer), abs=1e-12)
    assert CONTINUOUS_BERNOULLI.log_density(np.array([0.3]), value)[0] == pytest.approx(float(density), abs=1e-12)


@pytest.mark.parametrize("f", [-3.0, -0.03, 0.005, 0.2, 4.0])
def test_mean_and_variance_are_derivatives_of_the_density(f):
    step, y = 1e-4, np.array([0.4])
    values = [CONTINUOUS_BERNOULLI.log_density(y, np.array([f + k * step]))[0] for k in (-1, 0, 1)]
    assert (values[2] - values[0]) / (2 * step) == pytest.approx(
        0.4 - CONTINUOUS_BERNOULLI.mean(np.array([f]))[0], abs=1e-6
    )
    assert -(values[2] - 2 * values[1] + values[0]) / step**2 == pytest.approx(
        CONTINUOUS_BERNOULLI.variance(np.array([f]))[0], abs=1e-5
    )


def test_probabilities_average_the_sigmoid():
    belief = Belief(np.array([0.3, -1.0]), np.diag([0.0, 4.0]))
    draws = np.random.default_rng(0).normal(-1.0, 2.0, 400_000)
    expected = [BERNOULLI.mean(np.array(0.3)), BERNOULLI.mean(draws).mean()]
    np.testing.assert_allclose(belief.probabilities(), expected, atol=2e-3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="targets"):
        laplace(KERNEL, np.array([0.0, 1.0, 2.0, 0.0]))
    with pytest.raises(ConfigError, match=r"targets is -0\.1"):
        laplace(KERNEL, np.array([0.0, 1.0, 1.0, -0.1]))
    with pytest.raises(ConfigError, match="repeats"):
        laplace(KERNEL, LABELS, repeats=0.0)
    with pytest.raises(ShapeError, match="3 targets need"):
        laplace(KERNEL, LABELS[:3])
    with pytest.raises(ConfigError, match="noise"):
        Belief.prior(K).observe(ROWS, Y, 0.0)
    for noises in ((), (0.1, 0.0)):
        with pytest.raises(ConfigError, match="noises"):
            effective_noise(noises)
