"""Activation boundaries (Heo et al. 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss
from policykd.kd.functional.shapes import Features, as_levels, check_choice, check_positive


def boundary_loss(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Element-wise ``(s + m)**2`` where the neuron should be off and is not, ``(s - m)**2`` where it should be on."""
    too_high = (teacher <= 0) & (student > -margin)
    too_low = (teacher > 0) & (student <= margin)
    return (student + margin).square() * too_high + (student - margin).square() * too_low


@full_precision
def ab(
    student: Features,
    teacher: Features,
    *,
    margin: float = 1.0,
    variant: Literal["paper", "code"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Make every hidden neuron of the student switch where the teacher's switches.

    Sum over neurons of ``(s + m)**2 [s > -m, t <= 0] + (s - m)**2 [s <= m, t > 0]`` on values *before* the
    activation. Heo et al., AAAI 2019, eq. 6. Variants: ``paper`` adds the levels; ``code`` weights level l of n by
    ``2**(l - n)`` (the last has 1) and everything by 3/1000. It is used to initialize a student, not beside the
    labels.

    A student equal to the teacher is not at zero where ``|s| < m``: the margin asks for more.

    Args:
        student: Connected pre-activations ``(B, ...)``, one tensor or one per level, from first to last.
        teacher: The same shapes, detached here.
        margin: m > 0.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    check_choice("variant", variant, ("paper", "code"))
    check_positive(margin=margin)
    levels = as_levels(student, teacher)
    terms = []
    for index, (s, t) in enumerate(levels, start=1):
        s, t = prepare_pair(s, t, what="pre-activations", min_dim=2)
        weight = 2.0 ** (index - len(levels)) * 3.0 / 1000.0 if variant == "code" else 1.0
        terms.append(weight * boundary_loss(s, t, margin).flatten(1).sum(1))
    return reduce_loss(torch.stack(terms).sum(0), reduction)
