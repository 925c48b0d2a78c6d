"""Many small patches of one picture: random crops, rotations, shears and colors, for networks that see no other data.

The generator of Asano, Rupprecht and Vedaldi (ICLR 2020, arXiv 1904.13132). It works on tensors alone; a patch is read
in a single bilinear sampling of a pyramid of the picture, instead of a resize that is followed by a rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ConfigError, check_range
from policykd.seeding import generator


@dataclass(frozen=True)
class PatchConfig:
    """How patches are drawn.

    Attributes:
        side: Height and width of a patch in pixels.
        zoom: Largest ratio of the areas of the first crop and a patch's crop; the share is uniform above its inverse.
        aspect: Largest ratio of a crop's sides; log-uniform down to its inverse.
        rotation: Largest rotation, degrees.
        shear: Largest shear, degrees.
        jitter: Probability that the colors of a patch are changed.
        strength: Largest relative change of brightness, contrast and saturation.

    Raises:
        ConfigError: A field is out of range.
    """

    side: int = 32
    zoom: float = 500.0
    aspect: float = 4.0 / 3.0
    rotation: float = 30.0
    shear: float = 30.0
    jitter: float = 0.5
    strength: float = 0.4

    def __post_init__(self) -> None:
        check_range("side", self.side, 1, 10_000)
        check_range("zoom", self.zoom, 1.0, 1e9)
        check_range("aspect", self.aspect, 1.0, 100.0)
        check_range("rotation", self.rotation, 0.0, 180.0)
        check_range("shear", self.shear, 0.0, 80.0)
        check_range("jitter", self.jitter, 0.0, 1.0)
        check_range("strength", self.strength, 0.0, 1.0)


@dataclass(frozen=True)
class Crops:
    """Where patches are in a picture.

    Attributes:
        center: Centers ``(N, 2)``, x and y in pixels.
        size: Width and height ``(N, 2)`` of the crops in pixels, before rotation.
        turn: Linear maps ``(N, 2, 2)`` of rotation and shear.
    """

    center: np.ndarray
    size: np.ndarray
    turn: np.ndarray


def draw_crops(height: int, width: int, count: int, config: PatchConfig, seed: int, worker: int = 0) -> Crops:
    """Draw crops: a square of half the shorter side anywhere, and in it a crop of random area and aspect.

    Args:
        height: Height of the picture in pixels.
        width: Its width.
        count: Number of crops.
        config: How they are drawn; a crop that does not fit into the square is drawn again.
        seed: Seeds the draws.
        worker: Part of a larger set; parts differ.
    """
    rng, square = generator(seed, "patches", worker), min(height, width) // 2
    sizes = np.empty((0, 2))
    while len(sizes) < count:
        area = square**2 * rng.uniform(1.0 / config.zoom, 1.0, 2 * count)
        ratio = np.exp(rng.uniform(-math.log(config.aspect), math.log(config.aspect), 2 * count))
        drawn = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], 1)
        sizes = np.concatenate([sizes, drawn[(drawn <= square).all(1)]])
    size = sizes[:count]
    corner = rng.uniform(size=(count, 2)) * (np.array([width, height]) - square)
    center = corner + size / 2 + rng.uniform(size=(count, 2)) * (square - size)
    angle, shear = (np.radians(rng.uniform(-most, most, count)) for most in (config.rotation, config.shear))
    cosine, sine, skew = np.cos(angle), np.sin(angle), np.tan(shear)
    turn = np.stack([cosine, cosine * skew - sine, sine, sine * skew + cosine], 1).reshape(-1, 2, 2)
    return Crops(center, size, turn)


def read_patches(picture: Tensor, crops: Crops, side: int) -> Tensor:
    """Return the patches ``(N, C, side, side)`` of a picture ``(C, H, W)``; what is outside the picture is black.

    A patch shows the middle of its crop, whose corners a rotation would leave: ``1 / sqrt(2)`` of its sides.

    Raises:
        ConfigError: The picture is not ``(C, H, W)``.
    """
    if picture.dim() != 3:
        raise ConfigError(f"a picture must be (C, H, W), got {tuple(picture.shape)}")
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2).double() / math.sqrt(2.0)
    turned = grid @ torch.from_numpy(crops.turn).transpose(1, 2)
    places = torch.from_numpy(crops.center)[:, None] + turned * torch.from_numpy(crops.size)[:, None] / 2
    height, width = picture.shape[1:]
    scaled = places / torch.tensor([width, height]) * 2 - 1
    levels = np.floor(np.log2(np.maximum(crops.size.max(1) / math.sqrt(2.0) / side, 1.0))).astype(int)
    found = torch.empty(len(scaled), picture.shape[0], side, side)
    for level in np.unique(levels):
        rows = torch.from_numpy(np.flatnonzero(levels == level))
        small = F.avg_pool2d(picture, 2 ** int(level), ceil_mode=True) if level else picture
        seen = scaled[rows].reshape(len(rows) * side, side, 2).float()[None]
        sampled = F.grid_sample(small[None], seen, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        found[rows] = sampled.reshape(-1, len(rows), side, side).transpose(0, 1)
    return found


def change_colors(patches: Tensor, config: PatchConfig, seed: int) -> Tensor:
    """Return patches ``(N, C, H, W)`` of which some have another brightness, contrast and saturation, in [0, 1]."""
    rng = generator(seed, "colors")
    chosen = torch.from_numpy(rng.uniform(size=len(patches)) < config.jitter)[:, None, None, None]
    low, high = 1.0 - config.strength, 1.0 + config.strength
    factors = torch.from_numpy(rng.uniform(low, high, (3, len(patches), 1, 1, 1))).float()
    out = patches * factors[0]
    out = (out - out.mean((1, 2, 3), keepdim=True)) * factors[1] + out.mean((1, 2, 3), keepdim=True)
    gray = out.mean(1, keepdim=True)
    out = gray + (out - gray) * factors[2]
    return torch.where(chosen, out.clamp(0.0, 1.0), patches)


def make_patches(picture: Tensor, count: int, config: PatchConfig = PatchConfig(), *, seed: int) -> Tensor:
    """Return random patches ``(count, C, side, side)`` of a picture ``(C, H, W)`` in [0, 1]; half of them upside down.

    Args:
        picture: The picture.
        count: Number of patches.
        config: How they are drawn.
        seed: Seeds the draws; equal seeds give equal patches.
    """
    _, height, width = picture.shape
    crops = draw_crops(height, width, count, config, seed)
    patches = read_patches(picture, crops, config.side)
    flipped = torch.from_numpy(generator(seed, "flips").uniform(size=count) < 0.5)[:, None, None, None]
    return change_colors(torch.where(flipped, patches.flip(2), patches), config, seed)
