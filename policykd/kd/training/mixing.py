"""Mixed inputs: pairwise mixup of a batch, convex combinations of several samples, and a teacher's answer to them.

Everything is drawn from a NumPy generator that the caller owns; torch's random state has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import check_temperature
from policykd.errors import ConfigError, check_range
from policykd.kd.options import check_choice, check_positive

Reading = Literal["on_mix", "mixed_targets"]


@dataclass(frozen=True)
class Mixing:
    """How the samples of a batch are combined.

    Attributes:
        shares: Weights of the m samples in a virtual one, sum one over the first axis: ``(m, 1)`` for one draw per
            batch, ``(m, B)`` for one per sample.
        partners: Which samples are combined ``(m, B)``: row j is a permutation of the batch.
    """

    shares: Tensor
    partners: Tensor

    def mix(self, values: Tensor) -> Tensor:
        """Combine what belongs to the samples: inputs, one-hot labels, probabilities.

        Args:
            values: ``(B, ...)``, floating point.

        Returns:
            ``(B, ...)``: row i is ``sum_j shares[j, i] values[partners[j, i]]``.

        Raises:
            ValueError: Another batch size.
        """
        if len(values) != self.partners.shape[1]:
            raise ValueError(f"a mixing of {self.partners.shape[1]} samples cannot mix {len(values)}")
        weights = self.shares.to(values).reshape(*self.shares.shape, *[1] * (values.dim() - 1))
        return (weights * values[self.partners]).sum(0)


def draw_mixing(
    batch: int,
    *,
    concentration: float = 1.0,
    images: int = 2,
    per_sample: bool = False,
    generator: np.random.Generator,
) -> Mixing:
    """Draw a mixing: weights from a symmetric Dirichlet (two images: Beta(a, a)), partners by permuting the batch.

    Args:
        batch: B, samples in the batch.
        concentration: a > 0; small values leave most virtual samples close to a real one.
        images: m, samples in a virtual one.
        per_sample: Draw weights for every sample instead of once for the batch.
        generator: Source of randomness.

    Raises:
        ConfigError: An option is out of range.
    """
    check_positive(batch=batch, concentration=concentration)
    if images < 2:
        raise ConfigError(f"a virtual sample combines at least 2 images, got {images}")
    shares = generator.dirichlet([concentration] * images, batch if per_sample else 1).T
    others = [generator.permutation(batch) for _ in range(images - 1)]
    partners = np.stack([np.arange(batch), *others])
    return Mixing(torch.from_numpy(shares.astype(np.float32)), torch.from_numpy(partners))


@torch.no_grad()
def virtual_teacher(
    teacher: Callable[[Tensor], Tensor],
    x: Tensor,
    mixing: Mixing,
    *,
    temperature: float = 4.0,
    reading: Reading = "on_mix",
) -> Tensor:
    """Return logits whose softmax at ``temperature`` is the teacher's distribution of the virtual samples.

    ``on_mix``: the teacher sees the virtual sample, ``f_t(mix(x))``. ``mixed_targets``: the teacher's distributions of
    the real samples are mixed, ``T log mix(softmax(f_t(x) / T))``. The two differ by Jensen's gap. They are the two
    readings of the abstract of STKD (Zhao et al. 2021, arXiv 2103.10047).

    Args:
        teacher: ``(B, ...) -> (B, C)``, in eval mode.
        x: The real samples ``(B, ...)``, augmented and normalized already: both networks must see the same mixture.
        mixing: How they are combined.
        temperature: T > 0.
        reading: See above.

    Returns:
        ``(B, C)``, without a graph.

    Raises:
        ConfigError: The reading is unknown.
        ValueError: The temperature is out of range.
    """
    check_choice("reading", reading, ("on_mix", "mixed_targets"))
    check_temperature(temperature)
    if reading == "on_mix":
        return teacher(mixing.mix(x))
    log_p = torch.log_softmax(teacher(x) / temperature, 1)
    parts = log_p[mixing.partners] + mixing.shares.to(log_p).log()[..., None]
    return temperature * parts.logsumexp(0)


@dataclass(frozen=True)
class Mixup:
    """Mixes samples of a batch in pairs, with a coefficient per sample.

    ``x~_i = a_i x_r(i) + (1 - a_i) x_s(i)``, and one-hot labels in the same way, with two random permutations r and s.

    Attributes:
        beta: Coefficients follow Beta(beta, beta); 1 is uniform, toward 0 they become 0 or 1.
        fraction: Share of the samples that is mixed: 1 is full mixup (FMU), less is partial (PMU), 0 permutes only.
        mode: ``exact`` leaves all but ``round(fraction B)`` samples unmixed; ``reference`` draws
            ``floor((1 - fraction) B)`` of them with replacement, so that more are mixed than the fraction says.

    Raises:
        ConfigError: An option is out of range.
    """

    beta: float = 1.0
    fraction: float = 1.0
    mode: Literal["exact", "reference"] = "exact"

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 1e-6, 1e6)
        check_range("fraction", self.fraction, 0.0, 1.0)
        check_choice("mode", self.mode, ("exact", "reference"))

    def coefficients(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the coefficients a ``(count,)`` of a batch, 1 where a sample stays unmixed."""
        a = rng.beta(self.beta, self.beta, count)
        if self.mode == "exact":
            a[rng.permutation(count)[round(self.fraction * count) :]] = 1.0
        else:
            a[rng.integers(0, count, int((1 - self.fraction) * count))] = 1.0
        return a

    def __call__(self, x: Tensor, targets: Tensor, classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            x: Inputs ``(B, ...)``.
            targets: Labels ``(B,)``.
            classes: Number of classes C.
            rng: Source of randomness.

        Returns:
            Mixed inputs ``(B, ...)`` and label distributions ``(B, C)``.
        """
        count = len(x)
        a = torch.from_numpy(self.coefficients(count, rng)).to(x)
        first, second = (torch.from_numpy(rng.permutation(count)) for _ in range(2))
        y = F.one_hot(targets, classes).to(x)
        wide = a.view(-1, *[1] * (x.dim() - 1))
        return wide * x[first] + (1 - wide) * x[second], a[:, None] * y[first] + (1 - a[:, None]) * y[second]
