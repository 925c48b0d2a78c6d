"""What the benchmark measures on data that no method was trained or chosen on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from policykd.kd.metrics import accuracy, agreement, brier, kl, nll

BINS = 15
"""Equal-width bins of the calibration error."""


@dataclass(frozen=True)
class Measure:
    """A figure.

    Attributes:
        label: Heading.
        better: Which direction is better.
        scale: What it is multiplied by when shown.
        digits: Digits behind the point when shown.
        text: What it is, with its unit.
    """

    label: str
    better: Literal["higher", "lower"]
    scale: float
    digits: int
    text: str


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "accuracy": Measure("accuracy, %", "higher", 100.0, 2, "test samples whose class is recognized, %"),
        "agreement": Measure(
            "agreement, %", "higher", 100.0, 2, "test samples on which student and teacher name the same class, %"
        ),
        "kl": Measure("KL", "lower", 1.0, 3, "mean KL(teacher || student) at temperature 1, nats"),
        "ece": Measure("ECE, %", "lower", 100.0, 2, f"expected calibration error over {BINS} equal-width bins, %"),
        "brier": Measure("Brier", "lower", 1.0, 3, "mean squared distance of probabilities to the label, 0 to 2"),
        "nll": Measure("NLL", "lower", 1.0, 3, "mean negative log-likelihood of the labels, nats"),
        "seconds_per_epoch": Measure(
            "s / epoch", "lower", 1.0, 3, "processor time of a training epoch on one thread, s, teacher outputs cached"
        ),
    }
)


def figures(logits: Tensor, labels: Tensor, taught: Tensor | None = None) -> dict[str, float]:
    """Accuracy, calibration and, beside a teacher, fidelity.

    Args:
        logits: A network's logits ``(N, C)``.
        labels: ``(N,)``.
        taught: The teacher's logits ``(N, C)``; adds ``agreement`` and ``kl``.
    """
    found = {
        "accuracy": accuracy(logits, labels),
        "ece": calibration(logits, labels),
        "brier": brier(logits, labels),
        "nll": nll(logits, labels),
    }
    return found if taught is None else {**found, "agreement": agreement(logits, taught), "kl": kl(logits, taught)}


def calibration(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error of the top class (torchmetrics, L1 norm, :data:`BINS` bins)."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities = logits.double().softmax(1)
    return float(multiclass_calibration_error(probabilities, labels, num_classes=logits.shape[1], n_bins=BINS))
