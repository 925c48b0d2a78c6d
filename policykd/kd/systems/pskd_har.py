"""PSKD: a student with one sensor, taught step by step by teachers that also see another one.

Ni, Ngu and Yan, Progressive Cross-modal Knowledge Distillation for Human Action Recognition (ACM Multimedia 2022, arXiv
2208.08090). Every sample chooses among the teachers that are right about it, or its label; the rule is in
``policykd.kd.adaptive_confidence``, pictures of series in ``policykd.kd.data.angular_field``.

Departures: neither text nor code could be read, so the rule, stages and weights are the reconstruction of the method's
card. Class names are random orthonormal vectors instead of word vectors. Teachers stop early instead of having weight
decay, so that their confidences differ. Stages share one optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd import functional as kf
from policykd.kd.adaptive_confidence import adaptive_confidence, class_vectors, most_confident, teachers_of_stage
from policykd.kd.ensembles import ensemble_logits
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Weight
from policykd.kd.experiments.system import (
    Arm,
    Cell,
    DistillationRecipe,
    Fit,
    StudentLoss,
    System,
    cross_entropy,
    higher,
)
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import predict
from policykd.plain import Limits
from policykd.seeding import generator

Samples = Annotated[int, Limits(8, 1_000_000)]


@dataclass(frozen=True)
class PSKDOptions(DistillationRecipe):
    """The method's options.

    Attributes:
        confidence_weight: Weight of the term with the chosen teacher.
        semantic_weight: Weight of the class vectors.
        vector_size: Size of a class vector.
    """

    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    confidence_weight: Weight = 0.9
    semantic_weight: Weight = 0.1
    vector_size: Annotated[int, Limits(2, 10_000)] = 300


@dataclass(frozen=True)
class PSKDRecipe(PSKDOptions):
    """Generated pairs: two noisy linear views of one latent vector.

    Attributes:
        classes: Number of classes.
        latent: Size of the latent vector.
        spread: Deviation within a class; class centers have deviation one.
        skeleton: Width and noise of the view that only teachers see.
        accelerometer: Width and noise of the student's view.
        samples: Training pairs.
        test_samples: Test pairs.
    """

    teacher: Fit = Fit((64,), epochs=30)
    student: Fit = Fit((24,), epochs=150)
    classes: Annotated[int, Limits(2, 100)] = 8
    latent: Annotated[int, Limits(1, 1000)] = 6
    spread: Scale = 0.7
    skeleton: tuple[int, float] = (30, 0.3)
    accelerometer: tuple[int, float] = (12, 0.6)
    samples: Samples = 240
    test_samples: Samples = 2000


class PSKDCell(Cell[Any]):
    """One seed with a view for the student and more for the teachers, weakest teacher first.

    Attributes:
        views: Teacher -> its training inputs, which are paired with the student's sample by sample.
        test_views: Teacher -> its test inputs.
    """

    views: Mapping[str, Tensor]
    test_views: Mapping[str, Tensor]
    classes: int

    @override
    def splits(self) -> tuple[Split, Split]:
        recipe: PSKDRecipe = self.recipe
        rng, self.classes = generator(self.seed, "pskd_har", "data"), recipe.classes
        count = recipe.samples + recipe.test_samples
        y = rng.integers(0, recipe.classes, count)
        centers = rng.normal(size=(recipe.classes, recipe.latent))
        latent = centers[y] + recipe.spread * rng.normal(size=(count, recipe.latent))
        seen = []
        for width, noise in (recipe.accelerometer, recipe.skeleton):
            view = latent @ rng.normal(size=(recipe.latent, width)) / recipe.latent**0.5
            seen.append(torch.from_numpy(view + noise * rng.normal(size=view.shape)).float())
        acceleration, skeleton = seen
        every = {"accelerometer": acceleration, "skeleton": skeleton, "both": torch.cat(seen, 1)}
        self.views = {name: view[: recipe.samples] for name, view in every.items()}
        self.test_views = {name: view[recipe.samples :] for name, view in every.items()}
        whole, rows = Split(acceleration, torch.from_numpy(y)), torch.arange(count)
        return whole.take(rows[: recipe.samples]), whole.take(rows[recipe.samples :])

    @override
    def build(self, role: str, fit: Fit) -> nn.Module:
        view = self.train.x if role == "student" else self.views[role]
        return MLP((view.shape[1],), fit.hidden, classes=self.classes)

    @cached_property
    def teachers(self) -> dict[str, nn.Module]:
        """The teachers by their view."""
        fit, found = self.recipe.teacher, {}
        for name, view in self.views.items():
            data = Split(view, self.train.y)
            found[name] = self.fit(self.network(name, fit), cross_entropy, data, fit, ("order", "teacher", name))
        return found

    @cached_property
    def answers(self) -> Tensor:
        """The teachers' logits ``(M, N, C)`` for the training samples."""
        pairs = ((network, Split(self.views[name], self.train.y)) for name, network in self.teachers.items())
        return torch.stack([predict(network, data)[0] for network, data in pairs])


def pskd(cell: PSKDCell, *, stages: bool = True, semantic: bool = True) -> Arm:
    """Return the arm of the method.

    Args:
        cell: The cell.
        stages: Whether teachers join one after the other; otherwise all teach from the first epoch.
        semantic: Whether a linear layer also predicts the class vector from the student's feature.
    """
    recipe, answers = cell.recipe, cell.answers
    epochs = recipe.student.config(len(cell.transfer), 0).epochs
    vectors = class_vectors(cell.classes, recipe.vector_size, cell.seed)
    head = cell.network("student", recipe.student).fc.in_features
    layer = nn.Linear(head, recipe.vector_size)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)

    def loss(student: Any, batch: Batch, epoch: int) -> Tensor:
        features, logits = student.features_and_logits(batch.x)
        used = teachers_of_stage(epoch, epochs, len(answers)) if stages else len(answers)
        chosen = answers[:used, batch.index]
        soft = adaptive_confidence(logits, chosen, batch.targets, temperature=recipe.temperature)
        total = recipe.ce_weight * F.cross_entropy(logits, batch.targets) + recipe.confidence_weight * soft
        if not semantic:
            return total
        return total + recipe.semantic_weight * F.mse_loss(layer(features), vectors[batch.targets])

    return Arm(loss, along=[layer] if semantic else [])


def from_logits(cell: PSKDCell, taught: Tensor) -> StudentLoss:
    """Return the loss of plain distillation from fixed logits ``(N, C)``."""
    recipe = cell.recipe

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        logits = student(batch.x)
        soft = kf.kd(logits, taught[batch.index], temperature=recipe.temperature)
        return recipe.ce_weight * F.cross_entropy(logits, batch.targets) + recipe.kd_weight * soft

    return loss


_ACS, _CE, _SAME = "acs", "ce", "kd accelerometer"


class PSKDHAR(System[Any]):
    """Students of the labels, of single teachers, of their mean, and of the teacher that a sample chooses."""

    name = "pskd_har"
    title = "Progressive distillation across sensors with a teacher chosen per sample"
    paper = "Ni, Ngu, Yan, ACM Multimedia 2022, arXiv 2208.08090"
    claim = (
        "A student with an accelerometer learns more from teachers with and without a skeleton, chosen per sample, "
        "than from labels or from a teacher with its own sensor."
    )
    claims = (
        higher("accuracy", _ACS, _CE).says("The method gives a more accurate student than labels."),
        higher("accuracy", _ACS, _SAME).says(
            "The method gives a more accurate student than the teacher with the student's sensor."
        ),
        higher("accuracy", _ACS, "kd mean of teachers", required=False).says(
            "Choosing a teacher per sample gives a more accurate student than the mean of all teachers."
        ),
        higher("accuracy", _ACS, "kd both", required=False).says(
            "The method gives a more accurate student than the teacher that sees both sensors."
        ),
        higher("accuracy", _ACS, "acs, all at once", required=False).says(
            "Teachers that join one after the other give a more accurate student than all teachers from the start."
        ),
        higher("accuracy", _ACS, "acs, no vectors", required=False).says(
            "Class vectors give a more accurate student than the other terms alone."
        ),
    )
    notes = ("The class vectors are random, so they can only act as a regularizer.",)
    recipe: Any = PSKDRecipe()
    cell = PSKDCell
    with_teacher = False

    @override
    def arms(self, cell: PSKDCell) -> dict[str, Arm]:
        names, answers = list(cell.views), cell.answers
        mean = ensemble_logits(answers, [1.0] * len(answers), temperature=cell.recipe.temperature)
        single = {f"kd {name}": Arm(from_logits(cell, answers[m])) for m, name in enumerate(names)}
        return {
            _CE: Arm(cross_entropy),
            **single,
            "kd mean of teachers": Arm(from_logits(cell, mean)),
            "acs, all at once": pskd(cell, stages=False),
            "acs, no vectors": pskd(cell, semantic=False),
            _ACS: pskd(cell),
        }

    @override
    def other_arms(self, cell: PSKDCell) -> Metrics:
        chosen, right = most_confident(cell.answers, cell.train.y)
        found = {}
        for number, (name, network) in enumerate(cell.teachers.items()):
            share = float(((chosen == number) & right).double().mean())
            found[f"teacher {name}"] = {
                "accuracy": accuracy(network(cell.test_views[name]), cell.test.y),
                "chosen": share,
            }
        return found


EXPERIMENT = PSKDHAR().experiment()
