"""Several teachers, weighted for every sample by how well each of them knows its label.

Zhang, Chen and Wang, Confidence-Aware Multi-Teacher Knowledge Distillation (ICASSP 2022, arXiv 2201.00007). With the
cross-entropies ``CE_k`` of K teachers on a sample the weights are
``w_k = (1 - exp(CE_k) / sum_j exp(CE_j)) / (K - 1)``; they sum to one and none exceeds ``1 / (K - 1)``. They weight the
divergences to the teachers, and in the same form, computed from the student's adapted features seen through each
teacher's own classifier, the distances between features.

Departures: the released code divides both terms by K once more (``reference_scale``); here each teacher's adapter
starts from the student's own map (there from the output of the adapter before it); feature weights carry no gradient
by default; a single teacher gets weight one, where the formula divides by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from policykd.divergences import categorical_kl, check_temperature, full_precision, prepare_tensor
from policykd.kd.losses import KDLoss
from policykd.kd.shapes import check_labels

Weighting = Callable[[Tensor, Tensor], Tensor]
"""``(teachers' logits (K, B, C), labels (B,)) -> weights (K, B)``."""


def confidence_weights(cross_entropies: Tensor) -> Tensor:
    """Return weights of K teachers from their cross-entropies ``(K, B)``: more for those that are sure of the label.

    Returns:
        ``(K, B)``, each in [0, 1 / (K - 1)], summing to one over the teachers; one where K = 1.
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
    """Return the weights of a plain average, ``1 / K`` of shape ``(K, B)``."""
    return teachers.new_full(teachers.shape[:2], 1.0 / len(teachers))


def entropy_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """Return the weights of EBKD ``(K, B)``: more for teachers that are sure, whether right or wrong.

    ``(1 - H_k / sum_j H_j) / (K - 1)`` with the entropies ``H_k`` of the teachers' predictions. The code of CA-MKD
    leaves out the ``K - 1``, so that its weights sum to it.
    """
    log_p = teachers.log_softmax(-1)
    entropies = -(log_p.exp() * log_p).sum(-1)
    if len(teachers) == 1:
        return torch.ones_like(entropies)
    total = entropies.sum(0).clamp_min(torch.finfo(entropies.dtype).tiny)
    return (1 - entropies / total) / (len(teachers) - 1)


@full_precision
def multi_teacher_kd(
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    *,
    temperature: float = 4.0,
    reference_scale: bool = False,
) -> Tensor:
    """Return ``mean_i sum_k w_ki T**2 KL(teacher k || student)``, the distillation term of CA-MKD.

    Args:
        student: Logits ``(B, C)``.
        teachers: Logits ``(K, B, C)``, detached here.
        weights: ``(K, B)``.
        temperature: T > 0.
        reference_scale: Divide by K once more, as the released code does.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or the temperature is not above 0.
    """
    if teachers.dim() != 3 or teachers.shape[1:] != student.shape or weights.shape != teachers.shape[:2]:
        raise ValueError(
            f"teachers must be (K, {', '.join(map(str, student.shape))}) with weights (K, {len(student)}), "
            f"got {tuple(teachers.shape)} and {tuple(weights.shape)}"
        )
    values = categorical_kl(student.expand_as(teachers), teachers, temperature=temperature, reduction="none")
    total = (weights * values).sum(0).mean()
    return total / len(teachers) if reference_scale else total


class MultiTeacherKD(KDLoss):
    """The distillation term as a loss for an objective: ``Term(MultiTeacherKD()).combined("stack")``.

    Args:
        weighting: Weights of the teachers: :func:`label_confidence`, :func:`entropy_weights`, :func:`equal_weights`.
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
    """The feature term: the student's last map against every teacher's, weighted by their heads' confidence on it.

    ``L = mean_i sum_k w'_ki mean (F_k - r_k(F_s))**2`` with adapters ``r_k`` (resize, convolution of size 1, batch
    normalization, ReLU) and ``w'`` from the cross-entropies of ``head_k(r_k(F_s))``. Train its parameters along with
    the student's; the heads stay as they are.

    Args:
        student_channels: Channels of the student's map.
        teacher_shapes: Shape ``(C, H, W)`` of every teacher's map.
        heads: Pooling and classifier of each teacher in eval mode: a feature map to logits ``(B, C)``.
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
    """Return maps average-pooled to a smaller size or interpolated to a larger one."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
