"""FitNets hints (Romero et al. 2015).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import HintRegressor
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_options


@loss_function
def fitnet(
    student: Tensor, teacher: Tensor, *, variant: Literal["code", "paper"] = "code", reduction: Reduction = "mean"
) -> Tensor:
    """Regress a middle layer of the teacher (the hint) from one of the student (the guided layer).

    Variants: ``paper`` ``1/2 ||u_t - r(u_s)||**2`` per sample (Romero et al., ICLR 2015, eq. 3); ``code`` the mean over
    all elements of the squared difference.

    Args:
        student: The *regressed* features ``r(u_s)``, ``(B, ...)``; the regressor is part of the module.
        teacher: Features of the same shape, detached here.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> fitnet(student, teacher), fitnet(student, teacher, variant="paper")
        (tensor(0.2500), tensor(0.5000))
    """
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2)
    squares = (student - teacher).square().flatten(1)
    return reduce_loss(squares.mean(1) if variant == "code" else 0.5 * squares.sum(1), reduction)


class FitNet(KDLoss):
    """FitNets hints; equation, variants and errors: :func:`fitnet`.

    Args:
        student_shape: ``(C, H, W)`` or ``(C, L)`` of the student's level; together with `teacher_shape` it makes the
            trained regressor. Leave both out if the shapes agree or a projector was applied before.
        teacher_shape: ``(C, H, W)`` or ``(C, L)`` of the teacher's level.
        variant: ``code`` or ``paper``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "fitnet"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_shape: tuple[int, ...] | None = None,
        teacher_shape: tuple[int, ...] | None = None,
        *,
        variant: Literal["code", "paper"] = "code",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(fitnet, {"variant": variant})
        if (student_shape is None) != (teacher_shape is None):
            raise ConfigError("give both student_shape and teacher_shape, or neither")
        self.variant: Literal["code", "paper"] = variant
        self.regressor: nn.Module = nn.Identity()
        if student_shape is not None and teacher_shape is not None:
            self.regressor = HintRegressor(student_shape, teacher_shape)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        return fitnet(self.regressor(student), teacher, variant=self.variant, reduction=self.reduction)
