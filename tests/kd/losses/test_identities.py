"""Identities from the papers that single losses must satisfy beyond the contract."""

import math

import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses.cc import correlation
from policykd.kd.losses.dist import pearson
from policykd.kd.losses.lskd import standardize


def doubles(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kd_gradient_sums_to_zero_and_follows_a_permutation():
    z, v, order = doubles(0, 5, 4).requires_grad_(), doubles(1, 5, 4), torch.tensor([2, 0, 3, 1])
    kf.kd(z, v).backward()
    assert z.grad.sum(1).abs().max() < 1e-12
    moved = z.detach()[:, order].requires_grad_()
    kf.kd(moved, v[:, order]).backward()
    torch.testing.assert_close(moved.grad, z.grad[:, order])


def test_kd_gradient_is_temperature_times_the_gap():
    z, v = doubles(0, 5, 4).requires_grad_(), doubles(1, 5, 4)
    kf.kd(z, v, temperature=3.0, reduction="sum").backward()
    torch.testing.assert_close(z.grad, 3.0 * ((z / 3).softmax(1) - (v / 3).softmax(1)).detach())


def test_kd_of_the_worked_example_increases_with_temperature():
    z, v = torch.tensor([[1.0, 2, 3]]).double(), torch.tensor([[2.0, 1, 4]]).double()
    values = [float(kf.kd(z, v, temperature=x)) for x in (1, 2, 4, 8, 20, 1000)]
    assert values == sorted(values)
    assert min(values) > 0


def test_temperature_to_zero_is_the_arg_max():
    z, v = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[1.0, 0.0]]).double()
    assert float(kf.kd(z, v, temperature=0.01, scale_t2=False)) == pytest.approx(100.0, rel=1e-6)


def test_relational_losses_ignore_a_joint_permutation_only():
    s, t, order = doubles(0, 6, 4), doubles(1, 6, 7), torch.tensor([3, 5, 0, 1, 4, 2])
    for loss in (kf.sp, kf.cc, kf.rkd, kf.pkt):
        torch.testing.assert_close(loss(s[order], t[order]), loss(s, t))
        assert not torch.isclose(loss(s[order], t), loss(s, t))


def test_relational_losses_vanish_for_a_rotated_and_scaled_teacher():
    t = doubles(1, 6, 4)
    rotation = torch.linalg.qr(doubles(2, 4, 4)).Q
    for loss in (kf.sp, kf.cc, kf.rkd, kf.pkt):
        assert float(loss(2.5 * t @ rotation, t)) == pytest.approx(0.0, abs=1e-7)


def test_correlation_diagonal_and_orthogonal_pair():
    q = torch.cat([torch.eye(3), torch.ones(1, 3)]).double()
    matrix = correlation(q, gamma=0.4, order=2)
    diagonal = math.exp(-0.8) * (1 + 0.8 + 0.8**2 / 2)
    torch.testing.assert_close(matrix.diagonal(), torch.full((4,), diagonal).double())
    assert float(matrix[0, 1]) == pytest.approx(math.exp(-0.8))
    for order in range(1, 6):
        assert torch.linalg.eigvalsh(correlation(doubles(0, 6, 3), order=order)).min() > -1e-12


def test_correlation_ignores_affine_maps_of_probabilities():
    p, q = doubles(0, 5, 4).softmax(1), doubles(1, 5, 4).softmax(1)
    torch.testing.assert_close(pearson(0.3 * p + 0.1, q, dim=1), pearson(p, q, dim=1))
    torch.testing.assert_close(pearson(-p, q, dim=1), -pearson(p, q, dim=1))


def test_standardized_logits_are_bounded():
    for classes in (2, 10, 100):
        z = torch.exp(3 * doubles(0, 200, classes))
        assert standardize(z).abs().max() <= math.sqrt(classes - 1)


def test_jsd_is_bounded_and_its_mirror_swaps_the_sides():
    s, t = 20 * doubles(0, 8, 5), 20 * doubles(1, 8, 5)
    assert kf.jsd(s, t, reduction="none").max() <= math.log(2) + 1e-12
    torch.testing.assert_close(kf.jsd(s, t, beta=0.2), kf.jsd(t, s, beta=0.8))


def test_saturated_student_is_finite_where_sums_of_probabilities_are_not():
    s = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value = kf.dkd(s, torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]), temperature=1.0)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(s.grad).all()


def test_mixed_precision_pairs_are_promoted():
    s, t = doubles(0, 5, 4), doubles(1, 5, 4)
    value = kf.kd(s.half(), t.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, kf.kd(s.half().float(), t.float()))
    assert kf.kd(s.half(), t).dtype == torch.float64
