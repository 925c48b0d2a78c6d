"""A small conditional GAN and the density ratio of its samples, trained on labeled vectors.

It builds on players that take turns; what is done with the samples is not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import check_range
from policykd.kd.fake_samples import ratio_loss
from policykd.kd.training.config import OptimizerConfig
from policykd.kd.training.players import Player, Players, Turn, draw_rows


@dataclass(frozen=True)
class GanConfig:
    """Training of a conditional GAN and of a density ratio.

    Attributes:
        rounds: Rounds of critic and generator.
        ratio_rounds: Steps of the density ratio.
        batch_size: Samples per step.
        lr: Learning rate of generator and critic, by Adam with decay rates 0.5 and 0.999.
        ratio_lr: Learning rate of the density ratio.
        penalty: Weight that keeps the mean ratio near one.
        blur: Deviation of the noise on what the critic sees, so that it does not learn real samples by heart.

    Raises:
        ConfigError: A field is out of range.
    """

    rounds: int = 800
    ratio_rounds: int = 300
    batch_size: int = 64
    lr: float = 1e-3
    ratio_lr: float = 1e-3
    penalty: float = 0.01
    blur: float = 0.2

    def __post_init__(self) -> None:
        check_range("rounds", self.rounds, 1, 10**7)
        check_range("ratio_rounds", self.ratio_rounds, 1, 10**7)
        check_range("batch_size", self.batch_size, 2, 10**6)
        check_range("lr", self.lr, 1e-9, 1e3)
        check_range("ratio_lr", self.ratio_lr, 1e-9, 1e3)
        check_range("penalty", self.penalty, 0.0, 1e6)
        check_range("blur", self.blur, 0.0, 1e3)

    def optimizer(self, lr: float) -> OptimizerConfig:
        """Return Adam with the decay rates that GANs use."""
        return OptimizerConfig("adam", lr=lr, weight_decay=0.0, betas=(0.5, 0.999))


def train_conditional_gan(
    generator: nn.Module,
    critic: nn.Module,
    x: Tensor,
    labels: Tensor,
    config: GanConfig = GanConfig(),
    *,
    latent: int,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
) -> None:
    """Train a generator ``(noise, labels) -> x`` against a critic ``(x, labels) -> logit``, in place.

    The loss is the non-saturating one of Goodfellow et al. (2014); fake samples have the labels of the real batch.

    Args:
        generator: The generator.
        critic: The critic.
        x: Real samples ``(N, ...)``.
        labels: Their vectors of labels ``(N, L)``.
        config: The training.
        latent: Size of the noise.
        seed: Seeds batches and noise.
        folder: Where the checkpoint is; None for none.
        resume: Go on from the checkpoint.
    """

    def judged(sample: Tensor, given: Tensor, turn: Turn) -> Tensor:
        blur = config.blur * torch.randn(sample.shape, generator=turn.generator)
        out: Tensor = critic(sample + blur, given)
        return out

    def made(turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        rows = draw_rows(len(x), config.batch_size, turn.shared)
        noise = torch.randn(len(rows), latent, generator=turn.generator)
        return x[rows], labels[rows], generator(noise, labels[rows])

    def of_critic(turn: Turn) -> Tensor:
        real, given, fake = made(turn)
        return F.softplus(-judged(real, given, turn)).mean() + F.softplus(judged(fake, given, turn)).mean()

    def of_generator(turn: Turn) -> Tensor:
        _, given, fake = made(turn)
        return F.softplus(-judged(fake, given, turn)).mean()

    optimizer = config.optimizer(config.lr)
    players = {"critic": Player(critic, of_critic, optimizer), "generator": Player(generator, of_generator, optimizer)}
    Players(players, seed=seed, folder=folder).train(config.rounds, resume=resume)


def train_ratio(
    ratio: nn.Module,
    draw: Callable[[Tensor, torch.Generator], Tensor],
    features: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    config: GanConfig = GanConfig(),
    *,
    seed: int,
) -> None:
    """Train the density ratio ``(features, labels) -> ratio`` of real and generated samples, in place.

    Args:
        ratio: The network.
        draw: ``(vectors of labels, generator) -> generated samples``.
        features: ``samples -> features``.
        x: Real samples ``(N, ...)``.
        labels: Their vectors of labels ``(N, L)``.
        config: The training.
        seed: Seeds batches and noise.
    """

    def loss(turn: Turn) -> Tensor:
        rows = draw_rows(len(x), config.batch_size, turn.shared)
        with torch.no_grad():
            fake, real = features(draw(labels[rows], turn.generator)), features(x[rows])
        own = ratio(torch.cat([real, fake]), labels[rows].repeat(2, 1))
        return ratio_loss(own[: len(rows)], own[len(rows) :], penalty=config.penalty)

    players = {"ratio": Player(ratio, loss, config.optimizer(config.ratio_lr))}
    Players(players, seed=seed).train(config.ratio_rounds)
