"""Gramian angular fields: a series as a picture of the angles between its steps (Wang and Oates 2015).

It works on tensors alone; gradients flow to the series.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from policykd.kd.options import check_choice

Field = Literal["sum", "difference"]


def scale_series(series: Tensor) -> Tensor:
    """Return series ``(..., T)`` scaled to [-1, 1] one by one; a constant series becomes 0."""
    low, high = series.amin(-1, keepdim=True), series.amax(-1, keepdim=True)
    spread = high - low
    scaled = 2.0 * (series - low) / torch.where(spread > 0, spread, torch.ones_like(spread)) - 1.0
    return torch.where(spread > 0, scaled, torch.zeros_like(scaled)).clamp(-1.0, 1.0)


def angular_field(series: Tensor, kind: Field = "sum") -> Tensor:
    """Return the Gramian angular field of series ``(..., T)``.

    With ``a`` the series scaled to [-1, 1] and ``phi = arccos a``, the sum field is ``cos(phi_u + phi_v)`` and the
    difference field ``sin(phi_u - phi_v)``.

    Args:
        series: Series, for example ``(B, C, T)``.
        kind: Which field.

    Returns:
        Pictures ``(..., T, T)``: symmetric for sums, antisymmetric for differences.

    Raises:
        ConfigError: The kind is unknown.
    """
    check_choice("kind", kind, ("sum", "difference"))
    cosine = scale_series(series)
    sine = (1.0 - cosine.square()).clamp_min(0.0).sqrt()
    own, other = cosine[..., :, None], cosine[..., None, :]
    own_sine, other_sine = sine[..., :, None], sine[..., None, :]
    return own * other - own_sine * other_sine if kind == "sum" else own_sine * other - own * other_sine
