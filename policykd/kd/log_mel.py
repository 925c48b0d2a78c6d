"""Log-mel frames of sound in torch, the usual input of networks for speech and sounds.

It depends on torch alone, so that a student can compute its input on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.numerics import full_precision


def mel(frequency: float | Tensor) -> Tensor:
    """Return frequencies (Hz) on the mel scale ``2595 log10(1 + f / 700)`` (O'Shaughnessy 1987)."""
    return 2595.0 * torch.log10(1.0 + torch.as_tensor(frequency, dtype=torch.float64) / 700.0)


def from_mel(value: Tensor) -> Tensor:
    """Return the frequencies (Hz) of values on the mel scale."""
    return 700.0 * (10.0 ** (value / 2595.0) - 1.0)


def mel_filters(rate: float, size: int, mels: int, lowest: float, highest: float) -> Tensor:
    """Return triangular filters ``(mels, size // 2 + 1)`` of height one, equally spaced on the mel scale.

    Filter k rises from corner k to corner k + 1 and falls to corner k + 2.

    Args:
        rate: Sample rate, Hz.
        size: Length of the Fourier transform.
        mels: Number of filters.
        lowest: First corner, Hz.
        highest: Last corner, Hz.

    Raises:
        ConfigError: A filter covers no frequency of the transform.
    """
    low, high = (float(mel(corner)) for corner in (lowest, highest))
    corners = from_mel(torch.linspace(low, high, mels + 2, dtype=torch.float64))
    bins = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    if empty := int((filters.sum(1) == 0).sum()):
        raise ConfigError(f"{empty} of {mels} mel filters cover no frequency; use fewer mels or a longer window")
    return filters


class LogMel(nn.Module):
    """Turn sound into ``log(max(mel energies, floor))``.

    Frames are weighted by a periodic Hann window and are not padded, so frame t covers the samples ``t hop`` to
    ``t hop + window``. There are no parameters; gradients flow to the sound.

    Args:
        rate: Sample rate, Hz.
        mels: Number of mel bands.
        window: Length of a frame, seconds.
        hop: Seconds between the beginnings of two frames.
        lowest: Lowest frequency, Hz.
        highest: Highest frequency, Hz; half the rate if None.
        floor: Smallest energy, so that silence is finite.

    Raises:
        ConfigError: A value is out of range.
    """

    filters: Tensor
    weight: Tensor

    def __init__(
        self,
        rate: float,
        *,
        mels: int = 40,
        window: float = 0.032,
        hop: float = 0.016,
        lowest: float = 20.0,
        highest: float | None = None,
        floor: float = 1e-8,
    ) -> None:
        super().__init__()
        highest = rate / 2.0 if highest is None else highest
        check_range("highest", highest, lowest + 1.0, rate / 2.0, "Hz")
        check_range("hop", hop, 1.0 / rate, 60.0, "s")
        check_range("window", window, 2.0 / rate, 60.0, "s")
        check_range("mels", mels, 1, 10_000)
        check_range("floor", floor, 1e-30, 1.0)
        self.size, self.hop, self.floor = round(window * rate), round(hop * rate), floor
        self.register_buffer("weight", torch.hann_window(self.size, dtype=torch.float64).float(), persistent=False)
        filters = mel_filters(rate, self.size, mels, lowest, highest)
        self.register_buffer("filters", filters.float(), persistent=False)

    def frames(self, samples: int) -> int:
        """Return the number of frames of that number of samples."""
        return 1 + (samples - self.size) // self.hop if samples >= self.size else 0

    @full_precision
    def forward(self, sound: Tensor) -> Tensor:
        """Map sound ``(B, samples)`` to log-mel frames ``(B, mels, frames)``.

        Raises:
            ValueError: The sound is not ``(B, samples)`` or shorter than one frame.
        """
        if sound.dim() != 2 or sound.shape[1] < self.size:
            raise ValueError(f"sound must be (B, samples) with at least {self.size} samples, got {tuple(sound.shape)}")
        pieces = sound.unfold(1, self.size, self.hop) * self.weight.to(sound.dtype)
        power = torch.fft.rfft(pieces).abs().square()
        energies = power @ self.filters.to(power.dtype).T
        return energies.clamp_min(self.floor).log().transpose(1, 2)

    def extra_repr(self) -> str:
        """Describe the sizes in samples."""
        return f"bands={len(self.filters)}, size={self.size}, hop={self.hop}, floor=1e{math.log10(self.floor):g}"
