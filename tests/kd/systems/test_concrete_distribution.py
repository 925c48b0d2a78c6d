"""Estimators of the gradient of a categorical choice against its closed form, and the experiment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.systems.concrete_distribution import (
    EXPERIMENT,
    ConcreteRecipe,
    errors,
    estimators,
    exact_gradient,
    relaxed_gradient,
    score_gradient,
    steps_to_mass,
)
from policykd.relaxed import concrete_log_sample, gumbel_noise

LOGITS = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
COST = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
DRAWS = 200_000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_exact_gradient_is_that_of_the_expected_cost():
    logits = LOGITS.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(logits.softmax(0) @ COST, logits)
    torch.testing.assert_close(exact_gradient(LOGITS[None], COST)[0], expected)


@pytest.mark.parametrize("baseline", [False, True])
def test_score_gradients_have_the_exact_mean_and_variance(baseline):
    found = score_gradient(LOGITS.expand(DRAWS, -1), COST, rng(), baseline=baseline)
    p, exact = LOGITS.softmax(0), exact_gradient(LOGITS[None], COST)[0]
    value = COST - (p @ COST if baseline else 0.0)
    each = value[:, None] * (torch.eye(3).double() - p)  # the gradient of every outcome
    variance = p @ (each - exact).square()
    np.testing.assert_allclose(p @ each, exact, atol=1e-12)
    np.testing.assert_allclose(found.mean(0), exact, atol=5 * float(variance.max() / DRAWS) ** 0.5)
    np.testing.assert_allclose(found.var(0), variance, rtol=0.02)


def test_relaxed_gradients_are_the_derivative_of_the_mean_sample():
    """The mean of ``c . x`` moves with the logits as the mean gradient says; both use the same noise."""
    step, heat = 1e-4, 0.8
    plus, minus = LOGITS + step * torch.eye(3)[0], LOGITS - step * torch.eye(3)[0]
    noise = gumbel_noise((1000, 3), generator=rng(3), dtype=torch.float64)
    values = [(concrete_log_sample(z, noise, temperature=heat).exp() @ COST).mean() for z in (plus, minus)]
    found = relaxed_gradient(LOGITS.expand(1000, -1), COST, rng(3), temperature=heat)
    assert float(found.mean(0)[0]) == pytest.approx(float(values[0] - values[1]) / (2 * step), rel=1e-5)


def test_bias_rises_and_variance_falls_with_the_temperature():
    exact = exact_gradient(LOGITS[None], COST)[0]
    rows = LOGITS.expand(DRAWS, -1)
    found = [errors(relaxed_gradient(rows, COST, rng(), temperature=heat), exact) for heat in (0.1, 0.5, 2.0)]
    assert [f["bias"] for f in found] == sorted(f["bias"] for f in found)
    assert [f["deviation"] for f in found] == sorted((f["deviation"] for f in found), reverse=True)
    assert found[0]["bias"] < 0.05


def test_errors_of_known_gradients():
    given = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    found = errors(given, torch.tensor([1.0, 0.0]))
    assert found == pytest.approx({"bias": 2.0**0.5, "deviation": 1.0})


def test_a_descent_counts_its_steps_and_stops_at_its_limit():
    recipe = ConcreteRecipe(runs=3, batch=1, rate=1.0, most_steps=50, mass=0.6)
    steps, logits = 0, torch.zeros(1, 3).double()
    while float(logits.softmax(1)[0, 0]) < recipe.mass:
        logits, steps = logits - exact_gradient(logits, COST), steps + 1
    found = steps_to_mass(lambda z, c, _: exact_gradient(z, c), COST, recipe, rng())
    assert found == {"steps": float(steps), "arrived": 1.0}
    assert steps > 3
    never = steps_to_mass(lambda z, c, _: torch.zeros_like(z), COST, recipe, rng())
    assert never == {"steps": 50.0, "arrived": 0.0}


def test_every_temperature_has_an_arm():
    names = list(estimators(ConcreteRecipe()))
    assert names[:5] == [f"temperature {name}" for name in ("lowest", "0.5", "middle", "2", "highest")]
    assert names[5:] == ["score function", "score function, baseline"]
    assert len(estimators(ConcreteRecipe(temperatures=(0.5, 2.0)))) == 4


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, 0.5), (0.0, 1.0), (1.0, 1.0)])
def test_temperatures_out_of_order_are_refused(temperatures):
    with pytest.raises(ConfigError, match="temperatures"):
        ConcreteRecipe(temperatures=temperatures)


def test_a_small_cell_repeats():
    config = replace(EXPERIMENT.config, gradients=500, runs=3, most_steps=20)
    cell = EXPERIMENT.run(1, config)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(1, config) == cell
    assert cell["exact gradient"]["bias"] == 0.0
