"""Temperature scaling against a bounded scalar search, and reliability diagrams against counted bins."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from policykd.errors import ConfigError
from policykd.kd.calibration import fit_temperature, reliability
from policykd.kd.metrics import calibration_error


def sampled(scale, count=400, seed=0):
    """Logits that are too sharp by a factor, and labels drawn from the right probabilities."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 5, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_scalar_search(scale):
    logits, labels = sampled(scale)
    found = fit_temperature(logits, labels)
    fixed = logits.double()
    searched = minimize_scalar(
        lambda log_heat: float(F.cross_entropy(fixed / np.exp(log_heat), labels)), bounds=(-4, 4), method="bounded"
    )
    assert found == pytest.approx(np.exp(searched.x), rel=1e-3)
    assert float(F.cross_entropy(fixed / found, labels)) <= searched.fun + 1e-12


def test_a_large_sample_recovers_the_factor_and_gradients_are_off():
    logits, labels = sampled(3.0, 20_000)
    with torch.no_grad():
        assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.05)


def test_separable_samples_are_refused():
    for sign in (5.0, -5.0):
        with pytest.raises(ConfigError, match="these 10 samples do not determine a temperature"):
            fit_temperature(sign * torch.eye(10), torch.arange(10))


def test_bars_are_the_counted_ones_and_add_up_to_the_calibration_error():
    confidence = torch.tensor([0.9, 0.9, 0.6, 0.6], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True])
    mean, right, count = reliability(confidence, correct)
    assert count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 2, 0]  # bins (low, high]
    np.testing.assert_allclose(mean[[5, 8]], [0.6, 0.9], atol=1e-6)
    np.testing.assert_allclose(right[[5, 8]], [1.0, 0.5])
    assert float(mean[0]) == float(right[0]) == 0.0
    error = float(((right - mean).abs() * count).sum() / count.sum())
    assert error == pytest.approx(0.4, abs=1e-6)
    assert calibration_error(confidence, correct, bins=10) == pytest.approx(error, abs=1e-6)
    with pytest.raises(ConfigError, match="bins"):
        reliability(confidence, correct, bins=0)
