"""Terrain generators: one dataclass per terrain with its published parameters and a ``profile`` method.

``difficulty`` in [0, 1] scales the size of a terrain's features (step height, gap width, slope, wall height): 0 gives
flat ground, 1 the parameters as given. Runs between features are not scaled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from typing_extensions import override

from policykd.envs.terrains.profiles import Profile

Range = tuple[float, float]
Difficulty = float | np.ndarray
"""One difficulty for all tracks, or one per track as a column (count, 1)."""


class Generator(Protocol):
    """Terrain parameters with a method that draws tracks."""

    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        """Draw ``count`` profiles of at least ``length`` m.

        Args:
            rng: source of randomness.
            count: number of tracks.
            length: shortest length, m.
            difficulty: size of the features in [0, 1], for all tracks or per track.

        Returns:
            The pieces of ground.
        """
        ...


@dataclass(frozen=True)
class Flat(Generator):
    """Level ground."""

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        return Profile.level(np.full((count, 1), length))


@dataclass(frozen=True)
class Incline(Generator):
    """One slope per track.

    Attributes:
        angle: inclination, drawn once per track, degrees; positive ones go up.
    """

    angle: Range = (20.0, 25.0)

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        angle = np.radians(difficulty * rng.uniform(*self.angle, (count, 1)))
        width = np.full((count, 1), length)
        return Profile(width, width * np.tan(angle), np.zeros_like(width))


@dataclass(frozen=True)
class Steps(Generator):
    """Flat runs with a step after each.

    Attributes:
        run: length of a flat run, m.
        height: height of a step, m; positive steps go up.
        high: second range of heights, used instead of ``height`` with probability 1/2, m; None for no second range.
    """

    run: Range = (1.0, 1.5)
    height: Range = (0.05, 0.15)
    high: Range | None = None

    @property
    def smallest(self) -> float:
        """Smallest extent along x of features with vertical edges, at full difficulty, m."""
        return self.run[0]

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        shape = (count, math.ceil(length / self.run[0]))
        height = rng.uniform(*self.height, shape)
        if self.high is not None:
            height = np.where(rng.random(shape) < 0.5, rng.uniform(*self.high, shape), height)
        height[:, 0] = 0.0  # the first run joins the start of the track
        return Profile(rng.uniform(*self.run, shape), np.zeros(shape), difficulty * height)


@dataclass(frozen=True)
class Stairs(Generator):
    """Flights of stairs, alternating up and down, with a landing before each.

    Attributes:
        run: length of a landing, m.
        tread: depth of a stair, drawn once per flight, m.
        height: height of a stair, drawn once per flight, m.
        stairs: number of stairs of a flight.
    """

    run: Range = (1.5, 2.5)
    tread: Range = (0.30, 0.40)
    height: Range = (0.12, 0.18)
    stairs: int = 6

    @property
    def smallest(self) -> float:
        """Smallest extent along x of features with vertical edges, at full difficulty, m."""
        return min(self.run[0], self.tread[0])

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        shape = (count, math.ceil(length / (self.run[0] + (self.stairs - 1) * self.tread[0])))
        first_down = rng.integers(2, size=(count, 1))
        direction = 1 - 2 * ((np.arange(shape[1]) + first_down) % 2)
        height = difficulty * direction * rng.uniform(*self.height, shape)
        landing, tread = rng.uniform(*self.run, shape), rng.uniform(*self.tread, shape)
        nothing = np.zeros(shape)
        # a flight's last stair leads to the next landing, the first landing joins the start of the track
        arrival = np.concatenate([nothing[:, :1], height[:, :-1]], axis=1)
        flight = [Profile(tread, nothing, height) for _ in range(self.stairs - 1)]
        return Profile.interleaved([Profile(landing, nothing, arrival), *flight])


@dataclass(frozen=True)
class Gaps(Generator):
    """Flat runs with a gap after each.

    Attributes:
        run: length of a flat run, m.
        width: width of a gap, m.
        depth: depth of a gap, m; not scaled by difficulty.
    """

    run: Range = (2.0, 2.5)
    width: Range = (0.25, 0.30)
    depth: Range = (0.85, 0.90)

    @property
    def smallest(self) -> float:
        """Smallest extent along x of features with vertical edges, at full difficulty, m."""
        return min(self.run[0], self.width[0])

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        n = math.ceil(length / self.run[0])
        depth = rng.uniform(*self.depth, (count, n))
        width = difficulty * rng.uniform(*self.width, (count, n))
        return _between(rng.uniform(*self.run, (count, n + 1)), width, -depth)


@dataclass(frozen=True)
class Walls(Generator):
    """Flat runs with a wall to step over after each.

    Attributes:
        run: length of a flat run, m.
        height: height of a wall, m.
        thickness: extent of a wall along x, m; not scaled by difficulty.
    """

    run: Range = (2.0, 4.0)
    height: Range = (0.05, 0.25)
    thickness: Range = (0.2, 0.2)

    @property
    def smallest(self) -> float:
        """Smallest extent along x of features with vertical edges, at full difficulty, m."""
        return min(self.run[0], self.thickness[0])

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        n = math.ceil(length / self.run[0])
        height = difficulty * rng.uniform(*self.height, (count, n))
        thickness = rng.uniform(*self.thickness, (count, n))
        return _between(rng.uniform(*self.run, (count, n + 1)), thickness, height)


@dataclass(frozen=True)
class Slopes(Generator):
    """Short pieces, each with its own slope.

    Attributes:
        spacing: length of a piece, m.
        angle: slope of a piece drawn independently, degrees; used when ``walk`` is None.
        walk: largest change of the grade (rise over run) from piece to piece. If it is given, the grade is TerrainRL's
            random walk: a step of U(0, walk), downward with probability (1 + (grade - middle) / half_width) / 2, so
            that it tends to the middle of ``band``.
        band: range of grades to which the random walk tends.
    """

    spacing: float = 0.10
    angle: Range = (-20.0, 20.0)
    walk: float | None = None
    band: Range = (-0.75, 0.75)

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        shape = (count, math.ceil(length / self.spacing))
        grade = np.tan(np.radians(rng.uniform(*self.angle, shape))) if self.walk is None else self._walk(rng, shape)
        width = np.full(shape, self.spacing)
        return Profile(width, difficulty * grade * width, np.zeros(shape))

    def _walk(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        assert self.walk is not None
        middle, half_width = sum(self.band) / 2, (self.band[1] - self.band[0]) / 2
        grade, now = np.empty(shape), np.full(shape[0], 0.0)
        step, coin = rng.uniform(0.0, self.walk, shape), rng.random(shape)
        for i in range(shape[1]):  # sequential by definition; vectorized over the tracks
            down = coin[:, i] < (1.0 + (now - middle) / half_width) / 2.0
            now = now + np.where(down, -step[:, i], step[:, i])
            grade[:, i] = now
        return grade


@dataclass(frozen=True)
class Mixed(Generator):
    """Portions of other terrains in random order, each between level lips.

    Attributes:
        portions: generators of the portions, drawn with equal probability.
        portion: shortest length of a portion, m.
        lip: level ground before and after a portion, m. Vertical edges are exact only next to level ground.
    """

    portions: tuple[Generator, ...] = field(default_factory=lambda: (Incline(), Steps(), Slopes(), Gaps()))
    portion: float = 3.0
    lip: float = 0.5

    @property
    def smallest(self) -> float | None:
        """Smallest extent along x of features with vertical edges, m; None if all portions are smooth."""
        sizes = [getattr(portion, "smallest", None) for portion in self.portions]
        return min((size for size in sizes if size is not None), default=None)

    @override
    def profile(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Profile:
        parts: list[Profile] = []
        lip = Profile.level(np.full((count, 1), self.lip))
        for _ in range(math.ceil(length / (self.portion + 2 * self.lip))):
            drawn = [g.profile(rng, count, self.portion, difficulty) for g in self.portions]
            choice = rng.integers(len(drawn), size=count)
            parts += [lip, Profile.where(choice, drawn), lip]
        return Profile.joined(parts)


def _between(run: np.ndarray, feature: np.ndarray, jump: np.ndarray) -> Profile:
    """Return run, feature, run, feature, ..., run: each feature begins with ``jump`` and ends with ``-jump``.

    Args:
        run: (count, n + 1) lengths of the runs, m.
        feature: (count, n) extents of the features, m.
        jump: (count, n) height of a feature relative to the runs, m.
    """
    nothing = np.zeros_like(jump)
    back = np.concatenate([np.zeros_like(jump[:, :1]), -jump[:, :-1]], axis=1)
    woven = Profile.interleaved([Profile(run[:, :-1], nothing, back), Profile(feature, nothing, jump)])
    return Profile.joined([woven, Profile(run[:, -1:], nothing[:, :1], -jump[:, -1:])])
