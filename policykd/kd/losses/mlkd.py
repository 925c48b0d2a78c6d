"""Module twin of `policykd.kd.functional.mlkd`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.mlkd import check_temperatures
from policykd.kd.losses.base import GatheredLoss


class MLKD(GatheredLoss):
    """Multi-level logit distillation; equation, options and errors as in `policykd.kd.functional.mlkd`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "mlkd"

    def __init__(
        self,
        *,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
        scale_t2: bool = True,
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)
        self.temperatures = check_temperatures(temperatures)
        self.instance_weight = instance_weight
        self.batch_weight = batch_weight
        self.class_weight = class_weight
        self.scale_t2 = scale_t2

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        student, teacher = self._joined(student, teacher)
        return kf.mlkd(
            student,
            teacher,
            temperatures=self.temperatures,
            instance_weight=self.instance_weight,
            batch_weight=self.batch_weight,
            class_weight=self.class_weight,
            scale_t2=self.scale_t2,
            reduction=self.reduction,
        )
