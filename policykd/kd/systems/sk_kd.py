"""SK-KD: similarity-keeping distillation for low-density EEG (Huang, Chen, Wei, IEEE TETCI 2024, arXiv 2212.03329).

The teacher decodes all electrodes, the student a few electrodes of the same trials; besides the logits it keeps the
teacher's similarity between trials. The loss is in ``policykd.kd.losses.similarity_keeping``; here is the experiment on
generated features without a time axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd.experiments.limits import Weight
from policykd.kd.experiments.system import Arm, DistillationRecipe, Fit, OwnSeedCell, System, higher, lower
from policykd.kd.losses.ce import CE
from policykd.kd.losses.kd import KD
from policykd.kd.losses.similarity_keeping import similarity_keeping
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.terms import Term
from policykd.kd.tasks.base import Split
from policykd.seeding import generator


@dataclass(frozen=True)
class SKKDRecipe(DistillationRecipe):
    """Generated features: sources mixed into many electrodes, of which the student has few.

    Attributes:
        classes: Number of classes.
        sources: Sources of the brain.
        electrodes: Electrodes that the teacher has.
        kept: Electrodes that the student has; by default Fz, C5, C6 and POz of BCI IV-2a.
        mean_scale: Standard deviation of the sources' class means; that of a source within a class is 1.
        noise: Standard deviation of the electrodes' noise.
        samples: Training samples of teacher and students.
        test_samples: Samples for the final figures.
        sk_weight: Weight of the similarity of the last hidden layers.
    """

    teacher: Fit = Fit((32,), steps=800, batch_size=120)
    student: Fit = Fit((16,), steps=800, batch_size=120)
    classes: int = 4
    sources: int = 6
    electrodes: int = 22
    kept: tuple[int, ...] = (0, 6, 12, 21)
    mean_scale: float = 1.3
    noise: float = 0.5
    samples: int = 120
    test_samples: int = 2000
    sk_weight: Weight = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("student.batch_size", self.student.batch_size, 2, self.samples)
        for electrode in self.kept:
            check_range("kept", electrode, 0, self.electrodes - 1)


def source_trials(samples: Sequence[int], config: SKKDRecipe, rng: np.random.Generator) -> list[Split]:
    """Generate splits of one mixture: class-dependent sources, a random mixing matrix, electrode noise.

    Args:
        samples: Size of each split.
        config: Sources, electrodes and scales.
        rng: Source of randomness.
    """
    means = config.mean_scale * rng.normal(size=(config.classes, config.sources))
    mixing = rng.normal(size=(config.sources, config.electrodes))
    splits = []
    for count in samples:
        labels = rng.integers(config.classes, size=count)
        sources = means[labels] + rng.normal(size=(count, config.sources))
        x = sources @ mixing + config.noise * rng.normal(size=(count, config.electrodes))
        splits.append(Split(torch.from_numpy(x).float(), torch.from_numpy(labels)))
    return splits


class SKKDCell(OwnSeedCell[SKKDRecipe]):
    """All electrodes for the teacher, few for the students; the teacher's batches follow from the cell's own seed."""

    @override
    def splits(self) -> tuple[Split, Split]:
        sizes, rng = (self.recipe.samples, self.recipe.test_samples), generator(self.seed, "sk_kd", "trials")
        train, test = source_trials(sizes, self.recipe, rng)
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> MLP:
        inputs = self.recipe.electrodes if role == "teacher" else len(self.recipe.kept)
        return MLP((inputs,), fit.hidden, classes=self.recipe.classes)

    @property
    @override
    def teacher_inputs(self) -> Tensor:
        return self.train.x

    def few(self, split: Split) -> Split:
        """Return the same samples with the electrodes that the student has."""
        return Split(split.x[:, list(self.recipe.kept)], split.y)


def similarity_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the loss of features ``(B, D)`` without a time axis, which are normalized without centering."""
    return similarity_keeping(student[:, None], teacher[:, None], center=False)


class SKKD(System[SKKDRecipe]):
    """Students with few electrodes, which start alike and see the same batches."""

    name = "sk_kd"
    title = "Similarity-keeping distillation from many electrodes to few"
    paper = (
        "Huang, Chen, Wei, Enhancing Low-Density EEG-Based Brain-Computer Interfacing with Similarity-Keeping "
        "Knowledge Distillation, IEEE TETCI 8(2), 2024, arXiv 2212.03329"
    )
    claim = (
        "A student with few electrodes takes over the teacher's similarity between unseen samples, at no cost in "
        "accuracy."
    )
    claims = (
        *(
            lower("gram gap", "sk", arm, by=0.85, statistic="ratio", required=False).says(
                "Keeping similarities brings the similarity of test samples at least 15 % closer to the teacher's "
                f"than {other} does."
            )
            for arm, other in {"ce": "cross-entropy", "kd": "plain distillation"}.items()
        ),
        higher("accuracy", "sk", "ce").says("Keeping similarities raises test accuracy over cross-entropy."),
        higher("accuracy", "kd + sk", "ce", required=False).says(
            "Plain distillation with kept similarities gives a higher test accuracy than cross-entropy."
        ),
    )
    notes = (
        "No gain in accuracy is to be expected on static Gaussian features: the few electrodes do not hold the "
        "teacher's additional information. The paper's gain is on recorded EEG.",
        "Features have no time axis here, so they are normalized without centering; the loss for feature maps over "
        "time is similarity_keeping.",
    )
    recipe = SKKDRecipe()
    cell = SKKDCell

    @override
    def prepare(self, cell: SKKDCell) -> None:
        cell.transfer = cell.few(cell.train)

    @override
    def arms(self, cell: SKKDCell) -> dict[str, Arm]:
        recipe = cell.recipe
        taps = [f"hidden{len(fit.hidden)}" for fit in (recipe.student, recipe.teacher)]
        kept = recipe.sk_weight * Term(FunctionLoss(similarity_gap)).on(*taps)
        plain = {"ce": recipe.ce_weight * CE(), "kd": recipe.kd_weight * KD(temperature=recipe.temperature)}
        return {
            "ce": Arm(Objective(ce=CE())),
            "kd": Arm(Objective(plain)),
            "sk": Arm(Objective(ce=CE(), sk=kept)),
            "kd + sk": Arm(Objective(plain, sk=kept)),
        }

    @override
    def measure(self, cell: SKKDCell, network: MLP) -> dict[str, float]:
        if network is cell.teacher:
            return {"accuracy": accuracy(network(cell.test.x), cell.test.y)}
        features, logits = network.features_and_logits(cell.few(cell.test).x)
        expected = cell.teacher.features_and_logits(cell.test.x)[0]
        return {"accuracy": accuracy(logits, cell.test.y), "gram gap": float(similarity_gap(features, expected))}


EXPERIMENT = SKKD().experiment()
