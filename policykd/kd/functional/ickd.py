"""Inter-channel correlation (Liu et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, reduce_loss
from policykd.kd.functional.shapes import check_choice, prepare_maps


@full_precision
def ickd(
    student: Tensor, teacher: Tensor, *, variant: Literal["paper", "code"] = "paper", reduction: Reduction = "mean"
) -> Tensor:
    """Keep the teacher's correlations between channels, its diversity of features.

    With ``G = F F'`` (C x C) of the channels flattened over space. Liu et al., ICCV 2021, eq. 3 and 4 [recalled].
    Variants: ``paper`` ``1 / C**2 || G_s - G_t ||_F**2``; ``code`` divides every row of G by its norm first and the
    sum of squares by C (the weight 2.5 belongs to it).

    Departure: heights and widths may differ, the larger map is averaged down. The paper's grid version is left out.

    Args:
        student: Feature maps ``(B, C, H, W)``; a connector in the module twin matches the channels.
        teacher: Feature maps ``(B, C, H', W')``, detached here.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is unknown.
    """
    check_choice("variant", variant, ("paper", "code"))
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    s, t = student.flatten(2), teacher.flatten(2)
    gram_s, gram_t = s @ s.transpose(1, 2), t @ t.transpose(1, 2)
    if variant == "paper":
        return reduce_loss((gram_s - gram_t).square().mean((1, 2)), reduction)
    gap = F.normalize(gram_s, dim=2) - F.normalize(gram_t, dim=2)
    return reduce_loss(gap.square().sum(2).mean(1), reduction)
