"""The figures of the benchmark: heading, unit, direction and digits of each, as data.

The numbers themselves come from ``policykd.kd.metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from policykd.kd.metrics import ECE_BINS


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
        "ece": Measure("ECE, %", "lower", 100.0, 2, f"expected calibration error over {ECE_BINS} equal-width bins, %"),
        "brier": Measure("Brier", "lower", 1.0, 3, "mean squared distance of probabilities to the label, 0 to 2"),
        "nll": Measure("NLL", "lower", 1.0, 3, "mean negative log-likelihood of the labels, nats"),
        "seconds_per_epoch": Measure(
            "s / epoch", "lower", 1.0, 3, "processor time of a training epoch on one thread, s, teacher outputs cached"
        ),
    }
)
