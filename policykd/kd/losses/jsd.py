"""Module twin of `policykd.kd.functional.jsd`."""

from __future__ import annotations

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss


class JSD(KDLoss):
    """Generalized Jensen-Shannon divergence; equation, options and errors as in `policykd.kd.functional.jsd`."""

    name = "jsd"

    def __init__(
        self,
        *,
        beta: float = 0.5,
        temperature: float = 1.0,
        scale_t2: bool = True,
        normalize: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2
        self.normalize = normalize

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        return kf.jsd(
            student,
            teacher,
            beta=self.beta,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            normalize=self.normalize,
            reduction=self.reduction,
        )
