"""Knowledge distillation on softened logits (Hinton et al. 2015).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, categorical_kl, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Temperature
from policykd.kd.shapes import check_logits


@loss_function
def kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 4.0,
    scale_t2: bool = True,
    variant: Literal["paper", "element_mean"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Match the teacher's softened class distribution.

    ``T**2 KL(softmax(z_t / T) || softmax(z_s / T))``, summed over classes. Hinton, Vinyals, Dean 2015, section 2 (there
    as a cross-entropy, which differs by the teacher's entropy and has the same gradient).

    Variants: ``paper``; ``element_mean`` also divides by the number of classes, as code does that leaves the reduction
    of the KL at its default: C times weaker.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``, so that the gradient keeps its scale when T changes.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> kd(student, teacher, temperature=2.0)
        tensor(0.3026)
    """
    check_logits(student)
    values = categorical_kl(student, teacher, temperature=temperature, scale_t2=scale_t2, reduction="none")
    return reduce_loss(values / student.shape[1] if variant == "element_mean" else values, reduction)


KD = loss_module(kd)
