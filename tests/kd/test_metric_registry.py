"""Metrics of the registry against scikit-learn and against literal definitions, in several updates."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd import metrics as figures
from policykd.kd.metric_registry import DEFAULT_METRIC, METRICS, Metric, metric_for

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(60, 4, generator=GENERATOR)
LABELS = torch.randint(0, 3, (60,), generator=GENERATOR)  # the fourth class never occurs, but is named
TAGS = (torch.rand(60, 4, generator=GENERATOR) < 0.4).float()
VALUES = torch.randn(60, 4, generator=GENERATOR)
NAMED = LOGITS.argmax(1).numpy()


def jaccard():
    both = [np.sum((c == NAMED) & (LABELS.numpy() == c)) for c in range(4)]
    either = [np.sum((c == NAMED) | (LABELS.numpy() == c)) for c in range(4)]
    return np.mean([b / e for b, e in zip(both, either, strict=True) if e])


EXPECTED = {
    "accuracy": lambda: oracle.accuracy_score(LABELS, NAMED),
    "balanced_accuracy": lambda: oracle.recall_score(LABELS, NAMED, average="macro", labels=[0, 1, 2]),
    "uar": lambda: oracle.recall_score(LABELS, NAMED, average="macro", labels=[0, 1, 2]),
    "macro_f1": lambda: oracle.f1_score(LABELS, NAMED, average="macro"),
    "miou": jaccard,
    "nll": lambda: oracle.log_loss(LABELS, LOGITS.double().softmax(1), labels=[0, 1, 2, 3]),
    "ece": lambda: figures.ece(LOGITS, LABELS),
    "brier": lambda: figures.brier(LOGITS, LABELS),
    "map": lambda: oracle.average_precision_score(TAGS, LOGITS, average="macro"),
    "label_f1": lambda: oracle.f1_score(TAGS, LOGITS > 0, average="macro"),
    "label_nll": lambda: np.mean([oracle.log_loss(TAGS[:, c], LOGITS[:, c].double().sigmoid()) for c in range(4)]),
    "mae": lambda: oracle.mean_absolute_error(VALUES, LOGITS),
    "rmse": lambda: np.sqrt(oracle.mean_squared_error(VALUES.double(), LOGITS.double())),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_in_three_updates_is_that_of_all_rows(name):
    metric = METRICS[name]
    labels = {"single_label": LABELS, "multi_label": TAGS, "regression": VALUES}[metric.kinds[0]]
    running = metric.make(4)
    for rows in (slice(0, 10), slice(10, 11), slice(11, 60)):
        running.update(LOGITS[rows], labels[rows])
    assert float(running.compute()) == pytest.approx(EXPECTED[name](), rel=1e-6)


def test_spreads_of_gaussians_do_not_count():
    running = METRICS["mae"].make(8)
    running.update(torch.cat([LOGITS, VALUES], 1), VALUES)
    assert float(running.compute()) == pytest.approx(float((LOGITS - VALUES).abs().mean()), rel=1e-6)


def test_soft_labels_count_from_one_half():
    soft = torch.tensor([[0.6, 0.5], [0.4, 0.1], [1.0, 0.0]])
    outputs = torch.tensor([[2.0, 1.0], [-1.0, -2.0], [0.5, 3.0]])
    for name, expected in (("map", 1.0), ("label_f1", 0.5)):  # the second label never occurs
        running = METRICS[name].make(2)
        running.update(outputs, soft)
        assert float(running.compute()) == expected


def test_metrics_are_chosen_by_name_and_kind():
    for kind, name in DEFAULT_METRIC.items():
        assert metric_for("", kind) is METRICS[name]
    with pytest.raises(ConfigError, match="'map' is for outputs of kind multi_label; for single_label: accuracy, "):
        metric_for("map", "single_label")
    with pytest.raises(UnknownNameError, match="did you mean macro_f1"):
        metric_for("macrof1", "single_label")
    with METRICS.scope():
        METRICS.register("top", Metric("top", "Top", ("single_label",), True, METRICS["accuracy"].make))
        assert metric_for("top", "single_label").title == "Top"
