"""Correlation congruence: worked numbers, invariances and scikit-learn's kernel."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

from policykd.kd import functional as kf
from policykd.kd.losses.cc import correlation

Q_T = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
Q_S = torch.tensor([[1, 2, 0], [2, 1, 0], [0, 0, 1]], dtype=torch.float64)


def features(seed, width=5):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(6, width)))


def test_known_kernels_and_errors_of_the_series():
    exact, taylor = correlation(Q_T, kernel="rbf"), correlation(Q_T)
    assert exact[[0, 0, 1], [1, 2, 2]].tolist() == pytest.approx([0.449329, 0.791113, 0.791113], abs=1e-6)
    assert taylor[[0, 0, 0], [0, 1, 2]].tolist() == pytest.approx([0.952577, 0.449329, 0.775400], abs=1e-6)
    for order, error in ((1, 0.191208), (2, 0.047423), (3, 0.009080)):
        assert float((correlation(Q_T, order=order) - exact).abs().max()) == pytest.approx(error, abs=1e-6)
    assert float((correlation(Q_T, order=6) - exact).abs().max()) == pytest.approx(2.1e-5, abs=5e-7)


def test_known_losses():
    for order, value in ((1, 0.047091), (2, 0.079275), (3, 0.086683), (6, 0.087975)):
        assert float(kf.cc(Q_S, Q_T, order=order)) == pytest.approx(value, abs=1e-6)
    assert float(kf.cc(Q_S, Q_T, kernel="rbf")) == pytest.approx(0.087976, abs=1e-6)
    assert float(kf.cc(Q_S, Q_T, kernel="bilinear")) == pytest.approx(0.364444, abs=1e-6)
    assert float(kf.cc(Q_S, Q_T, kernel="bilinear", normalize=False)) == pytest.approx(7.666667, abs=1e-6)


def test_exact_kernel_is_the_one_of_scikit_learn():
    unit = torch.nn.functional.normalize(features(0))
    np.testing.assert_allclose(correlation(features(0), kernel="rbf", gamma=0.7), rbf_kernel(unit, gamma=0.7))
    np.testing.assert_allclose(correlation(features(0), order=30), rbf_kernel(unit, gamma=0.4), atol=1e-12)


def test_diagonal_and_orthogonal_pairs():
    series = np.exp(-0.8) * (1 + 0.8 + 0.8**2 / 2)
    np.testing.assert_allclose(correlation(features(1)).diagonal(), series)
    np.testing.assert_allclose(correlation(torch.eye(3).double())[0, 1], np.exp(-0.8))
    assert np.exp(-0.8) == pytest.approx(0.449329, abs=1e-6)


def test_invariances():
    student, teacher = features(0), features(1, width=3)
    turn, _ = torch.linalg.qr(features(2)[:5])
    scale = torch.tensor([0.1, 1, 2, 5, 10, 100], dtype=torch.float64)[:, None]
    torch.testing.assert_close(kf.cc(scale * student @ turn, teacher), kf.cc(student, teacher))
    assert float(kf.cc(student @ turn, student)) == pytest.approx(0.0, abs=1e-24)


def test_gradient_equals_finite_differences():
    assert torch.autograd.gradcheck(lambda s: kf.cc(s, features(1)), features(0).requires_grad_())


def test_known_adjacent_variant_depends_on_the_order():
    student = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    teacher = torch.tensor([[0, 0], [0, 3], [1, 0]], dtype=torch.float64)
    assert float(kf.cc(student, teacher, variant="adjacent")) == pytest.approx(1.0)
    order = torch.tensor([1, 0, 2])
    assert float(kf.cc(student[order], teacher[order], variant="adjacent")) != pytest.approx(1.0)
