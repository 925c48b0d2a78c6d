"""Confidence weighted by the teacher's maximum (Furlanello et al. 2018).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.shapes import check_labels, prepare_logits


@torch.no_grad()
def top_weights(teacher: Tensor) -> Tensor:
    """Return the teacher's top probability of every sample over their sum in the batch ``(B,)``, from logits."""
    top = teacher.softmax(1).amax(1)
    return top / top.sum()


@loss_function
def cwtm(student: Tensor, teacher: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Learn from labels alone, with samples weighted by how sure the teacher is, right or wrong.

    ``sum_i w_i (-log p_s[i, y_i])``, ``w_i = max_c p_t[i, c] / sum_j max_c p_t[j, c]``. Furlanello, Lipton, Tschannen,
    Itti, Anandkumar: Born-Again Networks, ICML 2018, section 3.2 [recalled]: the control that shows how much of a
    generation's gain is a matter of weights. (The other control permutes the teacher's wrong classes; a generation
    itself is plain KD at temperature 1.)

    The weights are normalized over the batch, so the loss depends on it by definition. Values per sample are
    ``B w_i CE_i``, so that their mean is the sum above.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        target: Class indices ``(B,)``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, or a value is not finite.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]])
        >>> cwtm(student, teacher, torch.tensor([0, 1]))
        tensor(0.2078)
    """
    student, teacher = prepare_logits(student, teacher)
    values = F.cross_entropy(student, check_labels(student, target), reduction="none")
    return reduce_loss(len(student) * top_weights(teacher) * values, reduction)


CWTM = loss_module(cwtm, batch_coupled=True)
