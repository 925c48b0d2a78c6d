"""Distillation without a teacher: a virtual one that is nearly always right (Yuan et al. 2020).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_tensor, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import OpenFraction, Temperature
from policykd.kd.shapes import check_labels, check_logits

Variant = Literal["paper", "code"]


def virtual_teacher(
    target: Tensor, classes: int, *, certainty: float = 0.99, temperature: float = 20.0, variant: Variant = "paper"
) -> Tensor:
    """Probabilities ``(B, classes)``, float64, of a teacher that is sure of the labels ``(B,)`` and then softened.

    Args:
        target: Class indices ``(B,)``.
        classes: C, at least 2.
        certainty: Probability a of the label before softening; the others share the rest.
        temperature: T > 0.
        variant: ``paper`` softens logits, ``p**(1/T)`` normalized; ``code`` takes ``softmax(p / T)``.
    """
    probabilities = F.one_hot(target, classes).double()
    probabilities = probabilities * certainty + (1.0 - probabilities) * (1.0 - certainty) / (classes - 1)
    return ((probabilities.log() if variant == "paper" else probabilities) / temperature).softmax(1)


@loss_function
def tfkd(
    student: Tensor,
    target: Tensor,
    *,
    certainty: OpenFraction = 0.99,
    temperature: Temperature = 20.0,
    variant: Variant = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Regularize by the soft answers of a virtual teacher, which needs no network.

    ``KL(softened virtual teacher || softmax(z_s))``, Yuan, Tay, Li, Wang, Feng, CVPR 2020, eq. 9 and 10 [numbering
    recalled]; see :func:`virtual_teacher`. The student is not softened, as in the released code.

    Variants: ``paper``; ``code`` softens probabilities instead of logits and also divides by the number of classes,
    hence its multipliers of 10 to 100.

    Args:
        student: Logits ``(B, C)``, at least two classes.
        target: Class indices ``(B,)``.
        certainty: The virtual teacher's probability of the label, in (0, 1).
        temperature: T > 0 of the virtual teacher.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: wrong shape, a label out of range, a value that is not finite, or an option out of range.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> tfkd(logits, labels, certainty=0.9)
        tensor(0.2373)
    """
    student = prepare_tensor("student logits", student, min_dim=2)
    check_logits(student, least=2)
    soft = virtual_teacher(
        check_labels(student, target), student.shape[1], certainty=certainty, temperature=temperature, variant=variant
    ).to(student.dtype)
    values = F.kl_div(F.log_softmax(student, 1), soft, reduction="none").sum(1)
    return reduce_loss(values / student.shape[1] if variant == "code" else values, reduction)


TFKD = loss_module(tfkd)
