"""Singular vectors of feature maps and how they change from level to level (Lee, Kim and Song 2018).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Rule
from policykd.kd.shapes import Features, as_levels


def check_rank(name: str, rank: int) -> None:
    """Raise ConfigError unless the rank is at least 1."""
    if rank < 1:
        raise ConfigError(f"{name} must be at least 1, got {rank!r}")


Rank = Annotated[int, Rule(check_rank)]
_RESOLUTION = 1e-9  # eigenvalues closer than this share of the largest count as equal
_EXTRA = 3  # the student's vector may be among the next three of another order


def _vectors(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return singular values ``(B, n)`` and unit right singular vectors ``(B, C, n)`` of places by channels.

    The vectors are eigenvectors V of the matrix A of channel products. Their derivative is that of first-order
    perturbation, ``dv_i = sum_j v_j (v_j' dA v_i) / (l_i - l_j)``: ``V' A V`` is diagonal, so the sum below adds 0 to
    the value and this to the gradient.
    """
    channels = maps.flatten(2)
    products = channels @ channels.transpose(1, 2)
    values, vectors = (x.flip(-1) for x in torch.linalg.eigh(products.detach()))
    gaps = values[:, None, :] - values[:, :, None]  # l_i - l_j at row j and column i
    distinct = gaps.abs() > _RESOLUTION * values[:, :1, None]
    inverse = torch.where(distinct, 1.0 / torch.where(distinct, gaps, 1.0), 0.0)
    vectors = vectors + vectors @ (inverse * (vectors.transpose(1, 2) @ products @ vectors))
    return values[:, :count].clamp_min(0.0).sqrt(), vectors[:, :, :count]


def _signed(vectors: Tensor) -> Tensor:
    """Give every vector the sign that makes its entry of largest size positive; a decomposition leaves it open."""
    largest = vectors.abs().argmax(1, keepdim=True)
    return torch.where(vectors.gather(1, largest) < 0, -vectors, vectors)


def _aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """For every teacher vector, return the student's with the largest absolute cosine, with its sign."""
    cosine = (student.transpose(1, 2) @ teacher).detach()
    best = cosine.abs().argmax(1, keepdim=True)
    chosen = student.gather(2, best.expand(-1, student.shape[1], -1))
    return torch.where(cosine.gather(1, best) < 0, -chosen, chosen)


@loss_function
def kdsvd(student: Features, teacher: Features, *, rank: Rank = 1, reduction: Reduction = "mean") -> Tensor:
    """Compress every level to its first singular vectors and match how they relate to the previous level's.

    A level is a matrix of places by channels; v are its first `rank` right singular vectors times the teacher's
    singular values (of norm one). With ``R_ij = exp(-(v_i - w_j)**2 / 8)`` for entries of v and of the previous level's
    w, the loss is ``sum over levels, ranks, i, j of (R_s - R_t)**2``. Lee, Kim, Song, ECCV 2018, as in RepDistiller.

    Departures: the teacher's vectors are signed so that their largest entry is positive, since a decomposition leaves
    the sign open and the value depends on it; the decomposition runs in double precision; gradients at equal singular
    values count as 0.

    Args:
        student: Feature maps ``(B, C_l, H_l, W_l)``, at least two levels; projectors match the channels.
        teacher: As many maps with the same channels, detached here; heights and widths may differ.
        rank: Number of singular vectors per level.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a level has fewer places or channels than `rank`, a value is not finite, or an
            option is out of range.

    Example:
        >>> import torch
        >>> maps = [torch.arange(8.0).reshape(1, 2, 2, 2), torch.arange(8.0).flip(0).reshape(1, 2, 2, 2)]
        >>> kdsvd(maps, maps[::-1])
        tensor(0.0307)
    """
    levels = as_levels(student, teacher, at_least=2)
    dtype, total, previous = torch.float32, [], None
    for s, t in levels:
        s, t = prepare_pair(s, t, what="feature maps", min_dim=4, same_shape=False)
        if s.dim() != 4 or s.shape[1] != t.shape[1] or min(s.shape[1], *(x[0, 0].numel() for x in (s, t))) < rank:
            given = f"got student {tuple(s.shape)} and teacher {tuple(t.shape)}"
            raise ValueError(f"feature maps need equal channels and at least {rank} places and channels, {given}")
        dtype = torch.promote_types(dtype, s.dtype)
        values, own = _vectors(t.double(), rank)
        goal = _signed(own)
        scale = F.normalize(values, dim=1)[:, None]
        pair = (_aligned(_vectors(s.double(), rank + _EXTRA)[1], goal) * scale, goal * scale)
        if previous is not None:
            kernels = [
                (-(x[:, :, None] - w[:, None]).square() / 8.0).exp() for x, w in zip(pair, previous, strict=True)
            ]
            total.append((kernels[0] - kernels[1]).square().sum((1, 2, 3)))
        previous = pair
    return reduce_loss(torch.stack(total).sum(0).to(dtype), reduction)


KDSVD = loss_module(kdsvd, signal="levels", channels_first=True)
