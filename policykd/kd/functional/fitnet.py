"""FitNets hints (Romero et al. 2015)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss
from policykd.kd.functional.shapes import check_choice


@full_precision
def fitnet(
    student: Tensor, teacher: Tensor, *, variant: Literal["code", "paper"] = "code", reduction: Reduction = "mean"
) -> Tensor:
    """Regress a middle layer of the teacher (the hint) from one of the student (the guided layer).

    Variants: ``paper`` ``1/2 ||u_t - r(u_s)||**2`` per sample (Romero et al., ICLR 2015, eq. 3); ``code`` the mean over
    all elements of the squared difference.

    Args:
        student: The *regressed* features ``r(u_s)``, ``(B, ...)``; the regressor lives in the module twin.
        teacher: Features of the same shape, detached here.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.
    """
    check_choice("variant", variant, ("code", "paper"))
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2)
    squares = (student - teacher).square().flatten(1)
    return reduce_loss(squares.mean(1) if variant == "code" else 0.5 * squares.sum(1), reduction)
