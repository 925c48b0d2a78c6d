"""Generated samples, processed before a student learns from them: density ratios, rejection, and a teacher's filter.

cGAN-KD (Ding et al., Expert Systems with Applications 213, 2023) with cDR-RS (Ding et al., Neurocomputing 517, 2023).
It works on tensors and functions; networks and training loops are not its business.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ConfigError, check_range


def ratio_loss(real: Tensor, fake: Tensor, *, penalty: float = 0.01) -> Tensor:
    """Return the softplus loss of a density ratio, minimal where ``ratio = p_real / p_fake``.

    ``E_fake[sigmoid(r) r - softplus(r)] - E_real[sigmoid(r)] + penalty (E_fake[r] - 1)^2``.

    Args:
        real: Ratios of real samples ``(B,)``, at least 0.
        fake: Ratios of generated samples ``(B',)``.
        penalty: Weight of the last term, which keeps ratios that end in a ReLU alive.
    """
    value = (fake.sigmoid() * fake - F.softplus(fake)).mean() - real.sigmoid().mean()
    return value + penalty * (fake.mean() - 1.0).square()


def acceptance(ratios: Tensor, largest: float | None = None) -> Tensor:
    """Return the probability ``r / M`` that a sample is accepted ``(B,)``.

    Args:
        ratios: Ratios ``(B,)``, at least 0.
        largest: M; it is raised to the largest of the ratios, which it is by default.

    Raises:
        ConfigError: All ratios are 0.
    """
    most = max(float(ratios.max()), largest or 0.0)
    if most <= 0:
        raise ConfigError("all density ratios are 0; train the ratio network with a larger penalty")
    return ratios / most


@torch.no_grad()
def rejection_sample(
    draw: Callable[[int, torch.Generator], Tensor],
    ratio: Callable[[Tensor], Tensor],
    count: int,
    generator: torch.Generator,
    *,
    burn_in: int = 200,
    most: int = 100_000,
) -> Tensor:
    """Return samples whose density is about ``p_fake r``: the real one, if the ratio is exact.

    Args:
        draw: ``(number, generator) -> samples``.
        ratio: ``samples -> ratios (B,)``.
        count: Samples to return.
        generator: What draws.
        burn_in: Samples from which the largest ratio is estimated; a larger one that appears later replaces it.
        most: Samples to draw at most.

    Raises:
        ConfigError: Fewer samples than asked for were accepted.
    """
    largest, drawn = float(ratio(draw(burn_in, generator)).max()), 0
    kept: list[Tensor] = []
    while sum(len(one) for one in kept) < count and drawn < most:
        samples = draw(max(burn_in, count), generator)
        ratios = ratio(samples)
        largest, drawn = max(largest, float(ratios.max())), drawn + len(samples)
        kept.append(samples[torch.rand(len(samples), generator=generator) < acceptance(ratios, largest)])
    found = torch.cat(kept)[:count]
    if len(found) < count:
        raise ConfigError(f"{len(found)} of {count} samples were accepted among {drawn}; the ratios are too uneven")
    return found


def keep_smallest(errors: Tensor, share: float, groups: Tensor | None = None) -> Tensor:
    """Return which samples have an error below the quantile of their group ``(N,)``, in bool.

    Args:
        errors: The teacher's error on every sample ``(N,)``.
        share: The quantile, interpolated linearly; samples at it are left out, so that 1 leaves out the largest.
        groups: Class of every sample ``(N,)``, each with its own quantile; None for one of all samples.
    """
    check_range("share", share, 0.0, 1.0)
    if groups is None:
        return errors < torch.quantile(errors, share)
    kept = torch.zeros(len(errors), dtype=torch.bool)
    for name in groups.unique():
        rows = groups == name
        kept[rows] = errors[rows] < torch.quantile(errors[rows], share)
    return kept
