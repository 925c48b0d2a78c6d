"""Relational knowledge distillation (Park et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.shapes import prepare_embeddings


def scaled_distances(features: Tensor) -> Tensor:
    """Return Euclidean distances ``(B, B)``, divided by the mean over the pairs that do not coincide."""
    # Differences, not the expansion of the square: exact zeros stay zero and get a zero gradient.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    apart = distances > 0
    mean = distances.sum() / apart.sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, torch.ones_like(mean))


def angles(features: Tensor) -> Tensor:
    """Return cosines ``(B, B, B)``: entry (j, i, k) is the angle at sample j between i and k."""
    rays = F.normalize(features[None] - features[:, None], dim=2)
    return rays @ rays.transpose(1, 2)


@loss_function
def rkd(
    student: Tensor,
    teacher: Tensor,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    reduction: Reduction = "mean",
    gather_distributed: bool = False,
) -> Tensor:
    """Keep the shape of the batch in embedding space: its distances and its angles.

    ``w_d mean_ij h(d_s - d_t) + w_a mean_ijk h(c_s - c_t)``, d the distances over their mean, c the cosines at every
    vertex, h the Huber function with threshold 1. Park et al., CVPR 2019, eq. 5 to 9.

    Departure: the paper sums over pairs and triples; this is the mean over all B**2 and B**3 entries, the diagonal
    included, as in the published code, to which the weights 25 and 50 belong. It depends on the batch by definition;
    under ``none`` sample i gets its row of distances and the angles at i. Angles cost B**3 memory.

    Args:
        student: Features ``(B, ...)``, flattened here; widths may differ.
        teacher: Features ``(B, ...)``, detached here.
        distance_weight: w_d.
        angle_weight: w_a; 0 skips the angles.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: batches differ, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> rkd(student, teacher)
        tensor(4.9022)
    """
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_embeddings(student, teacher)
    huber = F.smooth_l1_loss(scaled_distances(student), scaled_distances(teacher), reduction="none")
    values = distance_weight * huber.mean(1)
    if angle_weight:
        angle = F.smooth_l1_loss(angles(student), angles(teacher), reduction="none")
        values = values + angle_weight * angle.mean((1, 2))
    return reduce_loss(values, reduction)


RKD = loss_module(rkd, signal="features", batch_coupled=True)
