"""STKD's mixing of virtual samples and the teacher's logits for them (Zhao, Gong, Sun, Dong, Yu, arXiv 2103.10047).

A virtual sample is a convex combination of samples of the batch; the student learns to give it the distribution that
the teacher gives. ``draw_mixing`` draws how a batch is mixed, ``Mixing.mix`` mixes inputs, labels or probabilities in
the same way, and ``virtual_teacher`` gives the teacher's logits for the virtual samples::

    mixing = draw_mixing(len(x), concentration=1.0, generator=rng)
    z_s, z_t = student(mixing.mix(x)), virtual_teacher(teacher, x, mixing, temperature=4.0)
    loss = 0.1 * ce(z_s, mixing.mix(one_hot(y))) + 0.9 * kd(z_s, z_t, temperature=4.0)

Neither the paper's equations nor code by its authors could be read: the loss follows the abstract, which allows two
readings of "the teacher's distribution of a virtual sample". Both are here; ``on_mix`` is the default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from policykd.divergences import check_temperature
from policykd.kd.options import check_choice, check_positive

Reading = Literal["on_mix", "mixed_targets"]


@dataclass(frozen=True)
class Mixing:
    """How the samples of a batch are combined.

    Attributes:
        shares: Weights of the m samples in a virtual one, sum one over the first axis: ``(m, 1)`` for one draw per
            batch, ``(m, B)`` for one per sample.
        partners: Positions of the samples that are combined ``(m, B)``; every row is a permutation of the batch.
    """

    shares: Tensor
    partners: Tensor

    def mix(self, values: Tensor) -> Tensor:
        """Combine the values of the samples: inputs, one-hot labels or probabilities.

        Args:
            values: ``(B, ...)``, floating point.

        Returns:
            ``(B, ...)``: row i is ``sum_j shares[j, i] values[partners[j, i]]``.

        Raises:
            ValueError: The batch size is not that of the mixing.
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
        ValueError: An option is out of range.
    """
    check_positive(batch=batch, concentration=concentration)
    if images < 2:
        raise ValueError(f"a virtual sample combines at least 2 images, got {images}")
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
    the real samples are mixed, ``T log mix(softmax(f_t(x) / T))``. The two differ by Jensen's gap.

    Args:
        teacher: ``(B, ...) -> (B, C)``, in eval mode.
        x: The real samples ``(B, ...)``, already augmented and normalized: both networks must see the same mixture.
        mixing: How they are combined.
        temperature: T > 0.
        reading: ``on_mix`` or ``mixed_targets``, as above.

    Returns:
        ``(B, C)``, without a graph.

    Raises:
        ValueError: An option is out of range.
    """
    check_choice("reading", reading, ("on_mix", "mixed_targets"))
    check_temperature(temperature)
    if reading == "on_mix":
        return teacher(mixing.mix(x))
    log_p = torch.log_softmax(teacher(x) / temperature, 1)
    parts = log_p[mixing.partners] + mixing.shares.to(log_p).log()[..., None]
    return temperature * parts.logsumexp(0)
