"""Metrics that policykd computes itself, in double precision or with its own definition, with torchmetrics' methods.

They are updated with logits or values ``(N, C)`` and labels on the CPU, batch after batch. Loading them does not load
torchmetrics, which takes longer than a short training.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from policykd.errors import MissingDependencyError
from policykd.kd.metrics import ECE_BINS


def load_torchmetrics(module: str) -> ModuleType:
    """Return a module of torchmetrics.

    Raises:
        MissingDependencyError: without torchmetrics.
    """
    try:
        return importlib.import_module(f"torchmetrics.{module}")
    except ImportError as error:
        raise MissingDependencyError(f"this metric needs the extra: pip install 'policykd[kd]' ({error})") from None


class _Mean:
    """Mean of a value per row, in double precision."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def values(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the value of every row ``(N,)``, or of every element."""
        raise NotImplementedError

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take a batch of outputs ``(N, C)`` and labels into the mean."""
        values = self.values(outputs, labels).double()
        self._total += float(values.sum())
        self._count += values.numel()

    def compute(self) -> float:
        """Return the mean; NaN without a row."""
        return self._total / self._count if self._count else float("nan")


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
    def compute(self) -> float:
        return math.sqrt(super().compute())


class CalibrationError:
    """Expected calibration error of the top class, as :func:`policykd.kd.metrics.ece` computes it.

    Args:
        bins: Number of equal-width bins.
    """

    def __init__(self, bins: int = ECE_BINS) -> None:
        self._bins, self._count = bins, 0
        self._gaps = torch.zeros(bins, dtype=torch.double)

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take a batch of logits ``(N, C)`` and labels ``(N,)`` into the bins."""
        confidence, predicted = outputs.double().softmax(1).max(1)
        edges = torch.arange(1, self._bins, dtype=torch.double) / self._bins
        correct = (predicted == labels).double()
        self._gaps.index_add_(0, torch.bucketize(confidence, edges), correct - confidence)
        self._count += len(labels)

    def compute(self) -> float:
        """Return the error."""
        return float(self._gaps.abs().sum()) / max(self._count, 1)


class BalancedAccuracy:
    """Mean recall over the classes that occur among the labels (unweighted average recall).

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        self._hits, self._present = torch.zeros(2, classes, dtype=torch.double)

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Take a batch of logits ``(N, C)`` and labels ``(N,)`` into the counts."""
        classes = len(self._present)
        self._present += torch.bincount(labels, minlength=classes)
        self._hits += torch.bincount(labels[outputs.argmax(1) == labels], minlength=classes)

    def compute(self) -> float:
        """Return the mean recall."""
        occurs = self._present > 0
        return float((self._hits[occurs] / self._present[occurs]).mean())


class _Stored:
    """Base of metrics that need all scores at once."""

    def __init__(self) -> None:
        self._outputs: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Keep a batch of logits and labels ``(N, C)``."""
        self._outputs.append(outputs)
        self._labels.append(labels)

    def _all(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self._outputs), torch.cat(self._labels)


class MeanAveragePrecision(_Stored):
    """Average precision of every label, mean over the labels that occur; NaN if none does."""

    def compute(self) -> float:
        """Return the mean."""
        binary_average_precision = load_torchmetrics("functional.classification").binary_average_precision
        outputs, labels = self._all()
        present = labels > 0.5
        found = [
            binary_average_precision(
                outputs[:, label].double().sigmoid(), present[:, label].long(), validate_args=False
            )
            for label in range(outputs.shape[1])
            if bool(present[:, label].any())
        ]
        return float(torch.stack(found).mean()) if found else float("nan")


class LabelF1(_Stored):
    """F1 score of every label at probability 1/2, mean over labels; a label that never occurs or is named counts 0."""

    def compute(self) -> float:
        """Return the mean."""
        outputs, labels = self._all()
        named, present = outputs > 0, labels > 0.5
        hits = (named & present).sum(0).double()
        return float((2 * hits / (named.sum(0) + present.sum(0)).clamp_min(1)).mean())
