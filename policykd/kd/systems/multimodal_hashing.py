"""Hashing of two modalities into one Hamming space by coupled siamese networks, against one coupling and CCA.

Masci, Bronstein, Bronstein, Schmidhuber, Multimodal Similarity-Preserving Hashing (TPAMI 36(4), 2014, arXiv 1207.1522).
One network per modality, with tanh outputs whose signs are the code. Pairs across modalities and, with weight alpha,
pairs within each are drawn together if their labels agree and are pushed apart up to a margin if not. Retrieval and its
metrics are in ``policykd.kd.hashing``.

Departures: the margin is the square root of the number of bits and alpha is 0.5, since the paper's values could not be
read. The modalities here are the left and the right half of a digit; ``policykd.kd.evidence.multimodal_hashing`` has
spoken and written digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import digits_rows
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Weight
from policykd.kd.experiments.system import System, higher
from policykd.kd.hashing import mean_average_precision, pack_codes, precision_within
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.loop import seeded, train_classifier
from policykd.numerics import Reduction, reduce_loss
from policykd.plain import Limits, check_limits
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class HashingRecipe:
    """Two modalities with labels, codes of several lengths, and the networks that make them.

    Attributes:
        shares: Shares for training and testing.
        bits: Lengths of the codes; the claims are about the second, the others show the trend.
        hidden: Width of the hidden layer of every network.
        train_steps: Optimizer steps.
        pairs: Pairs of each kind per step, half of them of one label.
        rate: Learning rate of Adam.
        alpha: Weight of the pairs within a modality.
        radius: Hamming radius of the precision.
        classifier_epochs: Epochs of the classifiers whose decisions are the last baseline.

    Raises:
        ConfigError: A field is out of range.
    """

    shares: tuple[float, ...] = (0.5565, 0.4435)
    bits: tuple[int, int, int] = (8, 16, 32)
    hidden: Annotated[int, Limits(1, 10_000)] = 64
    train_steps: Annotated[int, Limits(1, 10**6)] = 1000
    pairs: Annotated[int, Limits(2, 10_000)] = 64
    rate: Scale = 1e-3
    alpha: Weight = 0.5
    radius: Annotated[int, Limits(0, 64)] = 2
    classifier_epochs: Annotated[int, Limits(1, 10_000)] = 30

    def __post_init__(self) -> None:
        check_limits(self)
        for bits in self.bits:
            check_range("bits", bits, 1, 1024)
        if list(self.bits) != sorted(set(self.bits)):
            raise ConfigError(f"bits must be ascending lengths, got {self.bits}")


@dataclass(frozen=True)
class Modalities:
    """Training and test samples of both modalities, rows ``(N, D)`` with labels, and matched training rows.

    Attributes:
        train: Training samples of both modalities.
        test: Test samples, in random order: both queries and database.
        matched: Positions ``(P, 2)`` of training samples that belong together.
    """

    train: tuple[Split, Split]
    test: tuple[Split, Split]
    matched: np.ndarray


def pair_loss(first: Tensor, second: Tensor, same: Tensor, *, margin: float, reduction: Reduction = "mean") -> Tensor:
    """Return ``s d**2 / 2 + (1 - s) max(0, M - d)**2 / 2`` of pairs of codes ``(B, m)`` at distance d.

    Args:
        first: Codes of the first of each pair.
        second: Codes of the second.
        same: s, whether a pair belongs together ``(B,)``.
        margin: M, the distance beyond which other pairs are far enough.
        reduction: Reduction of the values ``(B,)``.
    """
    square = (first - second).square().sum(-1)
    distance = (square + 1e-9).sqrt()  # its gradient is finite at 0
    apart = (margin - distance).clamp_min(0.0).square()
    return reduce_loss(0.5 * torch.where(same, square, apart), reduction)


def draw_pairs(
    first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions in two lists of labels and whether their labels agree: they do in half of the pairs.

    Args:
        first: Labels ``(N,)``.
        second: Labels ``(M,)``.
        count: Number of pairs.
        rng: Source of the draw.

    Raises:
        ConfigError: A label of the first list is missing in the second, or there is only one label.
    """
    order = np.argsort(second, kind="stable")
    low, high = (np.searchsorted(second[order], first, side) for side in ("left", "right"))
    if (low == high).any() or (high - low == len(second)).any():
        raise ConfigError("every label needs samples in both modalities, and there must be two labels or more")
    rows, same = rng.integers(0, len(first), count), np.arange(count) < count // 2
    begin, size = low[rows], high[rows] - low[rows]  # the block of the row's label in the sorted list
    drawn = (rng.uniform(size=count) * np.where(same, size, len(second) - size)).astype(np.int64)
    return rows, order[np.where(same, begin + drawn, drawn + size * (drawn >= begin))], same


def coupled_loss(
    codes: Callable[[int, np.ndarray], Tensor],
    labels: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    *,
    pairs: int,
    margin: float,
    alpha: float,
) -> Tensor:
    """Return ``L_XY + alpha (L_X + L_Y)`` on pairs that are drawn again at every call.

    Args:
        codes: ``(modality 0 or 1, positions) -> codes (B, m)``.
        labels: Labels of both modalities.
        rng: Source of the pairs; as many are drawn at ``alpha = 0``, so that arms stay paired.
        pairs: Pairs of each kind.
        margin: Margin of all kinds.
        alpha: Weight of the pairs within a modality.
    """
    total = torch.zeros(())
    for weight, one, other in ((1.0, 0, 1), (alpha, 0, 0), (alpha, 1, 1)):
        rows, columns, same = draw_pairs(labels[one], labels[other], pairs, rng)
        if weight:
            drawn = codes(one, rows), codes(other, columns)
            total = total + weight * pair_loss(*drawn, torch.from_numpy(same), margin=margin)
    return total


class HashNetwork(nn.Module):
    """Rows to codes in (-1, 1): one hidden layer, tanh everywhere.

    Args:
        inputs: Width of a row.
        hidden: Width of the hidden layer.
        bits: Length of the code.
    """

    def __init__(self, inputs: int, hidden: int, bits: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, bits), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, D)`` to ``(B, m)``."""
        return self.net(x)


Codes = Callable[[int, Tensor], np.ndarray]
"""``(modality, rows) -> real codes (N, m)``."""


def trained_codes(data: Modalities, recipe: HashingRecipe, seed: int, *, bits: int, alpha: float) -> Codes:
    """Return the codes of two networks that were trained together; equal seeds see equal pairs."""
    widths = [split.x.shape[1] for split in data.train]
    networks = [
        seeded(partial(HashNetwork, width, recipe.hidden, bits), seed, "multimodal_hashing", place)
        for place, width in enumerate(widths)
    ]
    optimizer = torch.optim.Adam([p for one in networks for p in one.parameters()], lr=recipe.rate)
    rng = generator(seed, "multimodal_hashing", "pairs")
    labels = (data.train[0].y.numpy(), data.train[1].y.numpy())
    for _ in range(recipe.train_steps):
        optimizer.zero_grad()
        loss = coupled_loss(
            lambda place, rows: networks[place](data.train[place].x[torch.from_numpy(rows)]),
            labels,
            rng,
            pairs=recipe.pairs,
            margin=math.sqrt(bits),
            alpha=alpha,
        )
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def codes(place: int, x: Tensor) -> np.ndarray:
        return networks[place](x).numpy()

    return codes


def correlated_codes(data: Modalities, *, bits: int) -> Codes:
    """Return codes of canonical correlation analysis on the matched rows, by their most correlated directions."""
    from sklearn.cross_decomposition import CCA

    x, y = (split.x[torch.from_numpy(data.matched[:, k])].numpy() for k, split in enumerate(data.train))
    fitted = CCA(n_components=min(bits, x.shape[1], y.shape[1]), max_iter=1000).fit(x, y)
    shifts, turns = (x.mean(0), y.mean(0)), (fitted.x_rotations_, fitted.y_rotations_)
    return lambda place, rows: (rows.numpy() - shifts[place]) @ turns[place]


def random_codes(data: Modalities, seed: int, *, bits: int) -> Codes:
    """Return codes of random projections, one per modality: what no learning gives."""
    rng = generator(seed, "multimodal_hashing", "random codes")
    turns = [rng.normal(size=(split.x.shape[1], bits)) for split in data.train]
    return lambda place, rows: rows.numpy() @ turns[place]


def class_codes(data: Modalities, recipe: HashingRecipe, seed: int) -> Codes:
    """Return the decisions of one classifier per modality as one-hot codes: retrieval by the predicted label."""
    classes = int(data.train[0].y.max()) + 1
    order = integer_seed(seed, "multimodal_hashing", "classifiers")
    config = TrainConfig(recipe.classifier_epochs, 64, seed=order, optimizer=OptimizerConfig("adam", lr=2e-3))
    networks = []
    for place, split in enumerate(data.train):
        make = partial(MLP, (split.x.shape[1],), (recipe.hidden,), classes=classes)
        network = seeded(make, seed, "hashing", place)
        networks.append(train_classifier(network, split, config))

    @torch.no_grad()
    def codes(place: int, x: Tensor) -> np.ndarray:
        return np.eye(classes)[networks[place](x).argmax(1).numpy()] - 0.5

    return codes


def retrieval_metrics(codes: Codes, test: tuple[Split, Split], *, radius: int) -> dict[str, float]:
    """Return mean average precisions within and across modalities, and the precision within a radius from X to Y."""
    packed = [pack_codes(codes(place, split.x)) for place, split in enumerate(test)]
    labels, found = [split.y.numpy() for split in test], {}
    for one, other in ((0, 1), (1, 0), (0, 0), (1, 1)):
        parts = (packed[one], labels[one], packed[other], labels[other])
        found[f"map {'xy'[one]} to {'xy'[other]}"] = mean_average_precision(*parts, exclude_self=one == other)
    found["map across"] = (found["map x to y"] + found["map y to x"]) / 2
    found["precision in radius"] = precision_within(packed[0], labels[0], packed[1], labels[1], radius=radius)
    return found


class MultimodalHashing(System[HashingRecipe]):
    """Codes of coupled networks with and without pairs within a modality, and three baselines."""

    name = "multimodal_hashing"
    title = "Multimodal similarity-preserving hashing"
    paper = "Masci, Bronstein, Bronstein, Schmidhuber, TPAMI 36(4), 2014, arXiv 1207.1522"
    claim = (
        "Pairs within each modality improve retrieval across modalities over pairs across modalities alone, and both "
        "are far better than thresholded correlation analysis."
    )
    claims = (
        higher("map across", "coupled", "cross only").says(
            "With pairs within each modality, the mean average precision across modalities is higher than without."
        ),
        higher("map across", "coupled", "CCA and sign").says(
            "Coupled networks have a higher mean average precision across modalities than correlation analysis."
        ),
        higher("map x to x", "coupled", "cross only").says(
            "With pairs within each modality, the mean average precision within the first modality is higher."
        ),
        higher("map across", "coupled, longest", "coupled, shortest", required=False).says(
            "Longer codes have a higher mean average precision across modalities."
        ),
        higher("map across", "coupled", "predicted class", required=False).says(
            "Coupled networks have a higher mean average precision across modalities than retrieval by predicted class."
        ),
        higher("map across", "coupled", "cross only", by=0.04, required=False).says(
            "Pairs within each modality add at least 4 points of mean average precision across modalities."
        ),
    )
    notes = (
        "Relevance is the label, so a classifier per modality whose decision is the code is the baseline to beat.",
        "Equal distances keep the order of the database, which is random.",
    )
    recipe = HashingRecipe()

    def data(self, seed: int, recipe: HashingRecipe) -> Modalities:
        """Return the halves of the digits, standardized by the training part."""
        train, test = digits_rows(seed, recipe.shares)
        mean, spread = train.x.mean(0), train.x.std(0).clamp_min(1e-3)

        def halves(split: Split) -> tuple[Split, Split]:
            rows = ((split.x - mean) / spread).unflatten(1, (8, 8))
            return Split(rows[:, :, :4].flatten(1), split.y), Split(rows[:, :, 4:].flatten(1), split.y)

        order = generator(seed, "multimodal_hashing", "database").permutation(len(test))
        own = np.arange(len(train))
        return Modalities(halves(train), halves(test.take(order)), np.stack([own, own], 1))

    def codes(self, data: Modalities, seed: int, recipe: HashingRecipe) -> Mapping[str, Codes]:
        """Return the codes of all arms."""
        short, middle, long = recipe.bits

        def coupled(bits: int, alpha: float = recipe.alpha) -> Codes:
            return trained_codes(data, recipe, seed, bits=bits, alpha=alpha)

        return {
            "random projections": random_codes(data, seed, bits=middle),
            "CCA and sign": correlated_codes(data, bits=middle),
            "predicted class": class_codes(data, recipe, seed),
            "cross only": coupled(middle, 0.0),
            "coupled": coupled(middle),
            "coupled, shortest": coupled(short),
            "coupled, longest": coupled(long),
        }

    @override
    def run(self, seed: int, recipe: HashingRecipe) -> Metrics:
        data = self.data(seed, recipe)
        arms = self.codes(data, seed, recipe)
        return {name: retrieval_metrics(codes, data.test, radius=recipe.radius) for name, codes in arms.items()}


EXPERIMENT = MultimodalHashing().experiment()
