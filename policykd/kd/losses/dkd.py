"""Decoupled knowledge distillation (Zhao et al. 2022).

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


def dkd_terms(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD per sample, without ``T**2``, from promoted logits ``(B, C)`` and labels ``(B,)``."""
    target_column = target[:, None]
    log_s, log_t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    own = torch.zeros_like(log_s, dtype=torch.bool).scatter(1, target_column, True)

    def split(log_p: Tensor) -> tuple[Tensor, Tensor]:
        rest = log_p.masked_fill(own, -torch.inf).logsumexp(1, keepdim=True)
        return torch.cat([log_p.gather(1, target_column), rest], 1), (log_p - rest).masked_fill(own, 0.0)

    (binary_s, other_s), (binary_t, other_t) = split(log_s), split(log_t)
    tckd = (binary_t.exp() * (binary_t - binary_s)).sum(1)
    nckd = (other_t.exp() * (other_t - other_s)).masked_fill(own, 0.0).sum(1)
    return tckd, nckd


@loss_function
def dkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    tckd_weight: float = 1.0,
    nckd_weight: float = 8.0,
    temperature: Temperature = 4.0,
    scale_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil "how sure of the label" and "what else it looks like" with separate weights.

    ``T**2 (w_t KL(b_t || b_s) + w_n KL(q_t || q_s))``, b the pair (label, all others), q the distribution over the
    other classes. Zhao et al., CVPR 2022, eq. 7: plain KD is ``w_t = 1``, ``w_n = 1 - p_t(label)`` per sample.

    Departure from the released code: the masses are made in log space instead of summing probabilities and taking
    logarithms, and the label is masked instead of lowered by 1000; so saturated and half-precision logits stay finite.

    Args:
        student: Logits ``(B, C)``, at least two classes; with exactly two NCKD is 0.
        teacher: Logits ``(B, C)``, detached here.
        target: Class indices ``(B,)``.
        tckd_weight: w_t, the paper's first weight.
        nckd_weight: w_n, the paper's second weight (tuned per pair of networks: 2 to 8).
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> dkd(student, teacher, torch.tensor([2]), nckd_weight=2.0)
        tensor(1.1189)
    """
    student, teacher = prepare_logits(student, teacher, least=2)
    tckd, nckd = dkd_terms(student, teacher, check_labels(student, target), temperature)
    values = tckd_weight * tckd + nckd_weight * nckd
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


DKD = loss_module(dkd)
