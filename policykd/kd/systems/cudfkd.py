"""CuDFKD: a student that sees no data, only samples that a generator makes for the teacher, from easy to hard.

Li, Zhou, Li, Wang, Yu and Bu, Dynamic Data-Free Knowledge Distillation by Easy-to-Hard Learning Strategy (Information
Sciences, arXiv 2208.13648). Losses and curriculum are in ``policykd.kd.data_free``, generators in
``policykd.kd.networks.generators``, turns in ``policykd.kd.training.players``.

Departures: networks are small and fully connected; the student's rate is constant and its optimizer Adam; weights are
those of single samples, as in the paper, and not one per batch, as in the authors' code (an option).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.data_free import (
    NormStatistics,
    Pacing,
    adversarial_loss,
    adversarial_weight,
    age_after,
    balance_entropy,
    certainty_loss,
    paced_loss,
    paced_weights,
)
from policykd.kd.experiments.digits import digits_rows
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share, Temperature, Weight
from policykd.kd.experiments.system import Fit, Recipe, System, higher, lower
from policykd.kd.metrics import accuracy, agreement
from policykd.kd.networks import MLP
from policykd.kd.networks.generators import VectorGenerator
from policykd.kd.training.config import OptimizerConfig
from policykd.kd.training.loop import seeded, train_classifier
from policykd.kd.training.players import Player, Players, Turn, draw_rows
from policykd.plain import Limits, check_limits
from policykd.seeding import integer_seed

Count = Annotated[int, Limits(1, 1_000_000)]


@dataclass(frozen=True)
class Curriculum:
    """What generator and student minimize, and how that grows harder.

    Attributes:
        statistics_weight: Weight of the distance of batch statistics.
        certainty_weight: Weight of the teacher's certainty.
        balance_weight: Weight of the entropy of classes, which is maximized.
        age: First age of the self-paced weights; 0 gives all samples weight one.
        age_growth: What every student update adds to it.
        pacing: Kind of the weights.
        per_sample: One weight per sample; otherwise one per batch.
        adversary_begin: Share of the epochs before the adversarial weight grows.
        adversary_end: Share of the epochs after which it stays.
        adversary_step: What an epoch adds to it.

    Raises:
        ConfigError: A field is out of range.
    """

    statistics_weight: Weight = 1.0
    certainty_weight: Weight = 1.0
    balance_weight: Weight = 5.0
    age: Weight = 3.0
    age_growth: Weight = 5e-3
    pacing: Pacing = "log"
    per_sample: bool = True
    adversary_begin: Share = 0.25
    adversary_end: Share = 0.75
    adversary_step: Weight = 1.0

    def __post_init__(self) -> None:
        check_limits(self)
        if self.adversary_begin > self.adversary_end:
            raise ConfigError(
                f"adversary_begin is {self.adversary_begin}, adversary_end {self.adversary_end}: swap them"
            )


@dataclass(frozen=True)
class CuDFKDRecipe(Recipe):
    """A teacher of digits, whose data no student sees.

    Attributes:
        curriculum: What generator and student minimize.
        epochs: Epochs of the game.
        rounds: Rounds per epoch.
        student_steps: Steps of the student per round; the generator has one.
        samples: Generated samples per step.
        latent: Size of the noise.
        generator_lr: Learning rate of the generator.
    """

    teacher: Fit = Fit((48, 32), steps=400)
    student: Fit = Fit((48, 32), epochs=1, lr=5e-3)
    temperature: Temperature = 4.0
    curriculum: Curriculum = field(default_factory=Curriculum)
    epochs: Count = 20
    rounds: Count = 6
    student_steps: Count = 5
    samples: Count = 128
    latent: Count = 32
    generator_lr: Scale = 5e-3


class DataFree:
    """One teacher of one seed, and students that learn from it by generated samples, noise or real data.

    Args:
        seed: The cell's seed.
        recipe: The configuration.
    """

    def __init__(self, seed: int, recipe: CuDFKDRecipe) -> None:
        self.seed, self.recipe, self.key = seed, recipe, (seed, "cudfkd")
        self.train, self.test = digits_rows(seed, recipe.shares)
        self.width, self.classes = self.train.x.shape[1], int(self.train.y.max()) + 1
        config = recipe.teacher.config(len(self.train), integer_seed(*self.key, "teacher order"))
        self.teacher = train_classifier(self.network("teacher", recipe.teacher), self.train, config)

    def network(self, role: str, fit: Fit) -> MLP:
        """Return a new network with batch normalization; equal roles begin with equal weights."""
        return seeded(lambda: MLP((self.width,), fit.hidden, classes=self.classes, norm=True), *self.key, role)

    def generator(self) -> VectorGenerator:
        """Return a new generator of pixels in [0, 1]."""
        shape, latent = (self.width,), self.recipe.latent
        return seeded(lambda: VectorGenerator(latent, (64, 64), shape, bounded=True), *self.key, "generator")

    def real(self, turn: Turn) -> Tensor:
        """Return real training inputs, for the student that sees data."""
        return self.train.x[draw_rows(len(self.train), self.recipe.samples, turn.shared)]

    def noise(self, turn: Turn) -> Tensor:
        """Return uniform noise in the range of pixels."""
        return torch.rand(self.recipe.samples, self.width, generator=turn.shared)

    def of_inputs(self, inputs: Any) -> MLP:
        """Return a student that was distilled on given inputs, in as many steps as that of the generator."""
        student, recipe = self.network("student", self.recipe.student), self.recipe

        def loss(turn: Turn) -> Tensor:
            x = inputs(turn)
            with torch.no_grad():
                taught = self.teacher(x)
            return kf.kd(student(x), taught, temperature=recipe.temperature)

        self.play({"student": Player(student, loss, self.adam(recipe.student.lr), steps=recipe.student_steps)})
        return student

    @staticmethod
    def adam(lr: float) -> OptimizerConfig:
        """Return Adam without weight decay."""
        return OptimizerConfig("adam", lr=lr, weight_decay=0.0)

    def play(self, players: dict[str, Player]) -> None:
        """Let players take their turns for as many rounds as the recipe says."""
        Players(players, seed=integer_seed(*self.key, "game")).train(self.recipe.epochs * self.recipe.rounds)

    def of_generator(self, plan: Curriculum) -> tuple[MLP, VectorGenerator]:
        """Return a student and the generator that it learned from."""
        student, make, recipe = self.network("student", self.recipe.student), self.generator(), self.recipe
        statistics = NormStatistics(self.teacher)

        def made(turn: Turn) -> Tensor:
            out: Tensor = make(torch.randn(recipe.samples, recipe.latent, generator=turn.generator))
            return out

        def of_make(turn: Turn) -> Tensor:
            x = made(turn)
            with statistics.attached():
                taught = self.teacher(x)
            total = plan.statistics_weight * statistics.value() + plan.certainty_weight * certainty_loss(taught)
            total = total - plan.balance_weight * balance_entropy(taught)
            hard = adversarial_weight(
                turn.round // recipe.rounds,
                recipe.epochs,
                begin=plan.adversary_begin,
                end=plan.adversary_end,
                step=plan.adversary_step,
            )
            return total + hard * adversarial_loss(student(x), taught) if hard else total

        def of_student(turn: Turn) -> Tensor:
            with torch.no_grad():
                x = made(turn)
                taught = self.teacher(x)
            if not plan.age:
                return kf.kd(student(x), taught, temperature=recipe.temperature)
            age = age_after(turn.round * recipe.student_steps + turn.step, start=plan.age, growth=plan.age_growth)
            options: dict[str, Any] = {"kind": plan.pacing, "per_sample": plan.per_sample}
            return paced_loss(student(x), taught, age, temperature=recipe.temperature, **options)

        players = {
            "generator": Player(make, of_make, self.adam(recipe.generator_lr)),
            "student": Player(student, of_student, self.adam(recipe.student.lr), steps=recipe.student_steps),
        }
        self.play(players)
        return student, make

    @torch.no_grad()
    def measured(self, student: nn.Module, make: VectorGenerator | None = None) -> dict[str, float]:
        """Return accuracy and agreement with the teacher on real test data, and metrics of generated samples."""
        logits, taught = student(self.test.x), self.teacher(self.test.x)
        found = {"accuracy": accuracy(logits, self.test.y), "agreement": agreement(logits, taught)}
        if make is not None:
            x = self.samples(make, 1000)
            shares = torch.bincount(self.teacher(x).argmax(1), minlength=self.classes) / len(x)
            found["least class"] = float(shares.min())
            found["distance"] = float((x - self.train.x.mean(0)).norm(dim=1).mean())
        return found

    @torch.no_grad()
    def samples(self, make: VectorGenerator, count: int) -> Tensor:
        """Return generated samples of a generator in eval mode."""
        rng = torch.Generator().manual_seed(integer_seed(*self.key, "shown"))
        made: Tensor = make(torch.randn(count, self.recipe.latent, generator=rng))
        return made


_METHOD, _NOISE, _REAL = "cudfkd", "noise", "real data"
_FIXED = "no curriculum"


class CuDFKD(System[CuDFKDRecipe]):
    """Students of generated samples with and without parts of the method, of noise, and of real data."""

    name = "cudfkd"
    title = "Data-free distillation with a curriculum"
    paper = "Li, Zhou, Li, Wang, Yu, Bu, Information Sciences, arXiv 2208.13648"
    claim = (
        "Generated samples with a curriculum teach a student without data more than noise and than no curriculum does."
    )
    claims = (
        higher("accuracy", _METHOD, _NOISE).says(
            "The student of generated samples is more accurate on real digits than one of random pixels."
        ),
        higher("accuracy", _METHOD, _FIXED).says("The curriculum gives a more accurate student than none."),
        higher("accuracy", _METHOD, "no statistics", required=False).says(
            "Batch statistics give a more accurate student than the other terms alone."
        ),
        higher("distance", "no statistics", _METHOD, by=2.0, statistic="ratio", required=False).says(
            "Without batch statistics, generated digits are more than twice as far from the mean of the data."
        ),
        lower("least class", "no balance", by=0.05, required=False).says(
            "Without the entropy of classes, the rarest class has less than 5 % of the generated digits."
        ),
        higher("accuracy", _METHOD, _REAL, required=False).says(
            "Generated samples teach more than the teacher's real data."
        ),
    )
    notes = (
        "All students have as many steps; that of real data shows what the absence of data costs.",
        "First age and step of the adversarial weight were chosen on seed 0.",
    )
    recipe = CuDFKDRecipe()

    @staticmethod
    def plans(plan: Curriculum) -> dict[str, Curriculum]:
        """Return the arms with a generator."""
        return {
            _METHOD: plan,
            _FIXED: replace(plan, age=0.0, adversary_step=0.0),
            "no statistics": replace(plan, statistics_weight=0.0),
            "no balance": replace(plan, balance_weight=0.0),
        }

    @override
    def run(self, seed: int, recipe: CuDFKDRecipe) -> Metrics:
        task, plan = DataFree(seed, recipe), recipe.curriculum
        found = {"teacher": task.measured(task.teacher)}
        found |= {arm: task.measured(*task.of_generator(one)) for arm, one in self.plans(plan).items()}
        inputs = {_NOISE: task.noise, _REAL: task.real}
        return found | {arm: task.measured(task.of_inputs(given)) for arm, given in inputs.items()}


def mean_weight(losses: Tensor, updates: int, plan: Curriculum) -> float:
    """Return the mean self-paced weight of fixed losses after a number of updates; it rises with them."""
    return float(paced_weights(losses, age_after(updates, start=plan.age, growth=plan.age_growth), plan.pacing).mean())


EXPERIMENT = CuDFKD().experiment()
