"""RoS-KD: a student of teachers that saw different parts of noisy data, mixed at random and averaged over training.

Jaiswal, Ashutosh, Rousseau, Peng, Wang and Ding, RoS-KD (ICDM 2022, arXiv 2210.08388). Parts, mixing and loss are in
``policykd.kd.stochastic_teachers``, averages in ``policykd.kd.training.averaging``, attacks in ``policykd.kd.attacks``.

Departures: teachers are those of the last epoch and not the best on validation data, since the noise must be memorized
for the method to matter; the divergence is averaged over the batch and not over classes, too, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd.attacks import fgsm, pgd
from policykd.kd.experiments.averaged import AveragedArm, AveragingCell
from policykd.kd.experiments.digits import redrawn_labels
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.system import Arm, Fit, Recipe, StudentLoss, System, cross_entropy, higher, plain_kd
from policykd.kd.metrics import accuracy
from policykd.kd.stochastic_teachers import PUBLISHED_WEIGHTS, PermutedWeights, mixed_teachers_kd, without_one_fold
from policykd.kd.tasks.base import Split
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import predict
from policykd.plain import Limits


@dataclass(frozen=True)
class RoSKDRecipe(Recipe):
    """Teachers that memorize noisy labels, and a student of the same data.

    Attributes:
        label_noise: Probability that a training label is redrawn from all classes.
        weights: Weights of the teachers, in a new order for every batch; one teacher per weight.
        average_start: Epochs of the student before its weights are averaged.
        epsilon: Largest change of a pixel, whose range is [0, 1], by an attack.
        attack_steps: Steps of PGD, each a quarter of epsilon.
    """

    teacher: Fit = Fit((128,), epochs=150)
    student: Fit = Fit((64,), epochs=150)
    shares: tuple[float, ...] = (0.334, 0.666)
    temperature: float = 10.0
    label_noise: Share = 0.4
    weights: tuple[float, ...] = PUBLISHED_WEIGHTS
    average_start: Annotated[int, Limits(0, 100_000)] = 75
    epsilon: Annotated[float, Limits(0.0, 1.0)] = 0.05
    attack_steps: Annotated[int, Limits(1, 1000)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        PermutedWeights(self.weights, seed=0)
        check_range("average_start", self.average_start, 0, self.student.config(10_000, 0).epochs - 1)
        if len(self.weights) < 2:
            raise ConfigError(f"weights is {self.weights}; several teachers need several weights")


class RoSKDCell(AveragingCell[RoSKDRecipe]):
    """One seed with noisy training labels and two sets of teachers: of overlapping parts, and of all rows."""

    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = super().splits()
        noisy = redrawn_labels(train.y, self.recipe.label_noise, seed=self.seed, purpose="ros_kd")
        return Split(train.x, noisy), test

    def _logits(self, parts: list[Tensor], kind: str) -> Tensor:
        fit, found = self.recipe.teacher, []
        for number, part in enumerate(parts):
            network = self.network("teacher", fit, "teacher", kind, number)
            trained = self.fit(network, cross_entropy, self.train.take(part), fit, ("order", kind, number))
            found.append(predict(trained, self.train)[0])
        return torch.stack(found)

    @cached_property
    def of_parts(self) -> Tensor:
        """Logits ``(K, N, C)`` of the teachers of overlapping parts for the students' samples."""
        parts = without_one_fold(len(self.train), len(self.recipe.weights), self.seed)
        return self._logits([torch.from_numpy(part) for part in parts], "part")

    @cached_property
    def of_all_rows(self) -> Tensor:
        """The same of teachers that all saw every sample and differ in their first weights and batches."""
        return self._logits([torch.arange(len(self.train))] * len(self.recipe.weights), "all rows")


def mixed(cell: RoSKDCell, taught: Tensor, *, permuted: bool = True) -> StudentLoss:
    """Return the loss of a student of several teachers.

    Args:
        cell: The cell.
        taught: The teachers' logits ``(K, N, C)``.
        permuted: Weights in a new random order for every batch; otherwise equal weights.
    """
    recipe, steps = cell.recipe, count()
    drawn = PermutedWeights(recipe.weights, seed=cell.seed)
    equal = torch.full((len(taught),), 1.0 / len(taught))

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        logits = student(batch.x)
        weights = drawn.at(next(steps)) if permuted else equal
        soft = mixed_teachers_kd(logits, taught[:, batch.index], weights, temperature=recipe.temperature)
        return recipe.kd_weight * soft + recipe.ce_weight * F.cross_entropy(logits, batch.targets)

    return loss


_ROS, _KD, _CE, _AVERAGED = "ros", "kd, one teacher", "ce", "ce, averaged"


class RoSKD(System[RoSKDRecipe]):
    """Students of noisy labels, of one teacher and of several, with and without averaged weights."""

    name = "ros_kd"
    title = "Robust stochastic distillation from teachers of overlapping parts of noisy data"
    paper = "Jaiswal, Ashutosh, Rousseau, Peng, Wang, Ding, ICDM 2022, arXiv 2210.08388"
    claim = (
        "With noisy labels, an averaged student of randomly mixed teachers is more accurate than a student of one "
        "teacher, one of the labels, and an averaged one of the labels."
    )
    claims = (
        higher("accuracy", _ROS, _KD).says("RoS-KD is more accurate than distillation from one teacher of all rows."),
        higher("accuracy", _ROS, _CE).says("RoS-KD is more accurate than cross-entropy on the noisy labels."),
        higher("accuracy", _ROS, _AVERAGED).says(
            "RoS-KD is more accurate than cross-entropy with equally averaged weights."
        ),
        higher("accuracy", _ROS, "ros, not averaged", required=False).says("Averaging the weights helps RoS-KD."),
        higher("accuracy", _ROS, "equal weights, averaged", required=False).says(
            "Random orders of uneven weights give a more accurate student than equal weights."
        ),
        higher("accuracy", _ROS, "ros, teachers of all rows", required=False).says(
            "Teachers of overlapping parts give a more accurate student than as many teachers of all rows."
        ),
        higher("fgsm accuracy", _ROS, _KD, required=False).says(
            "Under FGSM, RoS-KD is more accurate than distillation from one teacher."
        ),
        higher("pgd accuracy", _ROS, _KD, required=False).says(
            "Under PGD, RoS-KD is more accurate than distillation from one teacher."
        ),
    )
    notes = ("Attacks are white-box attacks on the weights whose accuracy is reported.",)
    recipe = RoSKDRecipe()
    cell = RoSKDCell
    with_teacher = False

    @override
    def arms(self, cell: RoSKDCell) -> dict[str, Arm]:
        average = Averaging("swa", start=cell.recipe.average_start)
        equal = mixed(cell, cell.of_parts, permuted=False)
        return {
            _CE: Arm(cross_entropy),
            _AVERAGED: AveragedArm(cross_entropy, averaging=average),
            _KD: Arm(plain_kd(cell.of_all_rows[0], cell.recipe)),
            "equal weights, averaged": AveragedArm(equal, averaging=average),
            "ros, not averaged": Arm(mixed(cell, cell.of_parts)),
            _ROS: AveragedArm(mixed(cell, cell.of_parts), averaging=average),
            "ros, teachers of all rows": AveragedArm(mixed(cell, cell.of_all_rows), averaging=average),
        }

    @override
    def measure(self, cell: RoSKDCell, network: nn.Module) -> dict[str, float]:
        x, y, epsilon = cell.test.x, cell.test.y, cell.recipe.epsilon
        steps = cell.recipe.attack_steps
        attacked = {
            "fgsm accuracy": fgsm(network, x, y, epsilon=epsilon),
            "pgd accuracy": pgd(network, x, y, epsilon=epsilon, step=epsilon / 4, steps=steps),
        }
        found = {name: accuracy(network(moved), y) for name, moved in attacked.items()}
        return {"accuracy": accuracy(network(x), y), **found}


EXPERIMENT = RoSKD().experiment()
