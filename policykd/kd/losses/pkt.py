"""Probabilistic knowledge transfer (Passalis and Tefas 2018).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.shapes import prepare_embeddings


def conditional_probabilities(features: Tensor, *, eps: float = 1e-7, diagonal: bool = True) -> Tensor:
    """Return row-stochastic similarities ``(B, B)``: cosines moved to [0, 1], each row divided by its sum."""
    unit = features / (features.norm(dim=1, keepdim=True) + eps)
    similarity = (unit @ unit.T + 1.0) / 2.0
    if not diagonal:
        similarity = similarity * (1.0 - torch.eye(len(similarity), dtype=similarity.dtype, device=similarity.device))
    return similarity / similarity.sum(1, keepdim=True)


@loss_function
def pkt(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Literal["code", "paper"] = "code",
    eps: float = 1e-7,
    reduction: Reduction = "mean",
    gather_distributed: bool = False,
) -> Tensor:
    """Keep the teacher's probability that one sample of the batch picks another as its neighbor.

    ``P_t log((P_t + eps) / (P_s + eps))`` on the conditional probabilities. Passalis and Tefas, ECCV 2018, eq. 3 to 8
    [numbering recalled]. Variants: ``code`` has the pair (i, i) in every row and takes the mean over all B**2 entries
    (the weight 30000 belongs to it); ``paper`` leaves the diagonal out and sums each row [recalled]; the paper adds
    the rows, which is ``reduction="sum"``.

    It depends on the batch by definition; under ``none`` sample i gets its row. The paper has no eps.

    Args:
        student: Features ``(B, ...)``, flattened here; widths may differ.
        teacher: Features ``(B, ...)``, detached here.
        variant: See above.
        eps: Added to norms and probabilities.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: batches differ, fewer than two samples with ``paper``, a value is not finite, or a bad option.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> pkt(student, teacher, variant="paper")
        tensor(0.0316)
    """
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_embeddings(student, teacher)
    if variant == "paper" and len(student) < 2:
        raise ValueError("pkt with variant='paper' leaves the diagonal out and needs two samples, got 1")
    p_s = conditional_probabilities(student, eps=eps, diagonal=variant == "code")
    p_t = conditional_probabilities(teacher, eps=eps, diagonal=variant == "code")
    terms = p_t * torch.log((p_t + eps) / (p_s + eps))
    return reduce_loss(terms.mean(1) if variant == "code" else terms.sum(1), reduction)


PKT = loss_module(pkt, signal="features", batch_coupled=True)
