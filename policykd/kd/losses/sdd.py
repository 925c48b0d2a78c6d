"""Module twin of `policykd.kd.functional.sdd`."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss, Signal


class SDD(KDLoss):
    """Scale-decoupled distillation; equation, options and errors as in `policykd.kd.functional.sdd`."""

    name = "sdd"
    signal: ClassVar[Signal] = "maps"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")

    def __init__(
        self,
        *,
        cells: tuple[int, ...] = (1, 2),
        base: Literal["kd", "dkd"] = "kd",
        temperature: float = 4.0,
        tckd_weight: float = 1.0,
        nckd_weight: float = 8.0,
        complementary_weight: float = 2.0,
        cell_reduction: Literal["mean", "sum"] = "mean",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("base", base, ("kd", "dkd"))
        check_choice("cell_reduction", cell_reduction, ("mean", "sum"))
        self.cells = cells
        self.base: Literal["kd", "dkd"] = base
        self.temperature = check_temperature(temperature)
        self.tckd_weight = tckd_weight
        self.nckd_weight = nckd_weight
        self.complementary_weight = complementary_weight
        self.cell_reduction: Literal["mean", "sum"] = cell_reduction

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logit maps ``(B, C, H, W)``."""
        return kf.sdd(
            student,
            teacher,
            target,
            cells=self.cells,
            base=self.base,
            temperature=self.temperature,
            tckd_weight=self.tckd_weight,
            nckd_weight=self.nckd_weight,
            complementary_weight=self.complementary_weight,
            cell_reduction=self.cell_reduction,
            reduction=self.reduction,
        )
