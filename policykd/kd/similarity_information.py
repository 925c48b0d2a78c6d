"""Similarity information in a teacher's logits: entropy, entropy of the wrong classes, and teachers that lack it.

The measures are our construction after Vats and Crandall (arXiv 2112.10047), whose text was not readable. The chain
rule ``H(p) = H_b(p_y) + (1 - p_y) H(q)`` splits the entropy of a prediction into confidence and similarity of the
wrong classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, check_temperature, full_precision, prepare_tensor, reduce_loss
from policykd.errors import ConfigError, check_range
from policykd.kd.objective.teachers import log_probabilities
from policykd.kd.shapes import check_labels


def _log_p(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``(N, C)`` at a temperature and checked labels ``(N,)``."""
    check_temperature(temperature)
    logits = prepare_tensor("teacher logits", logits, min_dim=2)
    return F.log_softmax(logits / temperature, 1), check_labels(logits, target)


@full_precision
def response_entropy(logits: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Return the softness of a teacher's predictions: ``H(p) = -sum_c p_c log p_c`` in nats, ``p = softmax(z / T)``.

    Args:
        logits: ``(N, C)``.
        temperature: T > 0.
        reduction: How the values of shape ``(N,)`` are reduced.

    Raises:
        ValueError: A value is not finite, or the temperature is not above 0.
    """
    check_temperature(temperature)
    log_p = F.log_softmax(prepare_tensor("teacher logits", logits, min_dim=2) / temperature, 1)
    return reduce_loss(-(log_p.exp() * log_p).sum(1), reduction)


@full_precision
def non_target_entropy(
    logits: Tensor, target: Tensor, *, temperature: float = 1.0, normalize: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Return the entropy of the distribution over the wrong classes, ``H(q)`` with ``q_c = p_c / (1 - p_y)``, in nats.

    Args:
        logits: ``(N, C)``.
        target: Labels ``(N,)``.
        temperature: T > 0.
        normalize: Divide by ``log(C - 1)``, its largest value; 0 for two classes, which have one wrong class.
        reduction: How the values of shape ``(N,)`` are reduced.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or the temperature is not above 0.
    """
    values = _non_target_entropy(*_log_p(logits, target, temperature))
    most = max(float(torch.tensor(logits.shape[1] - 1.0).log()), 1e-12)
    return reduce_loss(values / most if normalize else values, reduction)


@full_precision
def similarity_information(
    logits: Tensor, target: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Return the part of a teacher's entropy due to similar wrong classes: ``SI = (1 - p_y) H(q)``, in nats.

    By the chain rule ``H(p) = H_b(p_y) + SI`` with the binary entropy ``H_b``. Compare it at one temperature only.

    Args:
        logits: ``(N, C)``.
        target: Labels ``(N,)``.
        temperature: T > 0.
        reduction: How the values of shape ``(N,)`` are reduced.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or the temperature is not above 0.
    """
    log_p, labels = _log_p(logits, target, temperature)
    wrong = -torch.expm1(log_p.gather(1, labels[:, None])[:, 0])
    return reduce_loss(wrong * _non_target_entropy(log_p, labels), reduction)


def _non_target_entropy(log_p: Tensor, labels: Tensor) -> Tensor:
    # log q is taken from the masked logits: 1 - p_y loses all digits for a confident teacher
    others = log_p.scatter(1, labels[:, None], -torch.inf)
    log_q = others.log_softmax(1).scatter(1, labels[:, None], 0.0)  # 0 * -inf at the label would be no number
    q = log_q.exp().scatter(1, labels[:, None], 0.0)
    return -(q * log_q).sum(1)


def permuted_non_targets(
    logits: Tensor, target: Tensor, *, temperature: float, generator: torch.Generator | None = None
) -> Tensor:
    """Return logits of the same predictions with the wrong classes' probabilities shuffled in every sample.

    Entropy, ``p_y`` and similarity information stay, but it is now about random classes: such a teacher can only
    regularize a student.

    Args:
        logits: ``(N, C)``.
        target: Labels ``(N,)``.
        temperature: T > 0; the logits returned are meant for distillation at the same T (any T gives the same).
        generator: Source of the permutations.

    Returns:
        ``(N, C)``.
    """
    log_p, labels = _log_p(logits, target, temperature)
    order = torch.rand(log_p.shape, generator=generator).to(log_p).scatter(1, labels[:, None], torch.inf).argsort(1)
    classes = torch.arange(log_p.shape[1], device=log_p.device).expand_as(log_p)
    wrong = classes[classes != labels[:, None]].view(len(labels), -1)
    mixed = log_p.scatter(1, wrong, log_p.gather(1, order[:, :-1]))
    return temperature * mixed


def smoothed_labels(logits: Tensor, target: Tensor, *, temperature: float) -> Tensor:
    """Return label smoothing as a teacher: ``softmax(z / T)`` has the teacher's mean ``p_y`` and is uniform otherwise.

    Returns:
        ``(N, C)``.
    """
    log_p, labels = _log_p(logits, target, temperature)
    classes = log_p.shape[1]
    right = log_p.exp().gather(1, labels[:, None]).mean()
    others = (1 - right) / (classes - 1)
    return temperature * log_probabilities(
        others.expand_as(log_p).scatter(1, labels[:, None], right.expand(len(labels), 1))
    )


def class_mean_answers(logits: Tensor, target: Tensor, *, temperature: float) -> Tensor:
    """Return class-level knowledge as a teacher: the mean probabilities of each sample's class at temperature T.

    Returns:
        Logits ``(N, C)`` for distillation at the same T.
    """
    log_p, labels = _log_p(logits, target, temperature)
    return temperature * log_probabilities(_class_means(log_p.exp(), labels)[labels])


def _class_means(p: Tensor, labels: Tensor) -> Tensor:
    """Mean of the rows of every class: ``(N, C)`` to ``(C, C)``."""
    members = F.one_hot(labels, p.shape[1]).to(p.dtype)
    return members.T @ p / members.sum(0).clamp_min(1.0)[:, None]


def sweet_spot(accuracies: Sequence[float], information: Sequence[float], *, tolerance: float = 0.015) -> int:
    """Return the teacher to choose without training a student.

    Args:
        accuracies: Validation accuracy of every teacher, in [0, 1].
        information: Mean similarity information of each at the temperature of the distillation.
        tolerance: How much accuracy may be given up against the best.

    Returns:
        Position of the teacher with most similarity information among those within the tolerance.

    Raises:
        ConfigError: Lists of different or no length, or a negative tolerance.
    """
    check_range("tolerance", tolerance, 0, 1)
    if not accuracies or len(accuracies) != len(information):
        raise ConfigError(f"one accuracy and one value per teacher, got {len(accuracies)} and {len(information)}")
    good = [i for i, accuracy in enumerate(accuracies) if accuracy >= max(accuracies) - tolerance]
    return max(good, key=lambda i: information[i])
