"""Logit standardization before distillation (Sun et al. 2024).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, categorical_kl
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Temperature
from policykd.kd.shapes import prepare_logits


def standardize(logits: Tensor, *, variant: Literal["paper", "code"] = "paper", eps: float = 1e-7) -> Tensor:
    """Give every sample's logits ``(B, C)`` mean 0 and standard deviation 1 (population: paper; sample: code)."""
    centered = logits - logits.mean(-1, keepdim=True)
    # Written out instead of Tensor.std, whose gradient is not finite where all logits are equal.
    count = logits.shape[-1] - (1 if variant == "code" else 0)
    variance = centered.square().sum(-1, keepdim=True) / count
    std = variance.where(variance > 0, variance.new_ones(())).sqrt()
    return centered / (std + eps)


@loss_function
def lskd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 2.0,
    scale_t2: bool = True,
    variant: Literal["paper", "code"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil the shape of the logits and leave their location and scale free.

    KD on ``z' = (z - mean(z)) / (std(z) + 1e-7)``, mean and deviation over the classes of one sample, at a base
    temperature T. Sun et al., CVPR 2024, eq. 10 and algorithm 1 [numbering recalled].

    Variants: ``paper`` divides the variance by C, ``code`` (the authors' repository) by C - 1.
    Departure from both: a sample whose logits are all equal gives 0 with a finite gradient.

    Args:
        student: Logits ``(B, C)``, at least two classes.
        teacher: Logits ``(B, C)``, detached here.
        temperature: Base temperature T > 0.
        scale_t2: Multiply by ``T**2``.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, fewer than two classes, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> lskd(student, teacher)
        tensor(0.2225)
        >>> lskd(5.0 * student - 1.0, teacher)  # location and scale are free
        tensor(0.2225)
    """
    student, teacher = prepare_logits(student, teacher, least=2)
    student, teacher = standardize(student, variant=variant), standardize(teacher, variant=variant)
    return categorical_kl(student, teacher, temperature=temperature, scale_t2=scale_t2, reduction=reduction)


LSKD = loss_module(lskd)
