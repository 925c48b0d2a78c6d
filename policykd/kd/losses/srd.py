"""Simple recipe distillation: normalized features under the logarithm of a sum (Miles and Mikolajczyk 2024).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Positive, check_options
from policykd.kd.shapes import prepare_embeddings


@loss_function
def srd(
    student: Tensor, teacher: Tensor, *, exponent: Positive = 4.0, eps: Positive = 1e-6, reduction: Reduction = "mean"
) -> Tensor:
    """Lower the logarithm of the summed differences, which large differences do not dominate.

    ``log(eps + sum_{i,d} |s_id - t_id|**exponent)`` over the whole batch. Miles, Mikolajczyk, AAAI 2024, as in
    the version that torchdistill credits to the authors.

    The sum is over the batch, so the loss depends on it by definition; under ``none`` every sample has the same value.
    Departure: `eps`, without which the loss has no value at the teacher.

    Args:
        student: *Projected and normalized* features ``(B, D)``; projector and normalization are part of the module.
        teacher: Normalized features ``(B, D)``, detached here.
        exponent: Power of the differences, above 0.
        eps: Added to the sum, above 0.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> srd(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))  # log(1 + 16)
        tensor(2.8332)
    """
    student, teacher = prepare_embeddings(student, teacher, same_width=True)
    total = (student - teacher).abs().pow(exponent).sum()
    return reduce_loss((eps + total).log().expand(len(student)), reduction)


class SRD(KDLoss):
    """Simple recipe distillation; equation, departures and errors: :func:`srd`.

    The student's feature goes through a trained linear map; then both features are standardized by batch normalization
    without an affine part.

    Args:
        student_dim: Width of the student's feature; with `teacher_dim` it makes the trained linear map. Leave both out
            if the widths agree.
        teacher_dim: Width of the teacher's feature.
        exponent: Power of the differences.
        eps: Added to the sum.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "srd"
    signal: ClassVar[Signal] = "features"
    batch_coupled: ClassVar[bool] = True

    def __init__(
        self,
        student_dim: int | None = None,
        teacher_dim: int | None = None,
        *,
        exponent: float = 4.0,
        eps: float = 1e-6,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(srd, {"exponent": exponent, "eps": eps})
        if (student_dim is None) != (teacher_dim is None):
            raise ConfigError("give both student_dim and teacher_dim, or neither")
        self.exponent, self.eps = exponent, eps
        self.projector: nn.Module = nn.Identity()
        if student_dim is not None and teacher_dim is not None:
            self.projector = nn.Linear(student_dim, teacher_dim, bias=False)

    @staticmethod
    def standardize(features: Tensor) -> Tensor:
        """Return features ``(B, D)`` with mean 0 and variance 1 over the batch; one sample becomes 0."""
        centered = features - features.mean(0)
        return centered / torch.sqrt(centered.square().mean(0) + 1e-5)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, D_s)`` and ``(B, D_t)``."""
        student, teacher = prepare_embeddings(student, teacher)
        own, other = self.standardize(self.projector(student)), self.standardize(teacher)
        return srd(own, other, exponent=self.exponent, eps=self.eps, reduction=self.reduction)
