"""Profiles: ground as a list of pieces, each with a width, a rise along it and a jump at its left edge.

It knows arrays of sizes only; robots and engines are unknown to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Profile:
    """``count`` tracks of ``pieces`` pieces of ground each, from left to right.

    Attributes:
        width: (count, pieces) length of each piece along x, m, >= 0. Pieces of width 0 are ignored.
        rise: (count, pieces) height gained along the piece, m.
        jump: (count, pieces) height gained at the piece's left edge, a vertical edge, m.
    """

    width: np.ndarray
    rise: np.ndarray
    jump: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """(count,) length of each track, m."""
        return self.width.sum(axis=1)

    @classmethod
    def level(cls, width: np.ndarray) -> Profile:
        """Return flat pieces of the given widths, (count, pieces) in m."""
        return cls(width, np.zeros_like(width), np.zeros_like(width))

    @classmethod
    def joined(cls, parts: Sequence[Profile]) -> Profile:
        """Return the concatenation of the parts."""
        return cls(
            np.concatenate([p.width for p in parts], axis=1),
            np.concatenate([p.rise for p in parts], axis=1),
            np.concatenate([p.jump for p in parts], axis=1),
        )

    @classmethod
    def interleaved(cls, columns: Sequence[Profile]) -> Profile:
        """Return piece 0 of every column, then piece 1 of every column, and so on; columns have equal shapes."""

        def weave(name: str) -> np.ndarray:
            stacked = np.stack([getattr(c, name) for c in columns], axis=2)
            return stacked.reshape(stacked.shape[0], -1)

        return cls(weave("width"), weave("rise"), weave("jump"))

    @classmethod
    def where(cls, choice: np.ndarray, options: Sequence[Profile]) -> Profile:
        """Return, per row, the option with the index ``choice`` (count,), padded with pieces of width 0."""
        pieces = max(o.width.shape[1] for o in options)

        def pick(name: str) -> np.ndarray:
            padded = [np.pad(getattr(o, name), ((0, 0), (0, pieces - o.width.shape[1]))) for o in options]
            return np.stack(padded)[choice, np.arange(len(choice))]

        return cls(pick("width"), pick("rise"), pick("jump"))
