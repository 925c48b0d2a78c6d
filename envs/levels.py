"""Difficulty levels of a curriculum: one for all simulations, or one of its own for each.

It decides which graded tracks new episodes pick from; it draws nothing and knows no robot.
"""

from __future__ import annotations

from typing import Any

import torch

from policykd.envs.terrains.tracks import GRADED, graded_rows

_BAND = 0.1
"""Width of the band of difficulties below a simulation's own level, as a share of the terrain's own."""

_STEP = 0.2
"""Rise of a simulation's own level after a success."""

_PICKS = 2**20
"""Number of equally likely picks that are spread over the tracks of a simulation's own level."""


class SharedLevel:
    """One level for all simulations, which the training sets.

    Args:
        tracks: tracks of every terrain.
        graded: whether their difficulties are spread.
        floor: difficulty of the easiest track at level 1, as a share of the terrain's own.
    """

    def __init__(self, tracks: int, graded: bool, floor: float) -> None:
        self._tracks, self._graded, self._floor, self.value = tracks, graded, floor, 1.0

    def pick_range(self) -> tuple[int, int]:
        """Return the first number that a new episode may draw, and the one after the last."""
        return graded_rows(self._tracks, self.value, self._floor) if self._graded else (0, self._tracks)

    def tracks_of(self, picks: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return the tracks (m,) of the numbers drawn for the simulations ``ids``."""
        return picks

    def record(self, ids: torch.Tensor, success: torch.Tensor) -> None:
        """Take note of ended episodes; a shared level does not depend on them."""

    def snapshot(self) -> Any:
        """Return the state."""
        return self.value

    def restore(self, state: Any) -> None:
        """Continue from a :meth:`snapshot`."""
        self.value = state


class OwnLevels:
    """A level for every simulation, which its own episodes raise and lower (Rudin et al. 2021, section 3.2, adapted).

    After a success the level of a simulation rises by a fifth of the terrain's difficulty, after a failure it falls by
    so much that levels rest where the share ``balance`` succeeds. Unlike the recent episodes of all simulations, in
    which short failures are overrepresented after a rise and earlier, easier episodes before it, the episodes of one
    simulation are complete and belong to its level. Departure from the paper: there a robot that has left its tile
    rises and one that walked less than half of the commanded distance falls, and whatever solves the last level is put
    on a random one.

    Args:
        count: number of simulations.
        tracks: tracks of every terrain.
        floor: difficulty of the easiest track at level 1, as a share of the terrain's own.
        balance: share of successes at which levels rest, in (0, 1).
        device: device of the simulations.
    """

    def __init__(self, count: int, tracks: int, floor: float, balance: float, device: torch.device) -> None:
        self._tracks, self._floor = tracks, floor
        self._fall = _STEP * balance / (1.0 - balance)
        self.values = torch.ones(count, device=device)

    @property
    def value(self) -> float:
        """The mean level; setting it sets all of them."""
        return float(self.values.mean())

    @value.setter
    def value(self, level: float) -> None:
        self.values.fill_(level)

    def pick_range(self) -> tuple[int, int]:
        """Return the first number that a new episode may draw, and the one after the last."""
        return 0, _PICKS

    def tracks_of(self, picks: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return the tracks (m,) of the numbers drawn for the simulations ``ids``: those just below their levels."""
        levels, rising = self.values[ids].double(), GRADED * self._tracks
        last = (levels * rising).round().clamp_min(1).long()
        first = torch.minimum(((levels - _BAND).clamp_min(0.0) * rising).long(), last - 1)
        hardest = graded_rows(self._tracks, 1.0, self._floor)
        first, last = (torch.where(levels >= 1.0, row, rows) for row, rows in zip(hardest, (first, last), strict=True))
        return first + picks * (last - first) // _PICKS

    def record(self, ids: torch.Tensor, success: torch.Tensor) -> None:
        """Raise and lower the levels of the simulations ``ids`` by the success (m,) of their ended episodes."""
        change = torch.where(success, _STEP, -self._fall)
        self.values[ids] = (self.values[ids] + change).clamp(_BAND, 1.0)

    def snapshot(self) -> Any:
        """Return the state."""
        return self.values.clone()

    def restore(self, state: Any) -> None:
        """Continue from a :meth:`snapshot`."""
        self.values.copy_(state)
