"""Measures of how much two representations of the same samples have in common.

Tensors in, a float out; everything is computed in float64 and without gradients.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import check_temperature, prepare_pair


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Return the linear centered kernel alignment of two features of the same samples, in [0, 1].

    ``||Y' X||_F**2 / (||X' X||_F ||Y' Y||_F)`` on centered columns (Kornblith et al. 2019, equation numbers not
    checked). It does not change under rotation, shift and scale of either feature.

    Args:
        first: Features ``(N, D)``.
        second: Features ``(N, E)``.

    Raises:
        ValueError: Shapes do not fit, or a feature is constant.
    """
    x, y = prepare_pair(first.detach(), second, what="features", min_dim=2, same_shape=False)
    x, y = (v.double() - v.double().mean(0) for v in (x.flatten(1), y.flatten(1)))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    if not scale > 0:
        raise ValueError("a feature is the same for all samples: its alignment is not defined")
    return float((y.T @ x).square().sum() / scale)


def info_nce_bound(student: Tensor, teacher: Tensor, *, temperature: float) -> float:
    """Return a lower bound, in nats, on the mutual information of two embeddings.

    It is ``log N`` less the cross-entropy of the pairs: each student embedding has to find its own teacher embedding
    among all N (van den Oord et al. 2018). The bound cannot exceed ``log N``.

    Args:
        student: Embeddings ``(N, E)``, normalized here.
        teacher: Embeddings ``(N, E)``; row i belongs to the same sample.
        temperature: T > 0.

    Raises:
        ValueError: Shapes differ or an option is out of range.
    """
    check_temperature(temperature)
    student, teacher = prepare_pair(student.detach(), teacher, what="embeddings", min_dim=2)
    scores = F.normalize(student.double(), dim=1) @ F.normalize(teacher.double(), dim=1).T / temperature
    return math.log(len(scores)) - float(F.cross_entropy(scores, torch.arange(len(scores))))
