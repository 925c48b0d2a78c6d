"""Similarity preservation against worked numbers, bounds and its closed-form gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.kd import functional as kf
from policykd.kd.losses.sp import similarity_matrix

QT = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.double)
QS = torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]], dtype=torch.double)


def features(batch=6, width=4, seed=0):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def close(tensor, expected):
    torch.testing.assert_close(tensor, torch.tensor(expected, dtype=tensor.dtype), atol=1e-6, rtol=0)


def test_the_worked_values():
    close(similarity_matrix(QT), [[0.707107, 0, 0.707107], [0, 0.707107, 0.707107], [0.408248, 0.408248, 0.816497]])
    close(similarity_matrix(QS), [[0.780869, 0.624695, 0], [0.624695, 0.780869, 0], [0, 0, 1]])
    assert float(kf.sp(QS, QT)) == pytest.approx(0.239820, abs=1e-6)


def test_columns_instead_of_rows_give_the_same_value():
    gap = F.normalize(QS @ QS.T, dim=0) - F.normalize(QT @ QT.T, dim=0)
    assert float(gap.square().sum() / 9) == pytest.approx(0.239820, abs=1e-6)


def test_rotations_and_a_common_scale_do_not_count():
    student, teacher = features(), features(seed=1)
    turn, _ = torch.linalg.qr(features(4, 4, seed=2))
    value = kf.sp(student, teacher)
    torch.testing.assert_close(kf.sp(2.5 * student @ turn, teacher), value)
    torch.testing.assert_close(kf.sp(student, 0.1 * teacher @ turn), value)
    assert float(kf.sp(3.0 * teacher @ turn, teacher)) == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize(("batch", "expected"), [(2, 0.292893), (4, 0.25), (8, 0.161612)])
def test_orthonormal_against_collapsed_features(batch, expected):
    value = float(kf.sp(torch.eye(batch, dtype=torch.double), torch.ones(batch, 3, dtype=torch.double)))
    assert value == pytest.approx((2 - 2 / batch**0.5) / batch)
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5, 9])
def test_bounds(batch):
    for seed in range(5):
        student, teacher = features(batch, 3, seed), features(batch, 2, seed + 50)
        assert 0 <= float(kf.sp(student, teacher)) <= 4 / batch
        assert float(kf.sp(student.abs(), teacher.abs())) <= 2 / batch


def test_the_order_of_the_batch_counts_only_if_one_changes_it():
    student, teacher, turn = features(), features(seed=1), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(kf.sp(student[turn], teacher[turn]), kf.sp(student, teacher))
    assert float(kf.sp(student[turn], teacher)) != pytest.approx(float(kf.sp(student, teacher)), rel=1e-3)


def test_one_sample_has_nothing_to_be_like():
    assert float(kf.sp(features(1), features(1, seed=1))) == 0.0


def test_the_gradient_has_its_closed_form():
    """D = 2 / b**2 (G_s - G_t); dG~[i] = (D[i] - (D[i] . G_s[i]) G_s[i]) / |G~_s[i]|; dQ = (dG~ + dG~') Q."""
    student, teacher = features().requires_grad_(), features(width=3, seed=1)
    kf.sp(student, teacher).backward()
    q = student.detach().numpy()
    gram = q @ q.T
    norms = np.linalg.norm(gram, axis=1, keepdims=True)
    g = gram / norms
    d = 2 / 36 * (g - similarity_matrix(teacher).numpy())
    inner = (d - (d * g).sum(1, keepdims=True) * g) / norms
    np.testing.assert_allclose(student.grad.numpy(), (inner + inner.T) @ q, atol=1e-14)
