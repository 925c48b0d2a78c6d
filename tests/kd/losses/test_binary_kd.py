"""Distillation of independent labels against its formula."""

import numpy as np
import pytest
import torch

from policykd.kd.losses.binary_kd import binary_kd


def test_binary_kd():
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, q = 1 / (1 + np.exp(-teacher.numpy() / 2)), 1 / (1 + np.exp(-student.numpy() / 2))
    expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    assert float(binary_kd(student, teacher)) == pytest.approx(expected, rel=1e-12)
    assert float(binary_kd(student, teacher, scale_t2=True)) == pytest.approx(4 * expected, rel=1e-12)
    same = teacher.clone().requires_grad_()
    binary_kd(same, teacher).backward()
    assert same.grad.abs().max() < 1e-15


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        binary_kd(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
    with pytest.raises(ValueError, match="same shape"):
        binary_kd(torch.zeros(2, 3), torch.zeros(2, 4))
