"""Scaled logits: worked numbers and invariances."""

import pytest
import torch
import torch.nn.functional as F

from policykd.kd import functional as kf
from policykd.kd.losses.std_scaled import std_scaled, std_scaled_loss

S = torch.tensor([[1.0, 2, 4]], dtype=torch.double)
T = torch.tensor([[0.0, 1, 5]], dtype=torch.double)
Y = torch.tensor([[0.7, 0, 0.3]], dtype=torch.double)


def test_the_worked_values():
    assert float(S.std()) == pytest.approx(1.527525, abs=1e-6)
    assert float(T.std()) == pytest.approx(2.645751, abs=1e-6)
    ce = std_scaled_loss(S, T, Y, ce_weight=1.0, kd_weight=0.0)
    kl = std_scaled_loss(S, T, Y, ce_weight=0.0, kd_weight=1.0)
    assert float(ce) == pytest.approx(1.718581, abs=2e-6)
    assert float(kl) == pytest.approx(0.003437, abs=1e-6)
    assert float(std_scaled_loss(S, T, Y)) == pytest.approx(0.174951, abs=1e-6)
    assert float(F.cross_entropy(S, Y)) == pytest.approx(2.269846, abs=1e-6)
    assert float(kf.kd(S, T, temperature=4.0)) == pytest.approx(0.490175, abs=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (0.3, -4.0), (10.0, 7.0)])
def test_neither_scale_nor_place_of_the_logits_counts(scale, shift):
    value = std_scaled_loss(S, T, Y)
    torch.testing.assert_close(std_scaled_loss(scale * S + shift, T, Y), value, atol=1e-5, rtol=0)
    torch.testing.assert_close(std_scaled_loss(S, scale * T + shift, Y), value, atol=1e-5, rtol=0)


def test_an_affine_copy_of_the_teacher_has_nothing_to_learn():
    assert float(std_scaled_loss(3 * T - 2, T, Y, ce_weight=0.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 10])
def test_scaled_logits_have_deviation_one_and_a_bounded_peak(classes):
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    scaled = std_scaled(logits)
    torch.testing.assert_close(scaled.std(1), torch.ones(50, dtype=torch.double), atol=1e-4, rtol=0)
    assert torch.equal(scaled.argmax(1), logits.argmax(1))
    bound = (classes - 1) / classes**0.5
    assert float(scaled.max()) < bound
    assert float(std_scaled(torch.eye(classes, dtype=torch.double)).max()) == pytest.approx(bound, abs=1e-5)


def test_the_gradient_flows_through_the_deviation():
    """Scaling the student's logits changes nothing, so that the gradient has no part along them."""
    z = S.clone().requires_grad_()
    std_scaled_loss(z, T, Y).backward()
    assert float(z.grad.abs().max()) > 1e-3
    assert float((z.grad * S).sum()) == pytest.approx(0.0, abs=1e-6)
    assert float(z.grad.sum()) == pytest.approx(0.0, abs=1e-12)
    torch.autograd.gradcheck(lambda s: std_scaled_loss(s, T, Y), (S.clone().requires_grad_(),))


def test_constant_logits_give_finite_values_and_gradients():
    z = torch.ones(1, 3, requires_grad=True)
    value = std_scaled_loss(z, T.float(), Y.float())
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(z.grad).all())
