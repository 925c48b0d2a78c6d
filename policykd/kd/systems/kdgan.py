"""KDGAN: a classifier learns from a biased teacher and from a discriminator, which knows the labels of the data.

Wang, Zhang, Sun and Qi, KDGAN: Knowledge Distillation with Generative Adversarial Networks (NeurIPS 2018). The game is
in ``policykd.kd.three_players``, turns are in ``policykd.kd.training.players``; here every player is a table with a row
per context, so that the distribution at the equilibrium is known.

Departures: players take one step each per round instead of whole epochs; the temperature falls after every round. The
authors' code differs from their paper in the estimator, in names of weights and in the distillation loss; the paper's
are implemented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.experiment import Experiment
from policykd.kd.experiments.limits import Scale, Share, Weight
from policykd.kd.experiments.system import System, lower
from policykd.kd.three_players import Estimator, discriminator_loss, draw_labels, logit_distance, proposal_loss
from policykd.kd.training.config import OptimizerConfig
from policykd.kd.training.players import Player, Players, Turn
from policykd.plain import Limits, check_limits
from policykd.seeding import generator, integer_seed

Count = Annotated[int, Limits(1, 1_000_000)]


@dataclass(frozen=True)
class KDGANRecipe:
    """A world of contexts with known distributions of labels, and the game's options.

    Attributes:
        contexts: Number of contexts.
        labels: Number of labels.
        spread: Deviation of the true logits.
        bias: Deviation of the teacher's error in logits.
        rounds: Rounds of the game.
        early: Rounds after which the distance is also measured.
        batch_size: Labeled samples per round.
        share: Classifier's share of the proposed labels, alpha.
        student_weight: Weight of the classifier's distance to the teacher, beta.
        teacher_weight: Weight of the teacher's distance to the classifier, gamma.
        high: Temperature of the first round.
        low: Temperature of the last round.
        samples: Labels that a player proposes per sample.
        student_lr: Learning rate of the classifier.
        teacher_lr: Learning rate of the teacher.
        discriminator_lr: Learning rate of the discriminator.
    """

    contexts: Count = 20
    labels: Annotated[int, Limits(2, 10_000)] = 10
    spread: Scale = 1.5
    bias: Scale = 1.2
    rounds: Count = 500
    early: Count = 50
    batch_size: Count = 200
    share: Share = 0.5
    student_weight: Weight = 1.0
    teacher_weight: Weight = 0.1
    high: Scale = 3.0
    low: Scale = 0.3
    samples: Annotated[int, Limits(2, 10_000)] = 2
    student_lr: Scale = 0.05
    teacher_lr: Scale = 0.015
    discriminator_lr: Scale = 0.05

    def __post_init__(self) -> None:
        check_limits(self)
        check_range("early", self.early, 1, self.rounds)


class Table(nn.Module):
    """Scores of every label in every context.

    Args:
        scores: First scores ``(contexts, labels)``.
    """

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores.clone())

    def forward(self, contexts: Tensor) -> Tensor:
        """Return the scores ``(B, labels)`` of contexts ``(B,)``."""
        return self.scores[contexts]


class World:
    """One seed: true distributions, a biased teacher, and the batches that all arms see.

    Args:
        seed: The cell's seed.
        recipe: The configuration.
    """

    def __init__(self, seed: int, recipe: KDGANRecipe) -> None:
        rng, shape = generator(seed, "kdgan", "world"), (recipe.contexts, recipe.labels)
        truth = recipe.spread * rng.normal(size=shape)
        self.seed, self.recipe = seed, recipe
        self.truth = torch.from_numpy(truth).float().log_softmax(1)
        self.teacher_scores = torch.from_numpy(truth + recipe.bias * rng.normal(size=shape)).float()

    def batch(self, turn: Turn) -> tuple[Tensor, Tensor]:
        """Return contexts ``(B,)`` and labels ``(B,)`` of a round."""
        contexts = torch.randint(self.recipe.contexts, (self.recipe.batch_size,), generator=turn.shared)
        return contexts, torch.multinomial(self.truth.exp()[contexts], 1, generator=turn.shared)[:, 0]

    def distance(self, table: Table) -> float:
        """Return the mean divergence ``KL(truth || table)`` over contexts, in nats."""
        own = table.scores.detach().log_softmax(1)
        return float((self.truth.exp() * (self.truth - own)).sum(1).mean())

    def temperature(self, turn: Turn) -> float:
        """Return the temperature of a round, which falls exponentially from high to low."""
        return float(self.recipe.high * (self.recipe.low / self.recipe.high) ** turn.progress)


def players(
    world: World, *, game: bool, distills: bool, estimator: Estimator = "straight_through"
) -> tuple[dict[str, Player], Table]:
    """Return the players of an arm and its classifier.

    Args:
        world: The world.
        game: Whether there is a discriminator.
        distills: Whether there is a teacher, which learns too if there is a discriminator.
        estimator: How gradients of proposed labels are estimated.
    """
    recipe = world.recipe
    share = recipe.share if distills else 1.0
    student, teacher = Table(torch.zeros_like(world.truth)), Table(world.teacher_scores)
    critic = Table(torch.zeros_like(world.truth))
    rates = (recipe.discriminator_lr, recipe.teacher_lr, recipe.student_lr)
    adams = [OptimizerConfig("adam", lr=rate, weight_decay=0.0) for rate in rates]

    def of_critic(turn: Turn) -> Tensor:
        contexts, labels = world.batch(turn)
        drawn = [draw_labels(one(contexts), recipe.samples, turn.generator) for one in (student, teacher)]
        return discriminator_loss(critic(contexts), labels, drawn[0], drawn[1], share=share)

    def proposes(own: Table, other: Table, part: float, weight: float) -> Callable[[Turn], Tensor]:
        def loss(turn: Turn) -> Tensor:
            contexts, _ = world.batch(turn)
            scores, total = own(contexts), torch.zeros(())
            if game:
                total = part * proposal_loss(
                    scores,
                    critic(contexts),
                    generator=turn.generator,
                    samples=recipe.samples,
                    temperature=world.temperature(turn),
                    estimator=estimator,
                )
            return total + weight * logit_distance(scores, other(contexts)) if distills else total

        return loss

    found = {"discriminator": Player(critic, of_critic, adams[0])} if game else {}
    if game and distills:
        found["teacher"] = Player(teacher, proposes(teacher, student, 1.0 - share, recipe.teacher_weight), adams[1])
    found["student"] = Player(student, proposes(student, teacher, share, recipe.student_weight), adams[2])
    return found, student


def label_player(world: World) -> tuple[dict[str, Player], Table]:
    """Return a classifier that learns from the labels alone by cross-entropy."""
    student = Table(torch.zeros_like(world.truth))

    def loss(turn: Turn) -> Tensor:
        contexts, labels = world.batch(turn)
        return F.cross_entropy(student(contexts), labels)

    return {
        "student": Player(student, loss, OptimizerConfig("adam", lr=world.recipe.student_lr, weight_decay=0.0))
    }, student


def play(world: World, arm: tuple[dict[str, Player], Table]) -> dict[str, float]:
    """Train an arm and return its distances to the truth after the early rounds and at the end, and their late range.

    Args:
        world: The world.
        arm: Players and classifier.
    """
    found, student = arm
    course: list[float] = []
    Players(found, seed=integer_seed(world.seed, "kdgan", "game")).train(
        world.recipe.rounds, after_round=lambda _: course.append(world.distance(student))
    )
    late = course[len(course) // 2 :]
    return {
        "early distance": course[world.recipe.early - 1],
        "distance": float(np.mean(course[-10:])),
        "range of the second half": max(late) - min(late),
    }


_KDGAN, _KD, _GAN, _CE = "kdgan", "kd", "gan", "labels"


class KDGAN(System[KDGANRecipe]):
    """The game with all three players, with two of them, and learning from one source alone."""

    name = "kdgan"
    title = "Distillation with a teacher and a discriminator"
    paper = "Wang, Zhang, Sun, Qi, NeurIPS 2018"
    claim = (
        "With a biased teacher, three players reach the true distribution of labels, which neither the teacher alone "
        "nor the discriminator alone does."
    )
    claims = (
        lower("distance", _KDGAN, _KD).says(
            "KDGAN ends closer to the truth than distillation from the biased teacher."
        ),
        lower("distance", _KDGAN, _GAN).says("KDGAN ends closer to the truth than the game without a teacher."),
        lower("distance", _KDGAN, by=0.05, required=False).says("KDGAN ends with a divergence below 0.05 nats."),
        lower("early distance", _KDGAN, _CE, required=False).says(
            "After 50 rounds, KDGAN is closer to the truth than cross-entropy with the same labels."
        ),
        lower("distance", _KDGAN, _CE, required=False).says(
            "KDGAN ends closer to the truth than cross-entropy with the same labels."
        ),
        lower("range of the second half", _KDGAN, _GAN, required=False).says(
            "In the second half of the game, the distance of KDGAN moves less than that of the game without a teacher."
        ),
        lower("distance", _KDGAN, "kdgan, score function", required=False).says(
            "Relaxed samples end closer to the truth than the score function."
        ),
    )
    notes = (
        "Tables with a row per context can learn everything from labels, so cross-entropy with the same labels is the "
        "baseline that a game has to justify itself against.",
        "Distances are means over the last ten rounds.",
    )
    recipe = KDGANRecipe()

    @override
    def run(self, seed: int, recipe: KDGANRecipe) -> Metrics:
        world = World(seed, recipe)
        arms = {
            _CE: label_player(world),
            _KD: players(world, game=False, distills=True),
            _GAN: players(world, game=True, distills=False),
            "gan, score function": players(world, game=True, distills=False, estimator="score"),
            _KDGAN: players(world, game=True, distills=True),
            "kdgan, score function": players(world, game=True, distills=True, estimator="score"),
        }
        return {name: play(world, arm) for name, arm in arms.items()}


EXPERIMENT: Experiment = KDGAN().experiment()
