"""Generalized Jensen-Shannon divergence on logits (Agarwal et al. 2024).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from torch import Tensor

from policykd.divergences import Reduction, categorical_jsd
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import ClosedFraction, Temperature
from policykd.kd.shapes import check_logits


@loss_function
def jsd(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: ClosedFraction = 0.5,
    temperature: Temperature = 1.0,
    scale_t2: bool = True,
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Move between forward KL (beta 0) and reverse KL (beta 1) through a bounded, symmetric middle (beta 1/2).

    ``beta KL(p_t || m) + (1 - beta) KL(p_s || m)``, ``m = beta p_t + (1 - beta) p_s``. Agarwal et al., ICLR 2024 (GKD),
    section 2 [numbering recalled]. See `policykd.divergences.categorical_jsd`, which this calls, for the ends of the
    interval and `normalize`.

    Departure from the popular code: that one divides the logits by T and never multiplies by ``T**2``; here
    ``scale_t2=False`` asks for it.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        beta: Weight of the teacher in the mixture, in [0, 1].
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        normalize: Divide by ``beta (1 - beta)``, which makes the loss continuous in beta at both ends.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> jsd(student, teacher), jsd(student, teacher, beta=0.0)  # the second is the forward KL
        (tensor(0.0457), tensor(0.1537))
    """
    check_logits(student)
    return categorical_jsd(
        student,
        teacher,
        beta=beta,
        temperature=temperature,
        scale_t2=scale_t2,
        normalize=normalize,
        reduction=reduction,
    )


JSD = loss_module(jsd)
