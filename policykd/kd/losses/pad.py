"""Prime-aware adaptive distillation: uncertain samples count less (Zhang et al. 2020).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Positive, check_options
from policykd.kd.shapes import prepare_embeddings


@loss_function
def pad(
    student: Tensor, teacher: Tensor, log_variance: Tensor, *, eps: Positive = 1e-6, reduction: Reduction = "mean"
) -> Tensor:
    """Divide the squared error by a variance that is predicted for every sample.

    ``mean_d [(t_d - s_d)**2 / (eps + exp(v_d)) + v_d]``, v the predicted logarithm of the variance: samples that the
    student cannot follow get a large one and a small gradient. Zhang et al., ECCV 2020, as in torchdistill.

    Args:
        student: Features ``(B, D)``; the map to the teacher's width is part of the module.
        teacher: Features ``(B, D)``, detached here.
        log_variance: v, ``(B, D)``, with a gradient.
        eps: Smallest variance, above 0.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]])
        >>> pad(student, teacher, torch.zeros(1, 2))
        tensor(2.5000)
    """
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2)
    log_variance = prepare_tensor("log_variance", log_variance).to(student.dtype)
    if log_variance.shape != student.shape:
        raise ValueError(
            f"log_variance must be {tuple(student.shape)} like the features, got {tuple(log_variance.shape)}"
        )
    values = (teacher - student).square() / (eps + log_variance.exp()) + log_variance
    return reduce_loss(values.flatten(1).mean(1), reduction)


class PAD(KDLoss):
    """Prime-aware adaptive distillation; equation and errors: :func:`pad`.

    Linear maps of the student's feature predict the teacher's feature and the logarithm of the variance.

    Departure: the variance's map starts at 0 (variance one everywhere), so that training starts as a plain regression;
    the paper trains without the variance first.

    Args:
        student_dim: Width of the student's feature.
        teacher_dim: Width of the teacher's feature.
        eps: Smallest variance.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "pad"
    signal: ClassVar[Signal] = "features"

    def __init__(self, student_dim: int, teacher_dim: int, *, eps: float = 1e-6, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        check_options(pad, {"eps": eps})
        self.eps = eps
        self.projector = nn.Linear(student_dim, teacher_dim)
        self.variance = nn.Linear(student_dim, teacher_dim)
        nn.init.zeros_(self.variance.weight)
        nn.init.zeros_(self.variance.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, D_s)`` and ``(B, D_t)``."""
        student, teacher = prepare_embeddings(student, teacher)
        return pad(self.projector(student), teacher, self.variance(student), eps=self.eps, reduction=self.reduction)
