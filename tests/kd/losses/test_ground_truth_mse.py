"""The loss of self-distillation with weighted ground truth: its value and its gradient."""

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.losses.ground_truth_mse import ground_truth_mse


def test_network_loss_is_the_same_mix_and_reaches_only_the_student():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    student.requires_grad_(), teacher.requires_grad_()
    y = torch.tensor([0, 3, 1, 1, 2])
    value = ground_truth_mse(student, teacher, y, ground_truth_weight=0.3)
    p, q = (np.exp(z.detach().numpy()) for z in (student, teacher))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    expected = 0.3 * ((p - np.eye(4)[y]) ** 2).mean() + 0.7 * ((p - q) ** 2).mean()
    assert value.item() == pytest.approx(expected, abs=1e-15)
    value.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match=r"ground_truth_weight must be in \[0, 1\], got -1"):
        ground_truth_mse(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), ground_truth_weight=-1)
