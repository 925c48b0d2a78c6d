"""A few made-up samples that train a network in a few steps, found by descending through those steps.

Wang, Zhu, Torralba and Efros, Dataset Distillation (arXiv 1811.10959). The outer variables are a player of
``policykd.kd.training.players``, so that a run that was killed goes on exactly; networks need no batch normalization.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from policykd.errors import check_range
from policykd.kd.tasks.base import Split
from policykd.kd.training.bilevel import Tensors, descend
from policykd.kd.training.players import Player, Players, Turn, draw_rows


@dataclass(frozen=True)
class DistilledConfig:
    """Sizes and training of distilled data.

    Attributes:
        blocks: Blocks of samples S; every inner step sees one of them, whole.
        passes: Passes E over the blocks: there are S E inner steps.
        per_class: Samples of every class in a block.
        rate: First learning rate of all inner steps.
        rounds: Outer steps.
        batch_size: Real samples per outer step.
        lr: Learning rate of the outer Adam, with decay rates 0.5 and 0.999.
        halve_every: Outer steps after which it is halved.
        clip_norm: Largest norm of the outer gradient.

    Raises:
        ConfigError: A field is out of range.
    """

    blocks: int = 2
    passes: int = 3
    per_class: int = 1
    rate: float = 0.1
    rounds: int = 200
    batch_size: int = 256
    lr: float = 0.05
    halve_every: int = 70
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("blocks", "passes", "per_class", "rounds", "batch_size", "halve_every"):
            check_range(name, getattr(self, name), 1, 10**7)
        for name in ("rate", "lr", "clip_norm"):
            check_range(name, getattr(self, name), 1e-12, 1e6)


class DistilledData(nn.Module):
    """Blocks of samples with fixed labels, and a learning rate for every inner step.

    Attributes:
        x: Samples ``(S, M, ...)``.
        labels: Their classes ``(M,)``, the same in every block.

    Args:
        shape: Shape of a sample.
        classes: Number of classes.
        config: Sizes.
        generator: Draws the first samples from N(0, 1).
    """

    labels: Tensor

    def __init__(
        self, shape: tuple[int, ...], classes: int, config: DistilledConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        count = classes * config.per_class
        self.x = nn.Parameter(torch.randn(config.blocks, count, *shape, generator=generator))
        raw = math.log(math.expm1(config.rate))
        self.raw_rates = nn.Parameter(torch.full((config.blocks * config.passes,), raw))
        self.register_buffer("labels", torch.arange(classes).repeat_interleave(config.per_class))

    @property
    def rates(self) -> Tensor:
        """The learning rates ``(S E,)``, which a softplus keeps above 0."""
        return F.softplus(self.raw_rates)

    def train_network(self, network: nn.Module, start: Tensors) -> Tensors:
        """Return the parameters of a network after all inner steps from given first parameters.

        With gradients on, they can be differentiated with respect to samples and rates.

        Args:
            network: The network, which stays as it is.
            start: First parameters by name.
        """
        blocks = len(self.x)

        def inner(parameters: Tensors, inputs: Tensors, step: int) -> Tensor:
            logits = functional_call(network, parameters, (inputs["x"][step % blocks],))
            return F.cross_entropy(logits, self.labels)

        return descend(inner, start, {"x": self.x}, self.rates)


def distill_data(
    network: nn.Module,
    starts: Callable[[int], Tensors],
    data: Split,
    classes: int,
    config: DistilledConfig = DistilledConfig(),
    *,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_rounds: int = 50,
    after_round: Callable[[int], None] | None = None,
) -> DistilledData:
    """Return data on which the network learns in a few steps what real data teach.

    Args:
        network: The network; only its architecture counts.
        starts: Outer step -> first parameters; always the same ones for a fixed initialization.
        data: Real samples.
        classes: Number of classes.
        config: Sizes and training.
        seed: Seeds the first samples and the batches.
        folder: Where the checkpoint is; None for none.
        resume: Go on from the checkpoint.
        checkpoint_rounds: Outer steps between checkpoints.
        after_round: Called with the number of every outer step when it is done.
    """
    made = DistilledData(tuple(data.x.shape[1:]), classes, config, torch.Generator().manual_seed(seed))
    kept: list[torch.optim.Optimizer] = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        kept.append(torch.optim.Adam(parameters, config.lr, (0.5, 0.999)))
        return kept[0]

    def loss(turn: Turn) -> Tensor:
        kept[0].param_groups[0]["lr"] = config.lr * 0.5 ** (turn.round // config.halve_every)
        rows = draw_rows(len(data), config.batch_size, turn.shared)
        trained = made.train_network(network, starts(turn.round))
        return F.cross_entropy(functional_call(network, trained, (data.x[rows],)), data.y[rows])

    player = Player(made, loss, optimizer, clip_norm=config.clip_norm)
    players = Players({"data": player}, seed=seed, folder=folder, checkpoint_rounds=checkpoint_rounds)
    players.train(config.rounds, resume=resume, after_round=after_round)
    return made
