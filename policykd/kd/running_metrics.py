"""Metrics in torchmetrics' form that policykd computes itself: in double precision, or with its own definition.

They are updated with logits or values ``(N, C)`` and labels, batch after batch, and hold sums only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.functional.classification import binary_average_precision
from typing_extensions import override

from policykd.kd.metrics import ECE_BINS


class _Mean(Metric):
    """Mean of a value per row, in double precision."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the value of every row ``(N,)``, or of every element."""
        raise NotImplementedError

    @override
    def update(self, outputs: Tensor, labels: Tensor) -> None:
        values = self.values(outputs, labels).double()
        self.total += values.sum()
        self.count += values.numel()

    @override
    def compute(self) -> Tensor:
        return self.total / self.count


class Accuracy(_Mean):
    """Share of rows whose largest logit is the label's."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.argmax(1) == labels


class NegativeLogLikelihood(_Mean):
    """Mean negative log-likelihood of the labels, nats."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs.double(), labels, reduction="none")


class Brier(_Mean):
    """Mean squared distance between probabilities and one-hot labels, summed over classes: in [0, 2]."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        p = outputs.double().softmax(1)
        return (p - F.one_hot(labels, p.shape[1])).square().sum(1)


class LabelNegativeLogLikelihood(_Mean):
    """Mean binary cross-entropy over rows and labels, nats."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.double(), labels.double(), reduction="none")


class AbsoluteError(_Mean):
    """Mean absolute error; of means and log standard deviations only the means count."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, : labels.shape[1]].double() - labels.double()).abs()


class RootMeanSquaredError(_Mean):
    """Root of the mean squared error; of means and log standard deviations only the means count."""

    @override
    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, : labels.shape[1]].double() - labels.double()).square()

    @override
    def compute(self) -> Tensor:
        return super().compute().sqrt()


class CalibrationError(Metric):
    """Expected calibration error of the top class, as :func:`policykd.kd.metrics.ece` computes it."""

    full_state_update = False
    gaps: Tensor
    count: Tensor

    def __init__(self, bins: int = ECE_BINS) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("gaps", torch.zeros(bins, dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @override
    def update(self, outputs: Tensor, labels: Tensor) -> None:
        confidence, predicted = outputs.double().softmax(1).max(1)
        edges = torch.arange(1, self.bins, dtype=torch.double, device=outputs.device) / self.bins
        correct = (predicted == labels).double()
        self.gaps.index_add_(0, torch.bucketize(confidence, edges), correct - confidence)
        self.count += len(labels)

    @override
    def compute(self) -> Tensor:
        return self.gaps.abs().sum() / self.count


class BalancedAccuracy(MulticlassConfusionMatrix):
    """Mean recall over the classes that occur among the labels (unweighted average recall)."""

    @override
    def compute(self) -> Tensor:
        matrix = super().compute().double()
        present = matrix.sum(1)
        return (matrix.diagonal() / present.clamp_min(1))[present > 0].mean()


class _Stored(Metric):
    """Base of metrics that need all scores at once."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("outputs", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    @override
    def update(self, outputs: Tensor, labels: Tensor) -> None:
        self.outputs.append(outputs)  # type: ignore[operator, union-attr]
        self.labels.append(labels)  # type: ignore[operator, union-attr]

    def _all(self) -> tuple[Tensor, Tensor]:
        parts: Any = (self.outputs, self.labels)
        outputs, labels = (part if isinstance(part, Tensor) else torch.cat(part) for part in parts)
        return outputs, labels


class MeanAveragePrecision(_Stored):
    """Average precision of every label, mean over the labels that occur; NaN if none does."""

    @override
    def compute(self) -> Tensor:
        outputs, labels = self._all()
        present = labels > 0.5
        found = [
            binary_average_precision(
                outputs[:, label].double().sigmoid(), present[:, label].long(), validate_args=False
            )
            for label in range(outputs.shape[1])
            if bool(present[:, label].any())
        ]
        return torch.stack(found).mean() if found else torch.tensor(float("nan"))


class LabelF1(_Stored):
    """F1 score of every label at probability 1/2, mean over labels; a label that never occurs or is named counts 0."""

    @override
    def compute(self) -> Tensor:
        outputs, labels = self._all()
        named, present = outputs > 0, labels > 0.5
        hits = (named & present).sum(0).double()
        return (2 * hits / (named.sum(0) + present.sum(0)).clamp_min(1)).mean()
