"""Factor transfer (Kim et al. 2018)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss
from policykd.kd.functional.shapes import check_choice


@full_precision
def ft(
    student: Tensor,
    teacher: Tensor,
    *,
    norm: Literal["l1", "l2"] = "l1",
    variant: Literal["paper", "code"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Match compressed features: the student's translator output to the teacher's paraphraser output.

    Variants: ``paper`` ``|| f_s / ||f_s||_2 - f_t / ||f_t||_2 ||_p`` on the whole factor (Kim et al., NeurIPS 2018,
    eq. 3); ``code`` (the common benchmark) first takes the channel mean of the squared factor, an attention map,
    normalizes that and averages ``|difference|**p`` over places: another method, to which the weight 200 belongs.

    Args:
        student: Factors ``(B, K, H, W)`` of the student.
        teacher: Factors of the same shape, detached here.
        norm: ``l1`` (p = 1) or ``l2`` (p = 2; squared in ``code``).
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.
    """
    check_choice("norm", norm, ("l1", "l2"))
    check_choice("variant", variant, ("paper", "code"))
    student, teacher = prepare_pair(student, teacher, what="factors", min_dim=3)
    if variant == "code":
        gap = _energy(student) - _energy(teacher)
        return reduce_loss((gap.abs() if norm == "l1" else gap.square()).mean(1), reduction)
    gap = F.normalize(student.flatten(1), dim=1) - F.normalize(teacher.flatten(1), dim=1)
    return reduce_loss(gap.norm(p=1 if norm == "l1" else 2, dim=1), reduction)


def _energy(factor: Tensor) -> Tensor:
    return F.normalize(factor.square().mean(1).flatten(1), dim=1)
