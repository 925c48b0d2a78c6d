"""Several teachers, weighted for every sample by how well each of them knows its label.

Zhang, Chen and Wang, Confidence-Aware Multi-Teacher Knowledge Distillation (ICASSP 2022, arXiv 2201.00007). With the
cross-entropies ``CE_k`` of K teachers on a sample the weights are
``w_k = (1 - exp(CE_k) / sum_j exp(CE_j)) / (K - 1)``; they sum to one and none exceeds ``1 / (K - 1)``. They weight the
divergences to the teachers, and in the same form, computed from the student's adapted features seen through each
teacher's own classifier, the distances between features.

Departures: the released code divides both terms by K once more (``reference_scale``); here each teacher's adapter
starts from the student's own map (there from the map that the adapter before it left behind); feature weights carry no
gradient unless it is asked for; a single teacher gets weight one, where the formula divides by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from policykd.divergences import categorical_kl, check_temperature, full_precision, prepare_tensor
from policykd.errors import check_range
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, some
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.losses import KDLoss
from policykd.kd.metrics import accuracy, nll
from policykd.kd.networks import MLP
from policykd.kd.shapes import check_labels
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import ADAM, Loss, minimize, seeded, train_classifier
from policykd.seeding import integer_seed

Weighting = Callable[[Tensor, Tensor], Tensor]  # (teachers (K, B, C), labels (B,)) -> weights (K, B)


def confidence_weights(cross_entropies: Tensor) -> Tensor:
    """Weights of K teachers from their cross-entropies ``(K, B)`` on the labels: the surer of the label, the more.

    Returns:
        ``(K, B)``, each in [0, 1 / (K - 1)], summing to one over the teachers; one where K = 1.
    """
    count = len(cross_entropies)
    if count == 1:
        return torch.ones_like(cross_entropies)
    return (1 - cross_entropies.softmax(0)) / (count - 1)


def label_confidence(teachers: Tensor, target: Tensor) -> Tensor:
    """The weights of CA-MKD ``(K, B)`` from the teachers' logits ``(K, B, C)`` and labels ``(B,)``."""
    check_labels(teachers[0], target)
    rows = target.expand(len(teachers), -1)
    return confidence_weights(F.cross_entropy(teachers.transpose(1, 2), rows, reduction="none"))


def equal_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """The average of the teachers: weights ``1 / K`` of shape ``(K, B)``."""
    return teachers.new_full(teachers.shape[:2], 1.0 / len(teachers))


def entropy_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """The weights of EBKD ``(K, B)``, from the entropies of the teachers' predictions: sure teachers, right or wrong.

    ``(1 - H_k / sum_j H_j) / (K - 1)``. The code of CA-MKD leaves out the ``K - 1``, so that its weights sum to it.
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
    """``mean_i sum_k w_ki T**2 KL(teacher k || student)``, the distillation term of CA-MKD.

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
    """The feature term: the student's last map against every teacher's, weighted by what the teachers' heads see in it.

    ``L = mean_i sum_k w'_ki mean (F_k - r_k(F_s))**2`` with adapters ``r_k`` (resize, convolution of size 1, batch
    normalization, ReLU) and ``w'`` from the cross-entropies of ``head_k(r_k(F_s))``. Train its parameters along with
    the student's; the heads stay as they are.

    Args:
        student_channels: Channels of the student's map.
        teacher_shapes: Shape ``(C, H, W)`` of every teacher's map.
        heads: What makes logits ``(B, classes)`` from a map of each teacher: its pooling and classifier, in eval mode.
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
        """The student's map ``(B, C, H, W)`` in the shape of every teacher's."""
        sizes = zip(self.adapters, self._sizes, strict=True)
        return [adapter(_resized(student, size)) for adapter, size in sizes]

    def weights(self, adapted: Sequence[Tensor], target: Tensor) -> Tensor:
        """The teachers' weights ``(K, B)`` for adapted maps and labels ``(B,)``."""
        logits = [
            functional_call(head, {name: p.detach() for name, p in head.named_parameters()}, (feature,))
            for head, feature in zip(self._heads, adapted, strict=True)
        ]
        weights = label_confidence(torch.stack(logits), target)
        return weights.detach() if self.detach_weights else weights

    def forward(self, student: Tensor, teachers: Sequence[Tensor], target: Tensor) -> Tensor:
        """The term for a student's map, one map per teacher and labels ``(B,)``."""
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


@dataclass(frozen=True)
class CAMKDConfig:
    """The experiment on the digits: one good teacher and two that are sure and wrong on half of the classes.

    Attributes:
        teacher_hidden: Widths of the teachers.
        teacher_epochs: Their epochs.
        student_hidden: Widths of the students.
        student_samples: Training samples of the students.
        student_epochs: Their epochs.
        temperature: T.
        ce_weight: Weight of the labels' cross-entropy, gamma in the paper.
        kd_weight: Weight of the teachers' term, alpha in the paper.
        batch_size: Samples per step.
        lr: Learning rate of Adam.
    """

    teacher_hidden: tuple[int, ...] = (64,)
    teacher_epochs: int = 40
    student_hidden: tuple[int, ...] = (24,)
    student_samples: int = 300
    student_epochs: int = 100
    temperature: float = 4.0
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    batch_size: int = 64
    lr: float = 5e-3

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("ce_weight", self.ce_weight, 0.0, 1e6)
        check_range("kd_weight", self.kd_weight, 0.0, 1e6)

    def training(self, epochs: int, seed: int, *key: str | int) -> TrainConfig:
        """A training of so many epochs; networks with the same key see the same batches."""
        order = integer_seed(seed, "order", *key)
        return TrainConfig(epochs, self.batch_size, seed=order, optimizer=replace(ADAM, lr=self.lr))


_HALF = CLASSES // 2
_WEIGHTINGS: dict[str, Weighting] = {
    "average": equal_weights,
    "entropy": entropy_weights,
    "CA-MKD": label_confidence,
}


def shifted(labels: Tensor, first: int, count: int) -> Tensor:
    """Labels in which the classes ``first`` to ``first + count - 1`` are cyclically renamed."""
    inside = (labels >= first) & (labels < first + count)
    return torch.where(inside, first + (labels - first + 1) % count, labels)


def run(seed: int, config: CAMKDConfig) -> Cell:
    """One cell: three teachers, and a student under each weighting."""
    train, test = digits_rows(seed, (0.5, 0.5))
    labels = [train.y, shifted(train.y, _HALF, _HALF), shifted(train.y, 0, _HALF)]
    teachers = [_teacher(seed, config, Split(train.x, y), number) for number, y in enumerate(labels)]
    subset = some(train, config.student_samples, seed)
    taught = torch.stack([predict(teacher, subset)[0] for teacher in teachers])
    cell = {f"teacher {number + 1}": {"accuracy": accuracy(*predict(net, test))} for number, net in enumerate(teachers)}
    for arm, weighting in _WEIGHTINGS.items():
        weights = weighting(taught, subset.y)
        logits, targets = predict(_student(seed, config, subset, taught, weights), test)
        cell[arm] = {
            "accuracy": accuracy(logits, targets),
            "nll": nll(logits, targets),
            "wrong_class_weight": float(weights[2, subset.y < _HALF].mean()),
        }
    return cell


def _teacher(seed: int, config: CAMKDConfig, data: Split, number: int) -> nn.Module:
    network = seeded(lambda: MLP((PIXELS,), config.teacher_hidden), seed, "teacher", number)
    return train_classifier(network, data, config.training(config.teacher_epochs, seed, "teacher", number))


def _student(seed: int, config: CAMKDConfig, data: Split, taught: Tensor, weights: Tensor) -> nn.Module:
    network = seeded(lambda: MLP((PIXELS,), config.student_hidden), seed, "student")
    loss = _weighted(network, taught, weights, config)
    minimize(loss, network, data, config.training(config.student_epochs, seed, "student"))
    return network


def _weighted(student: nn.Module, taught: Tensor, weights: Tensor, config: CAMKDConfig) -> Loss:
    """Cross-entropy and the teachers' term, with teachers and weights looked up by sample index."""

    def loss(batch: Batch, epoch: int) -> Tensor:
        logits = student(batch.x)
        rows = batch.index
        soft = multi_teacher_kd(logits, taught[:, rows], weights[:, rows], temperature=config.temperature)
        return config.ce_weight * F.cross_entropy(logits, batch.targets) + config.kd_weight * soft

    return loss


EXPERIMENT = Experiment(
    name="ca_mkd",
    title="Confidence-aware multi-teacher distillation",
    paper="Zhang, Chen, Wang, ICASSP 2022, arXiv 2201.00007",
    claim="Weighting teachers by their confidence in the label protects the student from sure and wrong teachers.",
    config=CAMKDConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="CA-MKD",
            baseline="average",
            better="higher",
            gate=0.03,
            text="accuracy above the average of the teachers by 3 points",
        ),
        Comparison(
            "accuracy",
            student="CA-MKD",
            baseline="entropy",
            better="higher",
            gate=0.03,
            text="accuracy above entropy weights by 3 points",
        ),
        Comparison(
            "wrong_class_weight",
            student="CA-MKD",
            better="lower",
            gate=0.05,
            text="weight of the third teacher on the classes that it has wrong",
        ),
        Comparison(
            "nll",
            student="CA-MKD",
            baseline="average",
            better="lower",
            required=False,
            text="negative log-likelihood against the average",
        ),
    ),
    notes=(
        "The gain needs teachers that are sure and wrong; with a teacher that is merely noisy the weightings tie.",
        "The feature term is not part of this experiment.",
    ),
)
