"""Module twin of `policykd.kd.functional.cc`."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import GatheredLoss, Signal


class CC(GatheredLoss):
    """Correlation congruence; equation, options and errors as in `policykd.kd.functional.cc`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "cc"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        *,
        variant: Literal["paper", "adjacent"] = "paper",
        kernel: Literal["taylor", "rbf", "bilinear"] = "taylor",
        gamma: float = 0.4,
        order: int = 2,
        normalize: bool = True,
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)
        check_choice("variant", variant, ("paper", "adjacent"))
        check_choice("kernel", kernel, ("taylor", "rbf", "bilinear"))
        self.variant: Literal["paper", "adjacent"] = variant
        self.kernel: Literal["taylor", "rbf", "bilinear"] = kernel
        self.gamma = gamma
        self.order = order
        self.normalize = normalize

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        student, teacher = self._joined(student, teacher)
        return kf.cc(
            student,
            teacher,
            variant=self.variant,
            kernel=self.kernel,
            gamma=self.gamma,
            order=self.order,
            normalize=self.normalize,
            reduction=self.reduction,
        )
