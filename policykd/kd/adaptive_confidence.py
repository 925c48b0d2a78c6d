"""Every sample chooses its teacher: the one that is right and most sure, or the label (PSKD, Ni, Ngu, Yan 2022).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import categorical_kl
from policykd.errors import check_range
from policykd.seeding import generator


def most_confident(teachers: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return for every sample the teacher that gives its class the highest probability, among those that are right.

    Args:
        teachers: Logits ``(M, B, C)``; confidences are probabilities at temperature one.
        target: Class indices ``(B,)``.

    Returns:
        The teacher ``(B,)``, the first of equals, and whether any teacher is right ``(B,)``; where none is, the teacher
        is 0 and means nothing.
    """
    right = teachers.argmax(2) == target
    own = teachers.softmax(2)[:, torch.arange(len(target)), target]
    return torch.where(right, own, torch.full_like(own, -1.0)).argmax(0) * right.any(0), right.any(0)


def adaptive_confidence(student: Tensor, teachers: Tensor, target: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Return ``T^2 KL`` to the chosen teacher where one is right, and cross-entropy elsewhere, averaged over the batch.

    Args:
        student: Logits ``(B, C)``.
        teachers: Logits ``(M, B, C)``, detached here.
        target: Class indices ``(B,)``.
        temperature: T > 0 of the divergence.
    """
    teachers = teachers.detach()
    chosen, any_right = most_confident(teachers, target)
    taught = teachers[chosen, torch.arange(len(target))]
    soft = categorical_kl(student, taught, temperature=temperature, reduction="none")
    return torch.where(any_right, soft, F.cross_entropy(student, target, reduction="none")).mean()


def teachers_of_stage(epoch: int, epochs: int, teachers: int) -> int:
    """Return how many teachers, weakest first, an epoch of the student uses: one more in each of equal stages.

    Args:
        epoch: Number of the epoch, from 0.
        epochs: Epochs of the student.
        teachers: Number of teachers.
    """
    check_range("epoch", epoch, 0, epochs - 1)
    return 1 + epoch * teachers // epochs


def class_vectors(classes: int, width: int, seed: int) -> Tensor:
    """Return random orthonormal vectors ``(classes, width)`` of classes, where word vectors of their names are absent.

    Args:
        classes: Number of classes.
        width: Size of a vector, at least the number of classes.
        seed: Seeds the draw.
    """
    check_range("width", width, classes, 100_000)
    drawn = generator(seed, "class vectors").normal(size=(width, classes))
    return torch.from_numpy(np.linalg.qr(drawn)[0].T.copy()).float()
