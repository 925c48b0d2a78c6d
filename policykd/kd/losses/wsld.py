"""Weighted soft labels (Zhou et al. 2021).

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

_LEAST = 1e-7  # a teacher that is certain and right has no cross-entropy to divide by


@torch.no_grad()
def wsld_weights(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Return ``1 - exp(-CE_s / CE_t)`` per sample ``(B,)``, from promoted logits ``(B, C)`` and labels ``(B,)``."""
    own, other = (F.cross_entropy(logits, target, reduction="none") for logits in (student, teacher))
    return 1.0 - torch.exp(-own / other.clamp_min(_LEAST))


@loss_function
def wsld(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: Temperature = 2.0,
    scale_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Trust the soft label of a sample as far as the student is behind the teacher on it.

    ``T**2 w (-sum_c p_t log p_s)`` with softened probabilities and ``w = 1 - exp(-CE_s / CE_t)`` at temperature 1; w
    carries no gradient. Zhou, Song, Chen et al., ICLR 2021, eq. 11 [numbering recalled].

    As in the paper this is a cross-entropy: at student = teacher the gradient is zero, the value is not.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        target: Class indices ``(B,)``.
        temperature: T > 0 of the soft labels.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> wsld(student, teacher, torch.tensor([2]))
        tensor(3.5702)
    """
    student, teacher = prepare_logits(student, teacher)
    weights = wsld_weights(student, teacher, check_labels(student, target))
    soft = -((teacher / temperature).softmax(1) * F.log_softmax(student / temperature, 1)).sum(1)
    return reduce_loss(weights * soft * (temperature**2 if scale_t2 else 1.0), reduction)


WSLD = loss_module(wsld)
