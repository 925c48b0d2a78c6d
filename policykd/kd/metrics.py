"""Metrics of classifiers: accuracy, fidelity to the teacher, calibration. Logits and labels in, a float out.

Everything is computed in float64 and at temperature 1 on the logits as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import categorical_kl, check_temperature
from policykd.errors import check_range
from policykd.kd.training.evaluate import predict

ECE_BINS = 15
"""Equal-width bins of the expected calibration error."""


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of samples whose largest logit is the label's; logits ``(N, C)``, labels ``(N,)``."""
    return float((logits.argmax(1) == labels).double().mean())


def recall(logits: Tensor, labels: Tensor, label: int) -> float:
    """Share of the samples of one class that are recognized.

    Raises:
        ValueError: there is no sample of the class.
    """
    rows = labels == label
    if not bool(rows.any()):
        raise ValueError(f"no sample has label {label}")
    return accuracy(logits[rows], labels[rows])


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Share of samples on which student and teacher, logits ``(N, C)``, name the same class."""
    return float((student.argmax(1) == teacher.argmax(1)).double().mean())


def kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> float:
    """Mean ``KL(teacher || student)`` of logits ``(N, C)`` at a temperature, in nats, without ``T**2``."""
    value = categorical_kl(student.double(), teacher.double(), temperature=temperature, scale_t2=False)
    return float(value)


def nll(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(F.cross_entropy(logits.double(), labels))


def entropy(logits: Tensor, *, temperature: float = 1.0) -> float:
    """Mean Shannon entropy of ``softmax(logits / T)``, in nats."""
    log_p = F.log_softmax(logits.double() / check_temperature(temperature), 1)
    return float(-(log_p.exp() * log_p).sum(1).mean())


def brier(logits: Tensor, labels: Tensor) -> float:
    """Mean squared distance between probabilities and one-hot labels, summed over classes: in [0, 2]."""
    p = logits.double().softmax(1)
    return float((p - F.one_hot(labels, p.shape[1])).square().sum(1).mean())


def ece(logits: Tensor, labels: Tensor, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the top class; see :func:`calibration_error`."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return calibration_error(confidence, predicted == labels, bins=bins)


def micro_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the average precision over all (sample, tag) decisions at once, as in urban sound tagging.

    Args:
        scores: Scores ``(N, C)`` or ``(N,)``; higher is more likely.
        labels: 0 or 1, same shape.

    Raises:
        ValueError: Shapes differ, or no label is positive.
    """
    from sklearn.metrics import average_precision_score

    if scores.shape != labels.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} need one shape")
    if not bool((labels > 0).any()):
        raise ValueError("average precision needs at least one positive label")
    return float(average_precision_score(labels.flatten().numpy() > 0, scores.detach().flatten().numpy()))


def calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = ECE_BINS) -> float:
    """``sum_b n_b / n |accuracy_b - confidence_b|`` over equal-width bins ``(low, high]`` (Guo et al. 2017, eq. 3).

    Args:
        confidence: Confidences ``(N,)`` in [0, 1].
        correct: Whether each prediction is right ``(N,)``.
        bins: Number of bins.

    Raises:
        ConfigError: the number of bins is below 1.
    """
    check_range("bins", bins, 1, 10_000)
    confidence, correct = confidence.double(), correct.double()
    edges = torch.arange(1, bins, dtype=torch.double) / bins
    place = torch.bucketize(confidence, edges)
    gaps = torch.zeros(bins, dtype=torch.double).index_add_(0, place, correct - confidence)
    return float(gaps.abs().sum() / len(confidence))


def figures(logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> dict[str, float]:
    """Return the usual figures of a classifier.

    Args:
        logits: Its logits ``(N, C)``.
        labels: Class indices ``(N,)``.
        teacher: A teacher's logits ``(N, C)``; adds ``agreement`` and ``kl`` to it.

    Returns:
        ``accuracy``, ``nll``, ``ece`` and ``brier``, and with a teacher ``agreement`` and ``kl``.
    """
    found = {
        "accuracy": accuracy(logits, labels),
        "nll": nll(logits, labels),
        "ece": ece(logits, labels),
        "brier": brier(logits, labels),
    }
    if teacher is not None:
        found |= {"agreement": agreement(logits, teacher), "kl": kl(logits, teacher)}
    return found


def measure(
    network: nn.Module, data: Any, *, teacher: nn.Module | None = None, only: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the figures of a network on a data set; see :func:`figures`.

    Args:
        network: Maps x to logits.
        data: What ``policykd.kd.training.batches.Batches`` takes.
        teacher: Adds ``agreement`` and ``kl`` to it.
        only: Names of the figures to return, in their order; None for all.
    """
    found = figures(*predict(network, data), None if teacher is None else predict(teacher, data)[0])
    return found if only is None else {name: found[name] for name in only}
