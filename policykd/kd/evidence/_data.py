"""What experiments on prepared data share: the fields of a recipe, the draw of a pool, and cells that split it.

It may use prepared data and small networks; the systems' modules add the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.data.samples import Samples, read_samples
from policykd.kd.data.splits import hold_out, split_groups
from policykd.kd.experiments.system import Cell, Fit
from policykd.kd.networks.hidden_cnn import HiddenCNN
from policykd.kd.tasks.base import Split, stratified
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed

if TYPE_CHECKING:
    _Cell = Cell[Any]
else:
    _Cell = Cell


@dataclass(frozen=True)
class PreparedData:
    """Fields of recipes on prepared data.

    Attributes:
        data: File that ``policykd kd data`` wrote.
        pool: Most samples that a seed draws, the same share of every class; the recipe's shares split them.
    """

    data: str = ""
    pool: Annotated[int, Limits(10, 10**6)] = 3000


@dataclass(frozen=True)
class PreparedImages(PreparedData):
    """Fields of recipes on prepared images.

    Attributes:
        side: Height and width to which images are averaged down.
    """

    side: Annotated[int, Limits(4, 1024)] = 16


@lru_cache(maxsize=2)
def _read(path: str) -> Samples:
    if not path:
        raise ConfigError("this experiment needs prepared data: --data <file>, written by `policykd kd data <name>`")
    return read_samples(path)


def draw_pool(recipe: Any, seed: int, *, by_group: bool = False) -> list[Split]:
    """Draw samples and split them by the shares of a recipe: whole groups, or samples of every class.

    Inputs are standardized per channel with mean and deviation of the first part.

    Args:
        recipe: A recipe with ``data``, ``pool`` and ``shares`` and, for images, ``side``.
        seed: The cell's seed.
        by_group: Keep groups together.

    Raises:
        ConfigError: There is no file, the data have no groups, or they are images or series against expectation.
        DataFileError: The file is damaged.
    """
    samples = _read(recipe.data)
    rng, kept = generator(seed, "evidence", "pool"), []
    for label in range(len(samples.classes)):
        rows = rng.permutation(np.flatnonzero(samples.y == label))
        kept.append(rows[: max(len(recipe.shares), recipe.pool * len(rows) // len(samples.y))])
    rows = np.sort(np.concatenate(kept))
    x, y = torch.from_numpy(samples.x[rows].astype(np.float32)), samples.y[rows]
    if hasattr(recipe, "side"):
        if x.dim() != 4:
            raise ConfigError(
                f"{recipe.data} holds samples {tuple(x.shape[1:])}; this experiment needs images (C, H, W)"
            )
        x = F.adaptive_avg_pool2d(x, recipe.side)
    elif x.dim() != 3:
        raise ConfigError(f"{recipe.data} holds samples {tuple(x.shape[1:])}; this experiment needs series (C, T)")
    split_seed = integer_seed(seed, "evidence", "split")
    if by_group:
        if samples.groups is None:
            raise ConfigError(f"{recipe.data} has no groups (persons, speakers); this experiment holds groups out")
        parts = split_groups(samples.groups[rows], recipe.shares, split_seed)
    else:
        parts = stratified(y, recipe.shares, split_seed)
    whole = Split(_standardized(x, parts[0]), torch.from_numpy(y))
    return [whole.take(part) for part in parts]


def _standardized(x: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Standardize every channel with mean and deviation of some rows."""
    axes = (0, *range(2, x.dim()))
    return (x - x[rows].mean(axes, keepdim=True)) / x[rows].std(axes, keepdim=True).clamp_min(1e-6)


def leave_one_group(recipe: Any, seed: int) -> tuple[Split, Split]:
    """Return a draw of all groups but one, and all samples of that one, which is number ``seed`` modulo their number.

    Inputs are standardized per channel with mean and deviation of the first part; both parts know their groups.

    Args:
        recipe: A recipe with ``data`` and ``pool``.
        seed: The cell's seed.

    Raises:
        ConfigError: The file is missing, or the data have fewer than two groups.
        DataFileError: The file is damaged.
    """
    samples = _read(recipe.data)
    if samples.groups is None or len(samples.group_names) < 2:
        raise ConfigError(f"{recipe.data} has no groups (persons, speakers); this experiment leaves one of them out")
    name = samples.group_names[seed % len(samples.group_names)]
    rest, own = hold_out(samples.groups, samples.group_names, name)
    rng = generator(seed, "evidence", "pool")
    train = np.sort(rng.permutation(rest)[: recipe.pool])
    x = torch.from_numpy(samples.x.astype(np.float32))
    whole = Split(_standardized(x, train), torch.from_numpy(samples.y), torch.from_numpy(samples.groups))
    return whole.take(train), whole.take(own)


class ImageCell(_Cell):
    """A cell on images with small convolutional networks; put it in front of a system's own cell."""

    @override
    def splits(self) -> tuple[Split, Split]:
        train, *between, test = draw_pool(self.recipe, self.seed)
        if between:
            self.validation = between[0]
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> Any:
        return HiddenCNN((3, self.recipe.side, self.recipe.side), fit.hidden, classes=10)
