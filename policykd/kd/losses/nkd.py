"""Normalized knowledge distillation: target class and other classes as two cross-entropies (Yang et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Temperature
from policykd.kd.shapes import check_labels, prepare_logits


@loss_function
def nkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    temperature: Temperature = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Weigh the label's cross-entropy by the teacher's confidence, and distil the others' distribution.

    ``-t_y log s_y - gamma T**2 sum_{c != y} q_t(c) log q_s(c)``, with s and t at temperature 1 and q the softened
    distribution over the classes other than y, which sums to one for both networks. Yang et al., ICCV 2023, as in the
    authors' code.

    Both parts are cross-entropies: the value at the teacher is not 0, and the first part still asks for more confidence
    there. The label is masked instead of removed, which is the same.

    Args:
        student: Logits ``(B, C)``, at least two classes.
        teacher: Logits ``(B, C)``, detached here.
        target: Class indices ``(B,)``.
        gamma: Weight of the second part.
        temperature: T > 0 of the second part.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> nkd(student, teacher, torch.tensor([2]))
        tensor(1.9104)
    """
    student, teacher = prepare_logits(student, teacher, least=2)
    column = check_labels(student, target)[:, None]
    own = torch.zeros_like(student, dtype=torch.bool).scatter(1, column, True)
    confidence = teacher.softmax(1).gather(1, column)[:, 0]
    labeled = -confidence * F.log_softmax(student, 1).gather(1, column)[:, 0]
    log_s, log_t = ((z / temperature).masked_fill(own, -torch.inf).log_softmax(1) for z in (student, teacher))
    others = -(log_t.exp() * log_s.masked_fill(own, 0.0)).sum(1)
    return reduce_loss(labeled + gamma * temperature**2 * others, reduction)


NKD = loss_module(nkd)
