"""Distillation on mixed samples: full and partial mixup, and logits divided by their standard deviation.

Choi, Jeon, Shukla and Turaga, Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study (WACV 2023,
arXiv 2211.03946). Mixup and temperature both smooth the targets, and both at once are too much. So only a part of the
samples is mixed (partial mixup, PMU), and the standard deviation of every sample's own logits is its temperature
(:func:`policykd.kd.losses.std_scaled_kd`).

Departures: partial mixup mixes exactly the fraction it is given; the released code draws the unmixed samples with
replacement, which leaves more of them mixed, and is available as ``mode="reference"``. Constant logits stay constant
instead of becoming NaN.
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

from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.system import Cell, Fit, Recipe, StudentLoss, System, higher, lower
from policykd.kd.losses.std_scaled_kd import std_scaled_kd
from policykd.kd.metrics import accuracy, entropy
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import predict
from policykd.kd.training.mixing import Mixup
from policykd.plain import Limits
from policykd.seeding import generator

SoftLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(student's logits, teacher's logits, label distributions) -> scalar``."""


def mixed_loss(teacher: nn.Module | None, loss: SoftLoss, mixup: Mixup | None, rng: np.random.Generator) -> StudentLoss:
    """Return a training loss on mixed batches; the teacher sees the same mixed inputs, its logits are not mixed.

    Args:
        teacher: The teacher in eval mode; None gives plain cross-entropy with the mixed labels.
        loss: The loss of student's and teacher's logits and label distributions; unused without a teacher.
        mixup: How to mix, or None.
        rng: Source of the mixing.
    """

    def step(network: nn.Module, batch: Batch, epoch: int) -> Tensor:
        x, y = batch.x, F.one_hot(batch.targets, CLASSES).to(batch.x)
        if mixup is not None:
            x, y = mixup(batch.x, batch.targets, CLASSES, rng)
        logits = network(x)
        if teacher is None:
            return F.cross_entropy(logits, y)
        with torch.no_grad():
            taught = teacher(x)
        return loss(logits, taught, y)

    return step


@dataclass(frozen=True)
class MixupKDRecipe(Recipe):
    """A plain and a mixup teacher, and students under two losses and three ways of mixing.

    Attributes:
        beta: Parameter of the coefficients' distribution Beta(beta, beta).
        partial: Fraction of the samples that partial mixup mixes.
    """

    teacher: Fit = Fit((128,), epochs=60, batch_size=128, lr=5e-3)
    student: Fit = Fit((24,), epochs=60, batch_size=128, lr=5e-3)
    shares: tuple[float, ...] = (0.4, 0.6)
    beta: Annotated[float, Limits(1e-6, 1e6)] = 1.0
    partial: Share = 0.1

    @property
    def mixups(self) -> dict[str, Mixup | None]:
        """Return the ways of mixing by name."""
        return {"no mixup": None, "PMU": Mixup(self.beta, self.partial), "FMU": Mixup(self.beta)}

    def fixed_temperature(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the classical loss of logits ``(B, C)`` and label distributions ``(B, C)``."""
        soft = kf.kd(student, teacher, temperature=self.temperature)
        return self.ce_weight * F.cross_entropy(student, target) + self.kd_weight * soft

    def scaled(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits scaled by their standard deviations."""
        return std_scaled_kd(student, teacher, target, ce_weight=self.ce_weight, kd_weight=self.kd_weight)

    @property
    def losses(self) -> dict[str, SoftLoss]:
        """Return the two losses by name."""
        return {"fixed T": self.fixed_temperature, "std": self.scaled}


class MixupCell(Cell[MixupKDRecipe]):
    """Networks of one role share initial weights, batches and the draws of the mixing."""

    def trained(self, teacher: nn.Module | None, loss: str, mixup: str) -> nn.Module:
        """Return a student of a teacher or, without one, a teacher, under a named loss and way of mixing."""
        role, fit = ("teacher", self.recipe.teacher) if teacher is None else ("student", self.recipe.student)
        rng = generator(self.seed, "mixup", role)
        step = mixed_loss(teacher, self.recipe.losses[loss], self.recipe.mixups[mixup], rng)
        return self.fit(self.network(role, fit), step, self.train, fit, ("order", role))

    def softness(self, network: nn.Module) -> dict[str, float]:
        """Return a teacher's test accuracy and the entropy of its predictions."""
        logits, labels = predict(network, self.test)
        return {
            "accuracy": accuracy(logits, labels),
            "entropy": entropy(logits),
            "entropy_at_t": entropy(logits, temperature=self.recipe.temperature),
        }


class MixupKD(System[MixupKDRecipe]):
    """Both teachers, the plain one's students under every loss and way of mixing, and a mixup teacher's student."""

    name = "mixup_kd"
    title = "Partial mixup and logits scaled by their standard deviation"
    paper = "Choi, Jeon, Shukla, Turaga, WACV 2023, arXiv 2211.03946"
    claim = (
        "Mixup smooths a teacher, which makes it a worse teacher at a high temperature; scaling logits by their "
        "standard deviation replaces the temperature."
    )
    claims = (
        *(
            higher(metric, "mixup teacher", "plain teacher").says(
                f"At {where}, a mixup teacher's predictions have a higher entropy than a plain teacher's."
            )
            for metric, where in (("entropy", "T = 1"), ("entropy_at_t", "the temperature of the distillation"))
        ),
        lower("accuracy", "mixup teacher, fixed T, FMU", "plain teacher, fixed T, FMU").says(
            "With full mixup, the mixup teacher's student is less accurate than the plain teacher's."
        ),
        *(
            higher(
                "accuracy",
                f"plain teacher, std, {mixup}",
                f"plain teacher, fixed T, {mixup}",
                by=-0.003,
                required=mixup == "no mixup",
            ).says(f"{where}, scaled logits are at most 0.3 points less accurate than a fixed temperature.")
            for mixup, where in (
                ("no mixup", "Without mixup"),
                ("PMU", "With partial mixup"),
                ("FMU", "With full mixup"),
            )
        ),
    )
    gates = (0.4, 0.91, 0.0, -0.003)
    notes = ("Differences between partial and full mixup are smaller than the noise of this setting.",)
    recipe = MixupKDRecipe()
    cell = MixupCell

    @override
    def run(self, seed: int, recipe: MixupKDRecipe) -> Metrics:
        cell = self.cell(seed, recipe)
        teachers = {
            "plain teacher": cell.trained(None, "fixed T", "no mixup"),
            "mixup teacher": cell.trained(None, "fixed T", "FMU"),
        }
        found = {name: cell.softness(network) for name, network in teachers.items()}
        chosen = [("plain teacher", loss, mixup) for loss in recipe.losses for mixup in recipe.mixups]
        for name, loss, mixup in [*chosen, ("mixup teacher", "fixed T", "FMU")]:
            student = cell.trained(teachers[name], loss, mixup)
            found[f"{name}, {loss}, {mixup}"] = self.measure(cell, student)
        return found


EXPERIMENT = MixupKD().experiment()
