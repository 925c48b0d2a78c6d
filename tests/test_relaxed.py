"""Relaxed distributions against quadrature, the exact categorical distribution, and torch's own classes."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import cubature, quad
from torch.distributions import RelaxedOneHotCategorical
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from policykd.errors import ConfigError, ShapeError
from policykd.relaxed import (
    Annealing,
    HardConcrete,
    binary_concrete_log_density,
    binary_concrete_logit,
    binary_concrete_survival,
    concrete_log_density,
    concrete_log_sample,
    exp_concrete_log_density,
    gumbel_noise,
    logistic_noise,
    straight_through,
)

ALPHA = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
POINT = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
THETA = torch.tensor([0.05, 0.05, 0.5, 0.4], dtype=torch.float64)
DRAWS = 400_000


def gumbel(*shape, seed=0):
    return gumbel_noise(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logistic(*shape, seed=0):
    return logistic_noise(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(weights, temperature, seed=0, **options):
    return concrete_log_sample(
        weights.log(), gumbel(DRAWS, len(weights), seed=seed), temperature=temperature, **options
    )


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, -0.588112), (1.0, 0.882984), (2.0, 2.146984)])
def test_density_has_the_worked_values_and_is_torchs(temperature, expected):
    found = concrete_log_density(POINT, ALPHA.log(), temperature=temperature)
    assert float(found) == pytest.approx(expected, abs=1e-6)
    theirs = RelaxedOneHotCategorical(torch.tensor(temperature, dtype=torch.float64), logits=ALPHA.log())
    torch.testing.assert_close(found, theirs.log_prob(POINT))


def test_the_space_of_logarithms_differs_by_the_jacobian():
    found = exp_concrete_log_density(POINT.log(), ALPHA.log(), temperature=2.0)
    assert float(found) == pytest.approx(-1.359574, abs=1e-6)
    assert float(found - POINT.log().sum()) == pytest.approx(2.146984, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_density_of_the_simplex_integrates_to_one(temperature):
    def density(place):
        first, second = torch.from_numpy(place).unbind(-1)
        point = torch.stack([first, (1.0 - first) * second, (1.0 - first) * (1.0 - second)], -1)
        return (concrete_log_density(point, ALPHA.log(), temperature=temperature).exp() * (1.0 - first)).numpy()

    found = cubature(density, [1e-9, 1e-9], [1.0 - 1e-9, 1.0 - 1e-9], rtol=1e-4)
    assert float(found.estimate) == pytest.approx(1.0, abs=2e-3)


def test_only_two_equal_outcomes_at_temperature_one_are_uniform():
    points = torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [1 / 3] * 3], dtype=torch.float64)
    found = concrete_log_density(points, torch.zeros(3, dtype=torch.float64), temperature=1.0).exp()
    np.testing.assert_allclose(found, [2.014031, 2.301307, 2.0], atol=1e-6)
    two = torch.tensor([[0.1, 0.9], [0.5, 0.5]], dtype=torch.float64)
    np.testing.assert_allclose(concrete_log_density(two, torch.zeros(2).double(), temperature=1.0), 0.0, atol=1e-12)


def test_the_sign_of_the_noise():
    largest = samples(torch.ones(3, dtype=torch.float64), 1.0).exp().amax(-1).mean()
    assert float(largest) == pytest.approx(0.6511, abs=0.002)  # 11/18 = 0.6111 with the other sign


@pytest.mark.parametrize(
    ("temperature", "means"),
    [(0.1, (0.1676, 0.3322, 0.5002)), (1.0, (0.2102, 0.3408, 0.4490)), (5.0, (0.2956, 0.3383, 0.3661))],
)
def test_the_largest_entry_is_categorical_and_the_mean_is_not(temperature, means):
    x = samples(ALPHA, temperature)
    shares = torch.bincount(x.argmax(-1), minlength=3).double() / DRAWS
    np.testing.assert_allclose(shares, [1 / 6, 1 / 3, 1 / 2], atol=0.004)
    np.testing.assert_allclose(x.exp().mean(0), means, atol=0.003)
    assert float((x[:, 0] > x[:, 2]).double().mean()) == pytest.approx(0.25, abs=0.004)


def test_adaptive_noise_is_a_concrete_distribution_with_other_parameters():
    value = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    found = exp_concrete_log_density(value, THETA.log(), temperature=1.5, noise_scale=0.5)
    assert float(found) == pytest.approx(-2.733690, abs=1e-6)
    theirs = ExpRelaxedCategorical(torch.tensor(3.0, dtype=torch.float64), logits=2 * THETA.log())
    torch.testing.assert_close(found, theirs.log_prob(value))
    noise = gumbel(7, 4)
    torch.testing.assert_close(
        concrete_log_sample(THETA.log(), noise, temperature=1.5, noise_scale=0.5),
        concrete_log_sample(2 * THETA.log(), noise, temperature=3.0),
    )


@pytest.mark.parametrize("temperature", [0.4, 1.5])
@pytest.mark.parametrize(
    ("weights", "scale", "expected"),
    [(torch.full_like(THETA, 0.25), 0.5, 0.8189), (THETA, 1.0, 1.7338), (THETA, 0.5, 2.7583)],
)
def test_kl_to_the_uniform_distribution_does_not_depend_on_the_temperature(weights, scale, expected, temperature):
    value = samples(weights, temperature, noise_scale=scale)
    own = exp_concrete_log_density(value, weights.log(), temperature=temperature, noise_scale=scale)
    prior = exp_concrete_log_density(value, torch.zeros(4).double(), temperature=temperature)
    assert float((own - prior).mean()) == pytest.approx(expected, abs=0.01)


def test_shifted_weights_are_the_same_and_gradients_sum_to_zero():
    weights = ALPHA.log().clone().requires_grad_(True)
    sample = concrete_log_sample(weights, gumbel(5, 3), temperature=0.6)
    torch.testing.assert_close(concrete_log_sample(weights + 7.0, gumbel(5, 3), temperature=0.6), sample)
    torch.testing.assert_close(
        exp_concrete_log_density(sample, weights + 7.0, temperature=0.6),
        exp_concrete_log_density(sample, weights, temperature=0.6),
    )
    (gradient,) = torch.autograd.grad(sample.exp()[:, 1].sum(), weights)
    assert float(gradient.sum().abs()) < 1e-12
    assert float(gradient.abs().sum()) > 0.1


def test_gradients_are_those_of_finite_differences():
    noise = gumbel(2, 3)
    heat = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)
    logs = ALPHA.log().expand(2, 3).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda w, t: concrete_log_sample(w, noise, temperature=t), (logs, heat))
    value = concrete_log_sample(ALPHA.log(), noise, temperature=1.0)
    assert torch.autograd.gradcheck(
        lambda w, t: exp_concrete_log_density(value, w, temperature=t, noise_scale=0.5), (logs, heat)
    )
    v, w = torch.tensor([0.3, -2.0]).double(), torch.tensor([0.5, 1.0]).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda logit: binary_concrete_log_density(v, logit, temperature=0.5), (w,))


def test_temperatures_per_sample_are_those_of_single_calls():
    heat = torch.tensor([0.5, 2.0], dtype=torch.float64)
    values, weights = torch.stack([POINT, POINT.flip(0)]).log(), torch.stack([ALPHA, ALPHA.flip(0)]).log()
    found = exp_concrete_log_density(values, weights, temperature=heat)
    single = [
        exp_concrete_log_density(v, w, temperature=float(t)) for v, w, t in zip(values, weights, heat, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(single))
    with pytest.raises(ShapeError, match=r"temperature has the shape \(2, 1\)"):
        exp_concrete_log_density(values, weights, temperature=heat[:, None])
    with pytest.raises(ShapeError, match="3 outcomes, log_weights has 2"):
        exp_concrete_log_density(values, weights[:, :2], temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, torch.tensor([1.0, 0.0])])
def test_temperatures_out_of_range_are_refused(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        concrete_log_sample(torch.zeros(2, 3), torch.zeros(2, 3), temperature=temperature)
    with pytest.raises(ConfigError, match="temperature"):
        binary_concrete_logit(torch.zeros(2), torch.zeros(2), temperature=temperature)


def test_low_temperatures_stay_finite_in_single_precision():
    noise = gumbel_noise((5000, 10), generator=torch.Generator().manual_seed(3))
    weights = torch.randn(10, generator=torch.Generator().manual_seed(4))
    logs = concrete_log_sample(weights, noise, temperature=0.05)
    assert bool((logs.exp() == 0).any())
    assert bool(torch.isfinite(exp_concrete_log_density(logs, weights, temperature=0.05)).all())


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.1, 0.748480), (0.5, 0.720759), (2 / 3, 0.705314), (1.0, 0.676041), (2.0, 0.615902), (10.0, 0.527218)],
)
def test_binary_density_integrates_to_one_and_to_the_worked_mean(temperature, expected):
    logit = torch.tensor(math.log(3.0), dtype=torch.float64)

    def density(v):
        return math.exp(float(binary_concrete_log_density(torch.tensor(v).double(), logit, temperature=temperature)))

    reach = 60.0 / temperature
    places = {"points": [0.0, float(logit) / temperature], "limit": 400}
    assert quad(density, -reach, reach, **places)[0] == pytest.approx(1.0, abs=1e-6)
    mean = quad(lambda v: density(v) / (1.0 + math.exp(-v)), -reach, reach, **places)[0]
    assert mean == pytest.approx(expected, abs=1e-5)
    draws = torch.sigmoid(binary_concrete_logit(logit, logistic(DRAWS), temperature=temperature))
    assert float(draws.mean()) == pytest.approx(expected, abs=0.002)


def test_binary_density_and_survival_have_the_worked_values():
    logit, x = torch.tensor(math.log(3.0)).double(), torch.tensor([0.3, 0.5, 0.9]).double()
    value = torch.logit(x)
    density = binary_concrete_log_density(value, logit, temperature=0.5).exp() / (x * (1 - x))
    np.testing.assert_allclose(density, [0.350099, 0.375, 1.388889], atol=1e-6)
    theirs = LogitRelaxedBernoulli(torch.tensor(0.5).double(), logits=logit)
    torch.testing.assert_close(binary_concrete_log_density(value, logit, temperature=0.5), theirs.log_prob(value))
    places = torch.logit(torch.tensor([0.1, 0.5, 0.9]).double())
    np.testing.assert_allclose(binary_concrete_survival(places, logit, temperature=0.5), [0.9, 0.75, 0.5], atol=1e-12)


def test_binary_density_does_not_overflow():
    found = binary_concrete_log_density(torch.tensor(0.0), torch.tensor(200.0), temperature=0.05)
    assert float(found) == pytest.approx(math.log(0.05) - 200.0, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_sign_is_a_bernoulli_draw_at_every_temperature(temperature):
    logits = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
    positive = binary_concrete_logit(logits, logistic(DRAWS, 3), temperature=temperature) > 0
    np.testing.assert_allclose(positive.double().mean(0), torch.sigmoid(logits), atol=0.004)


def test_hard_gates_are_zero_with_the_closed_probability():
    hard, zero = HardConcrete(), torch.zeros((), dtype=torch.float64)
    assert 1.0 - float(hard.positive(zero)) == pytest.approx(0.168178, abs=1e-6)
    gates = hard.sample(zero, logistic(DRAWS))
    assert float((gates == 0).double().mean()) == pytest.approx(0.168178, abs=0.003)
    assert float((gates == 1).double().mean()) == pytest.approx(0.168178, abs=0.003)  # symmetric at logit 0
    with pytest.raises(ConfigError, match="low"):
        HardConcrete(low=0.1)


def test_straight_through_is_hard_forward_and_soft_backward():
    soft = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    hard = straight_through(soft)
    np.testing.assert_array_equal(hard.detach(), [[0.0, 1.0, 0.0]])
    (gradient,) = torch.autograd.grad((hard * torch.tensor([1.0, 2.0, 5.0])).sum(), soft)
    np.testing.assert_array_equal(gradient, [[1.0, 2.0, 5.0]])


def test_annealing_falls_to_its_lowest_value():
    heat = Annealing(3.0, 1.0, 0.1)
    assert heat(0) == 3.0
    assert heat(5) == pytest.approx(3.0 * math.exp(-0.5))
    assert heat(1000, 2000) == 1.0
    with pytest.raises(ConfigError, match="high"):
        Annealing(0.1, 0.5)
