"""Squared error to a mix of labels and teacher (Borup and Andersen 2021).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, mse, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import ClosedFraction
from policykd.kd.shapes import check_labels, prepare_logits


@loss_function
def ground_truth_mse(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    ground_truth_weight: ClosedFraction = 0.5,
    reduction: Reduction = "mean",
) -> Tensor:
    """Match a weighted mix of labels and teacher by the squared error of class probabilities.

    ``w MSE(p_s, onehot) + (1 - w) MSE(p_s, p_t)``. Borup and Andersen, Even your Teacher Needs Guidance, NeurIPS 2021,
    arXiv 2102.13088: the objective of their self-distillation, for networks.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` of the step before, detached here.
        target: Labels ``(B,)``.
        ground_truth_weight: w in [0, 1]; the rest goes to the teacher.
        reduction: How the values of shape ``(B,)`` are reduced; each is a mean over classes.

    Raises:
        TypeError: an input has the wrong type.
        ValueError: shapes differ, a value is not finite, or the weight is outside [0, 1].

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> ground_truth_mse(student, teacher, torch.tensor([0]), ground_truth_weight=0.25)
        tensor(0.0581)
    """
    student, teacher = prepare_logits(student, teacher)
    one_hot = F.one_hot(check_labels(student, target), student.shape[1]).to(student.dtype)
    own = student.softmax(1)
    values = ground_truth_weight * mse(own, one_hot, reduction="none")
    return reduce_loss(values + (1 - ground_truth_weight) * mse(own, teacher.softmax(1), reduction="none"), reduction)


GroundTruthMSE = loss_module(ground_truth_mse, "GroundTruthMSE")
