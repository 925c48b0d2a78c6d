"""Attention transfer (Zagoruyko and Komodakis 2017).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Positive
from policykd.kd.shapes import Features, as_levels, prepare_maps


def attention_map(features: Tensor, *, power: float = 2.0) -> Tensor:
    """Turn ``(B, C, H, W)`` into unit vectors ``(B, H W)``: the channel mean of ``|F|**power``, divided by its norm."""
    energy = features.square() if power == 2 else features.abs().pow(power)
    return F.normalize(energy.mean(1).flatten(1), dim=1)


@loss_function
def at(
    student: Features,
    teacher: Features,
    *,
    power: Positive = 2.0,
    variant: Literal["code", "paper"] = "code",
    reduction: Reduction = "mean",
) -> Tensor:
    """Let the student look where the teacher looks.

    With ``a`` the unit-norm attention map of a level; several levels are added. Zagoruyko, Komodakis, ICLR 2017, eq. 2.
    Variants: ``paper`` ``||a_s - a_t||_2`` per sample; ``code`` the mean over places of ``(a_s - a_t)**2``, which the
    authors' and all later benchmark code use (the weight 1000 belongs to it).

    Departures: the factor 1/2 and the weight of eq. 2 are left to the caller. Maps of different size are averaged down
    to the smaller one. An all-zero map stays zero.

    Args:
        student: Feature maps ``(B, C, H, W)`` or ``(B, C, L)``, one tensor or one per level; channels need not match.
        teacher: Feature maps ``(B, C', H', W')``, detached here.
        power: Exponent of the activations.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: not four dimensions, batches differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> at(student, teacher), at(student, teacher, variant="paper")
        (tensor(0.1464), tensor(0.7654))
    """
    terms = []
    for s, t in as_levels(student, teacher):
        s, t = prepare_maps(s, t)
        gap = attention_map(s, power=power) - attention_map(t, power=power)
        terms.append(gap.square().mean(1) if variant == "code" else gap.norm(dim=1))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


AT = loss_module(at, signal="features", channels_first=True)
