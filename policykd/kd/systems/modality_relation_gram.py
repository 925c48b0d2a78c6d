"""Distillation of the relations between a teacher's modalities: the Gram matrix across modalities, per sample.

Liu, Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix (arXiv 2112.11447). The loss is
``policykd.kd.losses.modality_gram``, the networks are ``policykd.kd.networks.cosine_fusion``; here is the experiment on
generated data. Departures: only the abstract was readable, so data and settings are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.limits import Share, Weight
from policykd.kd.experiments.system import Arm, Cell, DistillationRecipe, Fit, System, higher, lower
from policykd.kd.losses.modality_gram import modality_gram, pairwise_cosines
from policykd.kd.metrics import accuracy, agreement
from policykd.kd.networks.cosine_fusion import CosineFusion
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.seeding import generator


@dataclass(frozen=True)
class ModalityRecipe(DistillationRecipe):
    """Generated data: three views of one latent vector, one of which is sometimes that of another sample.

    Attributes:
        teacher: Width of the encoders' hidden layer and of the common space, and training of the teacher.
        student: The same of every student.
        latent: Size of the latent vector.
        classes: Number of classes.
        separation: Standard deviation of the class centers; the latent spread within a class is one.
        inputs: Width of every modality.
        noise: Standard deviation of the noise on every input.
        corruption: Probability that one of a sample's modalities is replaced by that of another sample.
        teacher_samples: Samples that the teacher learns from; the students see the first ones of them.
        student_samples: Samples that the students see.
        test_samples: Samples for testing.
        gram_weight: Weight of the Gram term.
    """

    teacher: Fit = Fit((64, 32), epochs=20)
    student: Fit = Fit((16, 8), epochs=100)
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    latent: int = 6
    classes: int = 4
    separation: float = 1.5
    inputs: tuple[int, ...] = (20, 15, 10)
    noise: float = 0.3
    corruption: Share = 0.3
    teacher_samples: int = 2000
    student_samples: int = 200
    test_samples: int = 1000
    gram_weight: Weight = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("student_samples", self.student_samples, 1, self.teacher_samples)
        for role, fit in (("teacher", self.teacher), ("student", self.student)):
            if len(fit.hidden) != 2:
                raise ConfigError(
                    f"{role}.hidden must be the widths of hidden layer and common space, got {fit.hidden}"
                )


def modality_data(seed: int, recipe: ModalityRecipe) -> tuple[Split, Tensor]:
    """Draw all samples of a cell; the last ones are for testing.

    Args:
        seed: The cell's seed; it also draws class centers and views.
        recipe: Sizes and scales.

    Returns:
        Inputs with labels, and the corrupted modality of every sample ``(N,)``, -1 for none.
    """
    rng = generator(seed, "modality_relation_gram", "data")
    count = recipe.teacher_samples + recipe.test_samples
    centers = recipe.separation * rng.normal(size=(recipe.classes, recipe.latent))
    y = rng.integers(0, recipe.classes, count)
    latent = centers[y] + rng.normal(size=(count, recipe.latent))
    views = [np.tanh(latent @ rng.normal(size=(recipe.latent, size)) / recipe.latent**0.5) for size in recipe.inputs]
    corrupted = np.where(rng.uniform(size=count) < recipe.corruption, rng.integers(0, len(views), count), -1)
    donor = (np.arange(count) + rng.integers(1, count, count)) % count  # never the sample itself
    mixed = [np.where((corrupted == m)[:, None], view[donor], view) for m, view in enumerate(views)]
    x = np.concatenate(mixed, axis=1)
    x = x + recipe.noise * rng.normal(size=x.shape)
    return Split(torch.from_numpy(x).float(), torch.from_numpy(y)), torch.from_numpy(corrupted)


class ModalityCell(Cell[ModalityRecipe]):
    """Fusing networks on generated modalities; all batches follow from the cell's own seed.

    Attributes:
        corrupted: The corrupted modality of every test sample, -1 for none.
    """

    teacher_order = None
    student_order = None
    corrupted: Tensor

    @override
    def splits(self) -> tuple[Split, Split]:
        data, corrupted = modality_data(self.seed, self.recipe)
        rows, count = torch.arange(len(data)), self.recipe.teacher_samples
        self.corrupted = corrupted[count:]
        return data.take(rows[:count]), data.take(rows[count:])

    @override
    def build(self, role: str, fit: Fit) -> CosineFusion:
        hidden, width = fit.hidden
        return CosineFusion(self.recipe.inputs, hidden=hidden, width=width, classes=self.recipe.classes)


def related(cell: ModalityCell, *, kd_weight: float = 0.0, gram_weight: float = 0.0) -> Arm:
    """Return the arm with labels and, where their weights are not 0, the teacher's outputs and Gram matrices."""
    with torch.no_grad():
        taught = cell.teacher.embeddings(cell.transfer.x)
        answers = cell.teacher.classify(taught)

    def loss(student: CosineFusion, batch: Batch, epoch: int) -> Tensor:
        own = student.embeddings(batch.x)
        logits = student.classify(own)
        total = cell.recipe.ce_weight * F.cross_entropy(logits, batch.targets)
        if kd_weight:
            total = total + kd_weight * kf.kd(logits, answers[batch.index], temperature=cell.recipe.temperature)
        return total + gram_weight * modality_gram(own, taught[batch.index]) if gram_weight else total

    return Arm(loss)


_BOTH = "output and gram"


class ModalityRelationGram(System[ModalityRecipe]):
    """Students of labels, of outputs, of Gram matrices and of both."""

    name = "modality_relation_gram"
    title = "Distillation of the modality-level Gram matrix"
    paper = "Liu, Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix, arXiv 2112.11447"
    claim = (
        "The Gram term passes on the relations between modalities, which outputs alone do not, at no cost in accuracy."
    )
    claims = (
        lower("gram error", _BOTH, "output", by=0.5, statistic="ratio", required=False).says(
            "On test data, the Gram term at least halves the Gram error of a student of outputs alone."
        ),
        higher("cosine correlation", _BOTH, by=0.7, required=False).says(
            "With the Gram term, cosines of test samples have a correlation of more than 0.7 with the teacher's."
        ),
        higher("cosine correlation", _BOTH, "output", required=False).says(
            "With the Gram term, test cosines correlate more with the teacher's than with outputs alone."
        ),
        higher("accuracy", _BOTH, "output").says("The Gram term gives a higher test accuracy than outputs alone."),
        higher("accuracy on corrupted", _BOTH, "labels only").says(
            "Outputs and Gram term cost at most 1 point of accuracy on corrupted samples against labels alone."
        ),
        higher("corrupted modality found", _BOTH, "output", required=False).says(
            "With the Gram term, the corrupted modality is the least trusted more often than with outputs alone."
        ),
    )
    gates = (0.0018, -0.01)
    notes = (
        "Data are generated; the paper's data and settings were not readable.",
        "Cosines mean something here because the networks fuse by them; with independent encoders they would not.",
    )
    recipe = ModalityRecipe()
    cell = ModalityCell

    @override
    def prepare(self, cell: ModalityCell) -> None:
        cell.transfer = cell.train.take(torch.arange(cell.recipe.student_samples))

    @override
    def arms(self, cell: ModalityCell) -> dict[str, Arm]:
        output, gram = {"kd_weight": cell.recipe.kd_weight}, {"gram_weight": cell.recipe.gram_weight}
        return {
            "labels only": related(cell),
            "output": related(cell, **output),
            "gram": related(cell, **gram),
            _BOTH: related(cell, **output, **gram),
        }

    @override
    def measure(self, cell: ModalityCell, network: CosineFusion) -> dict[str, float]:
        own, taught = network.embeddings(cell.test.x), cell.teacher.embeddings(cell.test.x)
        logits, hit = network.classify(own), cell.corrupted >= 0
        cosines = torch.stack([pairwise_cosines(own).flatten(), pairwise_cosines(taught).flatten()])
        found = network.trust(own).argmin(1) == cell.corrupted
        return {
            "accuracy": accuracy(logits, cell.test.y),
            "accuracy on corrupted": accuracy(logits[hit], cell.test.y[hit]),
            "agreement": agreement(logits, cell.teacher.classify(taught)),
            "gram error": float(modality_gram(own, taught)),
            "cosine correlation": float(torch.corrcoef(cosines)[0, 1]),
            "corrupted modality found": float(found[hit].double().mean()),
        }


EXPERIMENT = ModalityRelationGram().experiment()
