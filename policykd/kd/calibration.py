"""Calibration of a trained classifier that keeps its decisions: temperature scaling and its reliability diagram.

Logits and labels go in, a temperature or the bars of a diagram come out; nothing here trains a classifier. Guo, Pleiss,
Sun, Weinberger, On Calibration of Modern Neural Networks (ICML 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ConfigError, check_range
from policykd.numerics import prepare_tensor


def fit_temperature(logits: Tensor, labels: Tensor, *, most_steps: int = 100) -> float:
    """Return the temperature T that minimizes the cross-entropy of ``logits / T``, found by L-BFGS in float64.

    The search is over log T, in which the problem has one minimum, and stops where the gradient is below 1e-9.

    Args:
        logits: Held-out logits ``(N, C)``.
        labels: Class indices ``(N,)``.
        most_steps: Most iterations.

    Raises:
        ConfigError: There is not a minimum: every label has the largest logit (T would be 0), or labels have on
            average no larger logit than other classes (T would be infinite).
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    if bool((own == logits.amax(1)).all()) or float((own - logits.mean(1)).double().mean()) <= 0:
        raise ConfigError(f"these {len(labels)} samples do not determine a temperature: all are right, or none better")
    fixed, log_heat = prepare_tensor("logits", logits, min_dim=2).detach().double(), torch.zeros((), dtype=torch.double)
    log_heat.requires_grad_(True)
    search = torch.optim.LBFGS(
        [log_heat], max_iter=most_steps, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(fixed * torch.exp(-log_heat), labels)
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    return float(log_heat.detach().exp())


def reliability(confidence: Tensor, correct: Tensor, *, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bars of a reliability diagram: mean confidence, share of right predictions, and count of every bin.

    Bins ``(low, high]`` have equal width; empty ones have 0 for all three.

    Args:
        confidence: Confidences ``(N,)`` in [0, 1].
        correct: Whether each prediction is right ``(N,)``.
        bins: Number of bins.

    Raises:
        ConfigError: The number of bins is below 1.
    """
    check_range("bins", bins, 1, 10_000)
    place = torch.bucketize(confidence.double(), torch.arange(1, bins, dtype=torch.double) / bins)
    count, sums = torch.bincount(place, minlength=bins), []
    for values in (confidence, correct):
        total = torch.zeros(bins, dtype=torch.double).index_add_(0, place, values.double())
        sums.append(total / count.clamp_min(1))
    return sums[0], sums[1], count
