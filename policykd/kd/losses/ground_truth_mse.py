"""Mean squared errors to the labels and to the previous step's network (Borup and Andersen, NeurIPS 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, full_precision, mse, prepare_pair, reduce_loss
from policykd.errors import ConfigError, check_range
from policykd.kd.shapes import check_labels, check_logits


@full_precision
def ground_truth_mse(
    student: Tensor, teacher: Tensor, target: Tensor, *, ground_truth_weight: float, reduction: Reduction = "mean"
) -> Tensor:
    """Return ``w MSE(p_s, onehot) + (1 - w) MSE(p_s, p_t)`` of class probabilities.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` of the previous step, detached here.
        target: Labels ``(B,)``.
        ground_truth_weight: w in [0, 1]; the rest goes to the teacher.
        reduction: How the values of shape ``(B,)`` are reduced; each is a mean over classes.

    Raises:
        TypeError: An input has the wrong type.
        ValueError: Shapes differ, a value is not finite, or the weight is outside [0, 1].
    """
    check_range("ground_truth_weight", ground_truth_weight, 0, 1)
    check_logits(student)
    student, teacher = prepare_pair(student, teacher)
    one_hot = F.one_hot(check_labels(student, target), student.shape[1]).to(student.dtype)
    own = student.softmax(1)
    values = ground_truth_weight * mse(own, one_hot, reduction="none")
    return reduce_loss(values + (1 - ground_truth_weight) * mse(own, teacher.softmax(1), reduction="none"), reduction)


def norm_penalty(module: nn.Module) -> Tensor:
    """Return the sum of the L2 norms (not squared) of all parameter tensors, the penalty of the authors' script.

    Raises:
        ConfigError: The module has no parameters.
    """
    norms = [parameter.norm() for parameter in module.parameters()]
    if not norms:
        raise ConfigError("the module has no parameters")
    return sum(norms[1:], norms[0])
