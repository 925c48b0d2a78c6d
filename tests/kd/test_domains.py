"""Discrepancies against worked values and invariants, and gradients behind a reversal."""

import math

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.domains import (
    domain_mmd,
    domain_ramp,
    gaussian_kernel,
    median_widths,
    reverse_gradient,
    squared_mmd,
)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def width(factor):
    """Return the width of ``exp(-factor * distance**2)``."""
    return math.sqrt(0.5 / factor)


def test_worked_values():
    low, high, mixed = column(0, 1), column(2, 3), column(0, 3)
    assert float(squared_mmd(low, high, [1.0])) == pytest.approx(1.162376, abs=1e-6)
    assert float(squared_mmd(low, mixed, [1.0])) == pytest.approx(0.432332, abs=1e-6)
    assert float(squared_mmd(high, mixed, [1.0])) == pytest.approx(0.432332, abs=1e-6)
    together, names = torch.cat([low, high, mixed]), torch.tensor([0, 0, 1, 1, 2, 2])
    assert float(domain_mmd(together, names, widths=[1.0])) == pytest.approx(0.675680, abs=1e-6)
    several = [width(factor) for factor in (0.25, 0.5, 1.0)]
    assert float(squared_mmd(low, high, several)) == pytest.approx(1.098920, abs=1e-6)
    assert float(squared_mmd(low, low, [1.0])) == 0.0


def test_against_a_loop_over_pairs():
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (4, 6))

    def mean(a, b):
        return sum(math.exp(-float((p - q).square().sum()) / (2 * 0.7**2)) for p in a for q in b) / len(a) / len(b)

    assert float(squared_mmd(u, v, [0.7])) == pytest.approx(mean(u, u) + mean(v, v) - 2 * mean(u, v), rel=1e-10)
    assert float(gaussian_kernel(u[:1], v[:1], [0.7])) == pytest.approx(mean(u[:1], v[:1]))


def test_a_very_wide_kernel_compares_means_alone():
    """With a width w, w^2 MMD^2 tends to the squared distance of the means, which is the linear kernel's: 4."""
    assert float(squared_mmd(column(0, 1), column(2, 3), [1e4])) * 1e8 == pytest.approx(4.0, rel=1e-3)


def test_order_sides_and_translations_change_nothing():
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (5, 3))
    value = squared_mmd(u, v, [0.5, 2.0])
    for other in (squared_mmd(v, u, [0.5, 2.0]), squared_mmd(u.flip(0), v, [0.5, 2.0])):
        torch.testing.assert_close(other, value)
    torch.testing.assert_close(squared_mmd(u + 3, v + 3, [0.5, 2.0]), value)
    assert float(value) >= 0


def test_domains_with_too_few_samples_do_not_count():
    features, names = torch.randn(5, 2, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 0, 1, 1, 2])
    without = domain_mmd(features[:4], names[:4], widths=[1.0])
    torch.testing.assert_close(domain_mmd(features, names, widths=[1.0]), without)
    one = domain_mmd(features[:2].requires_grad_(), names[:2], widths=[1.0])
    assert float(one) == 0.0
    one.backward()


def test_median_widths():
    points = column(0, 1, 3)  # distances 1, 2, 3
    assert median_widths(points, (0.5, 2.0)) == (1.0, 4.0)
    assert median_widths(column(2, 2), (0.5, 2.0)) == (0.5, 2.0)
    features = torch.randn(6, 2, requires_grad=True)
    scaled = domain_mmd(features, torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(domain_mmd(features * 7, torch.tensor([0, 0, 0, 1, 1, 1])), scaled)


def test_gradients_of_the_discrepancy():
    generator = torch.Generator().manual_seed(3)
    u, v = (torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: squared_mmd(a, b, [0.8]), (u, v))


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.0])
def test_a_reversal_changes_the_gradient_alone(scale):
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    out = reverse_gradient(x, scale)
    assert torch.equal(out, x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2,), -scale))


def test_a_classifier_behind_a_reversal_gets_its_own_gradient():
    x, weight = torch.randn(4, 3), torch.randn(3, 2, requires_grad=True)
    target = torch.tensor([0, 1, 0, 1])
    plain = torch.autograd.grad(F.cross_entropy(x @ weight, target), weight)[0]
    reversed_ = torch.autograd.grad(F.cross_entropy(reverse_gradient(x, 0.5) @ weight, target), weight)[0]
    torch.testing.assert_close(reversed_, plain)


@pytest.mark.parametrize(("count", "chance"), [(2, 0.693147), (4, 1.386294), (8, 2.079442)])
def test_a_discriminator_at_chance_has_the_log_of_the_number_of_domains(count, chance):
    assert float(F.cross_entropy(torch.zeros(3, count), torch.tensor([0, 1, 1]))) == pytest.approx(chance, abs=1e-6)


def test_the_ramp_rises_from_zero_to_almost_one():
    assert domain_ramp(0.0) == 0.0
    assert domain_ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert domain_ramp(1.0) == pytest.approx(0.9999, abs=1e-4)
    with pytest.raises(ConfigError):
        domain_ramp(1.1)


@pytest.mark.parametrize("widths", [[], [0.0], [1.0, -1.0]])
def test_widths_are_above_zero(widths):
    with pytest.raises(ConfigError, match="widths"):
        gaussian_kernel(column(0), column(1), widths)
