"""CutMix on inputs: a box of every image is that of its partner, the image at the other end of the batch.

Yun et al. (ICCV 2019, arXiv 1905.04899). A teacher that sees the mixed inputs gives their targets, so labels are not
mixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Box(NamedTuple):
    """A box of pixels, ends excluded.

    Attributes:
        top: First row.
        left: First column.
        bottom: Row after the last.
        right: Column after the last.
    """

    top: int
    left: int
    bottom: int
    right: int


def cut_box(side: int, kept: float, center: tuple[int, int]) -> Box:
    """Return the box whose area is about one less the kept share, clipped to the image.

    Args:
        side: Height and width of the images.
        kept: Share of the own image, lambda; the box has the side ``side sqrt(1 - lambda)``.
        center: Row and column of the middle.
    """
    half = int(side * (1.0 - kept) ** 0.5) // 2
    ends = [(max(0, place - half), min(side, place + half)) for place in center]
    return Box(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def draw_box(side: int, rng: np.random.Generator, *, concentration: float = 0.25) -> Box:
    """Return a random box: lambda from Beta(a, a), the middle anywhere."""
    row, column = rng.integers(0, side, 2)
    return cut_box(side, float(rng.beta(concentration, concentration)), (int(row), int(column)))


def cutmix(x: Tensor, box: Box) -> Tensor:
    """Return images ``(B, C, H, W)`` with the box of their partners in the reversed batch, as a new tensor."""
    mixed = x.clone()
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed[..., rows, columns] = x.flip(0)[..., rows, columns]
    return mixed
