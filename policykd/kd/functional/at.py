"""Attention transfer (Zagoruyko and Komodakis 2017)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, reduce_loss
from policykd.kd.functional.shapes import check_choice, check_positive, prepare_maps


def attention_map(features: Tensor, *, power: float = 2.0) -> Tensor:
    """Turn ``(B, C, H, W)`` into unit vectors ``(B, H W)``: the channel mean of ``|F|**power``, divided by its norm."""
    energy = features.square() if power == 2 else features.abs().pow(power)
    return F.normalize(energy.mean(1).flatten(1), dim=1)


@full_precision
def at(
    student: Tensor,
    teacher: Tensor,
    *,
    power: float = 2.0,
    variant: Literal["code", "paper"] = "code",
    reduction: Reduction = "mean",
) -> Tensor:
    """Let the student look where the teacher looks.

    With ``a`` the unit-norm attention map of one level. Zagoruyko and Komodakis, ICLR 2017, eq. 2.
    Variants: ``paper`` ``||a_s - a_t||_2`` per sample; ``code`` the mean over places of ``(a_s - a_t)**2``, which the
    authors' and all later benchmark code use (the weight 1000 belongs to it).

    Departures: the factor 1/2 and the weight of eq. 2 are left to the caller. Maps of different size are averaged down
    to the smaller one. An all-zero map stays zero.

    Args:
        student: Feature maps ``(B, C, H, W)``; channels need not match.
        teacher: Feature maps ``(B, C', H', W')``, detached here.
        power: Exponent of the activations.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: not four dimensions, batches differ, a value is not finite, or an option is out of range.
    """
    check_choice("variant", variant, ("code", "paper"))
    check_positive(power=power)
    student, teacher = prepare_maps(student, teacher)
    gap = attention_map(student, power=power) - attention_map(teacher, power=power)
    return reduce_loss(gap.square().mean(1) if variant == "code" else gap.norm(dim=1), reduction)
