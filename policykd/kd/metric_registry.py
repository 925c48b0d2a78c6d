"""The registry of metrics by which a trainer selects weights and reports, in the form of torchmetrics.

    METRICS["macro_f1"].make(5)         # a torchmetrics.Metric for five classes
    METRICS.resolve("my_lab.metrics:F2") # a record of another package

A metric sees outputs as rows ``(N, C)``, one per event, and labels without those that are ignored. Torch and
torchmetrics are loaded by ``make`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policykd.errors import ConfigError
from policykd.names import Registry


@dataclass(frozen=True)
class Metric:
    """The record of a metric.

    Attributes:
        name: Key in the registry.
        title: Full name.
        kinds: Kinds of outputs that it is for.
        higher_is_better: Whether selection takes the highest value.
        make: ``number of classes or values -> metric``, a ``torchmetrics.Metric`` or an object with the
            same ``update`` and ``compute``. It is updated with outputs ``(N, C)`` (logits or values)
            and labels ``(N,)``, or ``(N, C)`` for several labels or values.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    higher_is_better: bool
    make: Callable[[int], Any]


METRICS: Registry[Metric] = Registry("metric", Metric)
"""The metrics by name."""
DEFAULT_METRIC = {"single_label": "accuracy", "multi_label": "map", "regression": "mae"}
"""Metric of selection by kind of outputs."""


def metric_for(name: str, kind: str) -> Metric:
    """Return a metric for outputs of a kind; an empty name gives the kind's own.

    Raises:
        UnknownNameError: The metric is unknown.
        ConfigError: It is for another kind of outputs.
    """
    metric = METRICS.resolve(name or DEFAULT_METRIC[kind])
    if kind not in metric.kinds:
        fitting = ", ".join(own.name for own in METRICS.values() if kind in own.kinds)
        raise ConfigError(
            f"metric {metric.name!r} is for outputs of kind {' or '.join(metric.kinds)}; for {kind}: {fitting}"
        )
    return metric


def _torchmetrics(cls: str, **options: Any) -> Callable[[int], Any]:
    def make(classes: int) -> Any:
        from policykd.kd.running_metrics import load_torchmetrics

        classification = load_torchmetrics("classification")
        count = {"num_labels": classes} if cls.startswith("Multilabel") else {"num_classes": classes}
        return getattr(classification, cls)(**count, validate_args=False, **options)

    return make


def _own(cls: str, **options: Any) -> Callable[[int], Any]:
    def make(classes: int) -> Any:
        from policykd.kd import running_metrics

        return getattr(running_metrics, cls)(**options)

    return make


def _confusion(cls: str) -> Callable[[int], Any]:
    def make(classes: int) -> Any:
        from policykd.kd import running_metrics

        return getattr(running_metrics, cls)(classes)

    return make


ONE, SEVERAL, VALUES = ("single_label",), ("multi_label",), ("regression",)
for _metric in (
    Metric("accuracy", "Accuracy", ONE, True, _own("Accuracy")),
    Metric(
        "balanced_accuracy",
        "Balanced accuracy, or unweighted average recall",
        ONE,
        True,
        _confusion("BalancedAccuracy"),
    ),
    Metric("uar", "Unweighted average recall, or balanced accuracy", ONE, True, _confusion("BalancedAccuracy")),
    Metric("macro_f1", "F1 score, mean over classes", ONE, True, _torchmetrics("MulticlassF1Score", average="macro")),
    Metric("miou", "Intersection over union, mean over classes", ONE, True, _torchmetrics("MulticlassJaccardIndex")),
    Metric("nll", "Negative log-likelihood of the labels, nats", ONE, False, _own("NegativeLogLikelihood")),
    Metric("ece", "Expected calibration error, 15 equal-width bins", ONE, False, _own("CalibrationError")),
    Metric("brier", "Brier score, summed over classes", ONE, False, _own("Brier")),
    Metric("map", "Average precision, mean over labels", SEVERAL, True, _own("MeanAveragePrecision")),
    Metric("label_f1", "F1 score at probability 1/2, mean over labels", SEVERAL, True, _own("LabelF1")),
    Metric(
        "label_nll", "Binary cross-entropy, mean over labels, nats", SEVERAL, False, _own("LabelNegativeLogLikelihood")
    ),
    Metric("mae", "Mean absolute error", VALUES, False, _own("AbsoluteError")),
    Metric("rmse", "Root of the mean squared error", VALUES, False, _own("RootMeanSquaredError")),
):
    METRICS.register(_metric.name, _metric)
