"""Contrastive representation distillation: the critic's loss (Tian et al. 2020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, check_temperature, full_precision, prepare_tensor, reduce_loss


def log_scores(anchor: Tensor, bank: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Return ``v' m_k / T``, ``(B, 1 + K)``, of anchors ``(B, E)`` and the rows `candidates` of a bank ``(N, E)``."""
    if bank.shape[0] <= candidates.shape[1] * bank.shape[1]:
        # All products are cheaper than a copy of every candidate's row, which has E times more entries.
        return (anchor @ bank.T).gather(1, candidates) / temperature
    return torch.einsum("be,bke->bk", anchor, bank[candidates]) / temperature


def contrast(log_odds: Tensor, n_data: int) -> Tensor:
    """Noise-contrastive loss ``(B,)`` from log scores ``(B, 1 + K)``, the positive in column 0.

    ``-[log h_0 + sum_k log(1 - h_k)]`` with ``h = o / (o + K / n_data)``, in log space.
    """
    log_ratio = math.log((log_odds.shape[1] - 1) / n_data)
    positive = F.softplus(log_ratio - log_odds[:, 0])
    return positive + F.softplus(log_odds[:, 1:] - log_ratio).sum(1)


@full_precision
def crd(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    candidates: Tensor,
    *,
    temperature: float = 0.07,
    log_z_student: float | Tensor = 0.0,
    log_z_teacher: float | Tensor = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Tell the pair of features of one sample from pairs of different samples.

    ``L(o_s) + L(o_t)``, ``L(o) = -log h_0 - sum_k log(1 - h_k)``, ``h = o / (o + K / N)``,
    ``o_s = exp(v_s' M_t / T) / Z_s``, ``o_t = exp(v_t' M_s / T) / Z_t``. Tian et al., ICLR 2020, eq. 10, 18 and 19
    [numbering recalled].

    Variants: ``paper`` has ``Z = 1`` (``log_z`` 0); ``fixed_z``, the code behind all published numbers, estimates Z on
    the first batch and keeps it; the module twin does that. Departure: log space instead of the code's 1e-7 in the
    denominators (the same to about 1e-6).

    Unlike everywhere else the second input is *not* detached: it is the teacher's embedding, whose linear map is
    trained. The banks get no gradient.

    Args:
        student: Unit embeddings ``(B, E)``.
        teacher: Unit embeddings ``(B, E)``.
        student_bank: Stored student embeddings ``(N, E)`` of the whole training set.
        teacher_bank: Stored teacher embeddings ``(N, E)``.
        candidates: Rows of the banks ``(B, 1 + K)``: the sample itself, then K negatives.
        temperature: T > 0.
        log_z_student: Logarithm of Z on the student's side.
        log_z_teacher: Logarithm of Z on the teacher's side.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes do not fit, candidates are no rows of the banks, a value is not finite, or a bad option.
    """
    check_temperature(temperature)
    if candidates.is_floating_point() or candidates.dim() != 2 or candidates.shape[1] < 2:
        given = f"{candidates.dtype} {tuple(candidates.shape)}"
        raise ValueError(f"candidates must be integers (B, 1 + K) with K >= 1, got {given}")
    low, high = (int(x) for x in torch.aminmax(candidates))
    if low < 0 or high >= len(student_bank) or student_bank.shape != teacher_bank.shape:
        rows = f"banks of shapes {tuple(student_bank.shape)} and {tuple(teacher_bank.shape)}"
        raise ValueError(f"candidates must be rows of both banks, got {low} to {high} for {rows}")
    sides = []
    for name, anchor, bank, log_z in (
        ("student", student, teacher_bank, log_z_student),
        ("teacher", teacher, student_bank, log_z_teacher),
    ):
        anchor = prepare_tensor(f"{name} embeddings", anchor, min_dim=2)
        if bank.dim() != 2 or tuple(anchor.shape) != (candidates.shape[0], bank.shape[1]):
            need = f"({candidates.shape[0]}, {bank.shape[-1]})"
            raise ValueError(f"{name} embeddings must be {need} like candidates and bank, got {tuple(anchor.shape)}")
        scores = log_scores(anchor, bank.detach().to(anchor.dtype), candidates, temperature)
        sides.append(contrast(scores - log_z, bank.shape[0]))
    return reduce_loss(sides[0] + sides[1], reduction)
