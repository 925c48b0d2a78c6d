"""Augmentations of multichannel series ``(B, C, T)``, by name: what trainers take as ``augment``.

    augment = SERIES_AUGMENTATIONS["jitter"](deviation=0.05)
    Distiller(...).fit(train, augment=augment)

Every sample gets a draw of its own from the generator that the caller owns; shapes and types stay. Sizes are those of
standardized series (deviation 1). Sources: Um et al., ICMI 2017 (jitter, scaling, rotation, permutation, both warps);
Le Guennec et al., AALTD 2016 (window slicing); Jeon et al., IEEE IoT-J 2022 (removal, shift).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from policykd.errors import ConfigError, check_range
from policykd.names import Registry


class SeriesAugmentation(Protocol):
    """A change of series ``(B, C, T)`` that draws from a generator."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return changed series of the same shape and type."""
        ...


SERIES_AUGMENTATIONS: Registry[Callable[..., SeriesAugmentation]] = Registry("series augmentation")
"""Classes of augmentations by name; calling one with its options makes the augmentation."""
K = TypeVar("K", bound=type)


def series_augmentation(name: str) -> Callable[[K], K]:
    """Decorate a class of augmentations: it becomes known under a name."""

    def enter(kind: K) -> K:
        SERIES_AUGMENTATIONS.register(name, kind)
        return kind

    return enter


def check_series(x: Tensor) -> None:
    """Raise `ValueError` unless the series are floating-point ``(B, C, T)`` with at least two steps."""
    if x.dim() != 3 or not x.is_floating_point() or x.shape[2] < 2:
        raise ValueError(f"series must be floating-point (B, C, T) with T >= 2, got {x.dtype} {tuple(x.shape)}")


def interpolate(x: Tensor, places: Tensor) -> Tensor:
    """Return series ``(B, C, T')`` at places ``(B, T')`` in [0, T - 1], linearly between the steps."""
    low = places.floor().clamp(0, x.shape[2] - 2)
    share = (places - low).to(x.dtype)[:, None]
    index = low.long()[:, None].expand(-1, x.shape[1], -1)
    return x.gather(2, index) * (1.0 - share) + x.gather(2, index + 1) * share


def _normal(shape: tuple[int, ...], x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(x)


def smooth_curve(batch: int, channels: int, steps: int, knots: int, generator: Generator) -> Tensor:
    """Return smooth random curves ``(B, C, T)``: normal values at equally spaced knots, cosine steps between them."""
    heights = torch.randn(batch, channels, knots + 2, generator=generator)
    places = torch.linspace(0.0, knots + 1.0, steps)
    low = places.floor().clamp_max(knots).long()
    share = 0.5 - 0.5 * torch.cos(torch.pi * (places - low))
    return heights[..., low] * (1.0 - share) + heights[..., low + 1] * share


@series_augmentation("jitter")
@dataclass(frozen=True)
class Jitter:
    """Add white noise: a noisy sensor.

    Attributes:
        deviation: Standard deviation of the noise.
    """

    deviation: float = 0.05

    def __post_init__(self) -> None:
        check_range("deviation", self.deviation, 0.0, 1e6)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return ``x + e``."""
        check_series(x)
        return x + self.deviation * _normal(tuple(x.shape), x, generator)


@series_augmentation("scaling")
@dataclass(frozen=True)
class Scaling:
    """Multiply every channel by a factor near one: another sensitivity or strength.

    Attributes:
        deviation: Standard deviation of the factors.
    """

    deviation: float = 0.1

    def __post_init__(self) -> None:
        check_range("deviation", self.deviation, 0.0, 1e6)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return ``x f`` with one factor per sample and channel."""
        check_series(x)
        return x * (1.0 + self.deviation * _normal((*x.shape[:2], 1), x, generator))


@series_augmentation("rotation")
@dataclass(frozen=True)
class Rotation:
    """Rotate triples of channels in space by one random rotation per sample: the sensor is worn differently.

    Attributes:
        angle: Largest angle in degrees; the axis is uniform on the sphere.

    Raises:
        ValueError: At the call, if the number of channels is not a multiple of three.
    """

    angle: float = 30.0

    def __post_init__(self) -> None:
        check_range("angle", self.angle, 0.0, 180.0, "degrees")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the rotated series."""
        check_series(x)
        if x.shape[1] % 3:
            raise ValueError(f"rotation needs channels in triples (x, y, z), got {x.shape[1]} channels")
        axis = torch.nn.functional.normalize(torch.randn(len(x), 3, generator=generator), dim=1)
        angle = torch.deg2rad(self.angle * (2.0 * torch.rand(len(x), generator=generator) - 1.0))
        cross = torch.zeros(len(x), 3, 3)
        cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
        cross = cross - cross.transpose(1, 2)
        sine, rest = angle.sin()[:, None, None], (1.0 - angle.cos())[:, None, None]
        turn = (torch.eye(3) + sine * cross + rest * (cross @ cross)).to(x)  # Rodrigues' formula
        return torch.einsum("bij,bkjt->bkit", turn, x.unflatten(1, (-1, 3))).flatten(1, 2)


@series_augmentation("permutation")
@dataclass(frozen=True)
class Permutation:
    """Cut every series into pieces of random length and put them together in random order.

    Attributes:
        pieces: Number of pieces, at least 2.
    """

    pieces: int = 4

    def __post_init__(self) -> None:
        check_range("pieces", self.pieces, 2, 10_000)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series in another order of its pieces."""
        check_series(x)
        steps = x.shape[2]
        if self.pieces > steps:
            raise ConfigError(f"pieces is {self.pieces}; it must be at most the number of steps, {steps}")
        return torch.stack([one[:, self._order(steps, generator)] for one in x])

    def _order(self, steps: int, generator: Generator) -> Tensor:
        cuts = torch.randperm(steps - 1, generator=generator)[: self.pieces - 1].sort().values + 1
        parts = torch.arange(steps).tensor_split(cuts)
        return torch.cat([parts[k] for k in torch.randperm(self.pieces, generator=generator).tolist()])


@series_augmentation("time_warp")
@dataclass(frozen=True)
class TimeWarp:
    """Speed up and slow down: time is stretched by a smooth positive curve, beginning and end stay.

    Attributes:
        deviation: Standard deviation of the logarithm of the speed.
        knots: Number of inner knots of the curve.
    """

    deviation: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        check_range("deviation", self.deviation, 0.0, 5.0)
        check_range("knots", self.knots, 0, 10_000)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series in warped time."""
        check_series(x)
        batch, _, steps = x.shape
        speed = (self.deviation * smooth_curve(batch, 1, steps - 1, self.knots, generator)[:, 0]).exp()
        passed = torch.cat([torch.zeros(batch, 1), speed.cumsum(1)], 1)
        return interpolate(x, ((steps - 1) * passed / passed[:, -1:]).clamp_max(steps - 1.0).to(x.device))


@series_augmentation("magnitude_warp")
@dataclass(frozen=True)
class MagnitudeWarp:
    """Multiply every channel by a smooth curve near one.

    Attributes:
        deviation: Standard deviation of the curve at its knots.
        knots: Number of inner knots of the curve.
    """

    deviation: float = 0.2
    knots: int = 4

    def __post_init__(self) -> None:
        check_range("deviation", self.deviation, 0.0, 1e6)
        check_range("knots", self.knots, 0, 10_000)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return ``x f(t)`` with one curve per sample and channel."""
        check_series(x)
        batch, channels, steps = x.shape
        return x * (1.0 + self.deviation * smooth_curve(batch, channels, steps, self.knots, generator).to(x))


@series_augmentation("window_slice")
@dataclass(frozen=True)
class WindowSlice:
    """Keep a random window of every series and stretch it to the full length.

    Attributes:
        share: Length of the window as a share of the series, above 0 and at most 1.
    """

    share: float = 0.9

    def __post_init__(self) -> None:
        check_range("share", self.share, 1e-3, 1.0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the stretched windows."""
        check_series(x)
        last = x.shape[2] - 1.0
        start = last * (1.0 - self.share) * torch.rand(len(x), 1, generator=generator)
        return interpolate(x, (start + torch.linspace(0.0, last * self.share, x.shape[2])).to(x.device))


@series_augmentation("channel_drop")
@dataclass(frozen=True)
class ChannelDrop:
    """Set channels to zero: a sensor that fails. At least one channel of every sample stays.

    Attributes:
        share: Probability that a channel is dropped, at least 0 and below 1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.0, 0.999)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series without the dropped channels."""
        check_series(x)
        draws = torch.rand(x.shape[:2], generator=generator)
        kept = (draws >= self.share) | (draws == draws.amax(1, keepdim=True))
        return x * kept[..., None].to(x)


@series_augmentation("sign_flip")
@dataclass(frozen=True)
class SignFlip:
    """Change the sign of all channels of a sample: a sensor that is worn upside down.

    Attributes:
        share: Probability of the change.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.0, 1.0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series, some with changed sign."""
        check_series(x)
        flipped = torch.rand(len(x), 1, 1, generator=generator) < self.share
        return torch.where(flipped.to(x.device), -x, x)


@series_augmentation("removal")
@dataclass(frozen=True)
class Removal:
    """Set a block of steps to zero in all channels: a sensor that drops out for a while.

    Attributes:
        share: Longest block as a share of the series; lengths and places are uniform.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.0, 1.0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series with a gap."""
        check_series(x)
        draws, steps = torch.rand(2, len(x), 1, 1, generator=generator), x.shape[2]
        length = (draws[0] * (int(self.share * steps) + 1)).long()
        start, place = (draws[1] * (steps - length + 1)).long(), torch.arange(steps)
        gap = (place >= start) & (place < start + length)
        return x.masked_fill(gap.to(x.device), 0.0)


@series_augmentation("shift")
@dataclass(frozen=True)
class Shift:
    """Move every series on in time; the steps that leave at the end come back at the beginning.

    Attributes:
        share: Longest shift as a share of the series.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.0, 1.0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the shifted series."""
        check_series(x)
        steps = x.shape[2]
        by = (torch.rand(len(x), 1, 1, generator=generator) * (int(self.share * steps) + 1)).long()
        index = (torch.arange(steps) - by) % steps
        return x.gather(2, index.expand(-1, x.shape[1], -1).to(x.device))


@series_augmentation("relative_noise")
@dataclass(frozen=True)
class RelativeNoise:
    """Add white noise whose deviation is a share of that of its sample and channel.

    Attributes:
        share: Deviation of the noise as a share.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.0, 1e6)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return ``x + share std(x) e``."""
        check_series(x)
        return x + self.share * x.std(2, keepdim=True) * _normal(tuple(x.shape), x, generator)


@dataclass(frozen=True)
class Chain:
    """Apply augmentations one after the other.

    Attributes:
        parts: The augmentations in order.
    """

    parts: tuple[Any, ...]

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series after all augmentations."""
        for part in self.parts:
            x = part(x, generator)
        return x


@dataclass(frozen=True)
class OneOf:
    """Apply one augmentation to every sample, drawn from several.

    Attributes:
        parts: The augmentations to draw from.
    """

    parts: tuple[Any, ...]

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the series, each after one augmentation."""
        which = torch.randint(len(self.parts), (len(x), 1, 1), generator=generator).to(x.device)
        changed = torch.stack([part(x, generator) for part in self.parts])
        return changed.gather(0, which.expand(-1, *x.shape[1:])[None])[0]
