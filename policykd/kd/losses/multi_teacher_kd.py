"""Several teachers, weighted for every sample by how well each of them knows its label (CA-MKD, Zhang et al. 2022).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from policykd.divergences import categorical_kl, check_temperature, prepare_tensor
from policykd.kd.losses._base import KDLoss
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Temperature
from policykd.kd.shapes import check_labels, check_logits

Weighting = Callable[[Tensor, Tensor], Tensor]
"""``(logits of teachers (K, B, C), labels (B,)) -> weights (K, B)``."""


def confidence_weights(cross_entropies: Tensor) -> Tensor:
    """Return the weights of K teachers from their cross-entropies ``(K, B)``: the surer of the label, the more.

    ``w_k = (1 - exp(CE_k) / sum_j exp(CE_j)) / (K - 1)``, each in [0, 1 / (K - 1)], with the sum one over the teachers;
    a single teacher gets weight one, where the formula divides by zero.
    """
    count = len(cross_entropies)
    if count == 1:
        return torch.ones_like(cross_entropies)
    return (1 - cross_entropies.softmax(0)) / (count - 1)


def label_confidence(teachers: Tensor, target: Tensor) -> Tensor:
    """Return the weights of CA-MKD ``(K, B)`` from the teachers' logits ``(K, B, C)`` and labels ``(B,)``."""
    check_labels(teachers[0], target)
    rows = target.expand(len(teachers), -1)
    return confidence_weights(F.cross_entropy(teachers.transpose(1, 2), rows, reduction="none"))


def equal_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """Return the weights ``1 / K`` of shape ``(K, B)``, which average the teachers."""
    return teachers.new_full(teachers.shape[:2], 1.0 / len(teachers))


def entropy_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """Return the weights of EBKD ``(K, B)``, from the entropies of the teachers' predictions, right or wrong.

    ``(1 - H_k / sum_j H_j) / (K - 1)``. The code of CA-MKD leaves out the ``K - 1``, so that its weights sum to it.
    """
    log_p = teachers.log_softmax(-1)
    entropies = -(log_p.exp() * log_p).sum(-1)
    if len(teachers) == 1:
        return torch.ones_like(entropies)
    total = entropies.sum(0).clamp_min(torch.finfo(entropies.dtype).tiny)
    return (1 - entropies / total) / (len(teachers) - 1)


@loss_function
def multi_teacher_kd(
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    *,
    temperature: Temperature = 4.0,
    reference_scale: bool = False,
) -> Tensor:
    """Match several teachers' softened class distributions, each with a weight per sample.

    ``mean_i sum_k w_ki T**2 KL(teacher k || student)``. Zhang, Chen, Wang, Confidence-Aware Multi-Teacher Knowledge
    Distillation, ICASSP 2022, arXiv 2201.00007, with the weights of :func:`label_confidence`.

    Departure: the released code divides by K once more (`reference_scale`).

    Args:
        student: Logits ``(B, C)``.
        teachers: Logits ``(K, B, C)``, detached here.
        weights: ``(K, B)``.
        temperature: T > 0.
        reference_scale: Divide by K once more, as the released code does.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or the temperature is not above 0.

    Example:
        >>> student = torch.tensor([[1.0, 0.0, 0.0]])
        >>> teachers = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]], [[0.5, 0.5, 0.5]]])
        >>> multi_teacher_kd(student, teachers, label_confidence(teachers, torch.tensor([0])))
        tensor(0.2304)
    """
    check_logits(student)
    if teachers.dim() != 3 or teachers.shape[1:] != student.shape or weights.shape != teachers.shape[:2]:
        raise ValueError(
            f"teachers must be (K, {', '.join(map(str, student.shape))}) with weights (K, {len(student)}), "
            f"got {tuple(teachers.shape)} and {tuple(weights.shape)}"
        )
    values = categorical_kl(student.expand_as(teachers), teachers, temperature=temperature, reduction="none")
    total = (weights * values).sum(0).mean()
    return total / len(teachers) if reference_scale else total


class MultiTeacherKD(KDLoss):
    """The divergence from several teachers in an objective: ``Term(MultiTeacherKD()).combined("stack")``.

    Args:
        weighting: How teachers are weighted: :func:`label_confidence`, :func:`entropy_weights`, :func:`equal_weights`.
        temperature: T > 0.
        reference_scale: Divide by K once more.
    """

    name = "multi_teacher_kd"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")

    def __init__(
        self,
        weighting: Weighting = label_confidence,
        *,
        temperature: float = 4.0,
        reference_scale: bool = False,
    ) -> None:
        super().__init__()
        self.weighting, self.reference_scale = weighting, reference_scale
        self.temperature = check_temperature(temperature)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and teachers' logits ``(K, B, C)``."""
        teachers = prepare_tensor("teacher logits", teacher, min_dim=3).detach()
        weights = self.weighting(teachers, target)
        return multi_teacher_kd(
            student, teachers, weights, temperature=self.temperature, reference_scale=self.reference_scale
        )


class ConfidenceFeatures(nn.Module):
    """The feature term of CA-MKD: the student's map against every teacher's, weighted by what the teachers' heads see.

    ``L = mean_i sum_k w'_ki mean (F_k - r_k(F_s))**2`` with adapters ``r_k`` (resize, convolution of size 1, batch
    normalization, ReLU) and ``w'`` from the cross-entropies of ``head_k(r_k(F_s))``. Train its parameters along with
    the student's; the heads stay as they are.

    Departures: each adapter starts from the student's own map, in the released code from the map that the adapter
    before it left behind; weights carry no gradient unless it is asked for.

    Args:
        student_channels: Channels of the student's map.
        teacher_shapes: Shape ``(C, H, W)`` of every teacher's map.
        heads: Pooling and classifier of each teacher, in eval mode: maps of a teacher to logits ``(B, classes)``.
        detach_weights: Let no gradient through the weights.
        reference_scale: Divide by K once more.

    Raises:
        ValueError: There is not one head per teacher.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_shapes: Sequence[tuple[int, int, int]],
        heads: Sequence[nn.Module],
        *,
        detach_weights: bool = True,
        reference_scale: bool = False,
    ) -> None:
        super().__init__()
        if not heads or len(teacher_shapes) != len(heads):
            raise ValueError(f"every teacher needs a shape and a head, got {len(teacher_shapes)} and {len(heads)}")
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(student_channels, shape[0], 1, bias=False), nn.BatchNorm2d(shape[0]), nn.ReLU())
            for shape in teacher_shapes
        )
        self._sizes = [shape[1:] for shape in teacher_shapes]
        self._heads = tuple(heads)  # not registered: they belong to the teachers and must not be trained
        self.detach_weights, self.reference_scale = detach_weights, reference_scale

    def adapted(self, student: Tensor) -> list[Tensor]:
        """Return the student's map ``(B, C, H, W)`` in the shape of every teacher's."""
        sizes = zip(self.adapters, self._sizes, strict=True)
        return [adapter(_resized(student, size)) for adapter, size in sizes]

    def weights(self, adapted: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the teachers' weights ``(K, B)`` for adapted maps and labels ``(B,)``."""
        logits = [
            functional_call(head, {name: p.detach() for name, p in head.named_parameters()}, (feature,))
            for head, feature in zip(self._heads, adapted, strict=True)
        ]
        weights = label_confidence(torch.stack(logits), target)
        return weights.detach() if self.detach_weights else weights

    def forward(self, student: Tensor, teachers: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the term for a student's map, one map per teacher and labels ``(B,)``."""
        adapted = self.adapted(student)
        distances = torch.stack(
            [(own - other.detach()).square().flatten(1).mean(1) for own, other in zip(adapted, teachers, strict=True)]
        )
        total = (self.weights(adapted, target) * distances).sum(0).mean()
        return total / len(distances) if self.reference_scale else total


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pooled to a smaller size, interpolated to a larger one."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
