"""STKD: similarity transfer with mixed virtual samples (Zhao, Gong, Sun, Dong, Yu 2021, arXiv 2103.10047).

The student learns the teacher's distribution of mixtures of the samples of a batch. Mixing and the teacher's logits for
the mixtures are in ``policykd.kd.training.mixing``; here is the experiment: few rows, with plain distillation and mixup
as controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.few_labels import FewSamplesCell, FewSamplesRecipe
from policykd.kd.experiments.limits import PerClass
from policykd.kd.experiments.system import Arm, Cell, Fit, System, cross_entropy, higher, plain_kd
from policykd.kd.training.batches import Batch
from policykd.kd.training.mixing import Reading, draw_mixing, virtual_teacher
from policykd.plain import Limits
from policykd.seeding import generator


@dataclass(frozen=True)
class STKDRecipe(FewSamplesRecipe):
    """A teacher that saw many digits, a student that sees few of them.

    Attributes:
        concentration: a of the Beta distribution of the mixing weights.
        images: Samples in a virtual one.
    """

    teacher: Fit = Fit((256, 64), steps=1000, batch_size=32)
    student: Fit = Fit((48,), steps=800, batch_size=32)
    per_class: PerClass = 4
    concentration: Annotated[float, Limits(1e-9, 1e9)] = 1.0
    images: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("images", self.images, 2, CLASSES * self.per_class)


def on_mixtures(cell: Cell[STKDRecipe], reading: Reading | None) -> Arm:
    """Return the arm that learns from virtual samples; without a reading there is no teacher (mixup alone)."""
    recipe, rng = cell.recipe, generator(cell.seed, "stkd", "mixing")

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        mixing = draw_mixing(len(batch.x), concentration=recipe.concentration, images=recipe.images, generator=rng)
        logits = student(mixing.mix(batch.x))
        hard = kf.ce(logits, mixing.mix(F.one_hot(batch.targets, CLASSES).float()))
        if reading is None:
            return hard
        taught = virtual_teacher(cell.teacher, batch.x, mixing, temperature=recipe.temperature, reading=reading)
        return recipe.ce_weight * hard + recipe.kd_weight * kf.kd(logits, taught, temperature=recipe.temperature)

    return Arm(loss)


class STKD(System[STKDRecipe]):
    """Students of real and of virtual samples, which start alike and see the same batches and mixings."""

    name = "stkd"
    title = "Similarity transfer: distillation on mixed virtual samples"
    paper = "Zhao, Gong, Sun, Dong, Yu, Similarity Transfer for Knowledge Distillation, 2021, arXiv 2103.10047"
    claim = (
        "With few samples, distillation on mixtures is as accurate as plain distillation and far more accurate than "
        "mixup without a teacher, and the teacher has to see the mixture."
    )
    claims = (
        higher("accuracy", "stkd on_mix", "kd").says(
            "Distillation on mixtures is at most 0.3 points less accurate than plain distillation."
        ),
        higher("accuracy", "stkd on_mix", "mixup").says(
            "Distillation on mixtures is more accurate than mixup without a teacher."
        ),
        higher("accuracy", "stkd on_mix", "stkd mixed_targets").says(
            "A teacher that sees the mixture teaches a more accurate student than the mixture of its outputs for "
            "the real samples."
        ),
    )
    gates = (-0.003, 0.074, 0.022)
    notes = (
        "Neither equations nor code of the paper could be read; both readings of its abstract are trained.",
        "The paper claims to be better than plain distillation; the requirement here is not to be worse.",
    )
    recipe = STKDRecipe()
    cell = FewSamplesCell

    @override
    def arms(self, cell: Cell[STKDRecipe]) -> dict[str, Arm]:
        return {
            "ce": Arm(cross_entropy),
            "mixup": on_mixtures(cell, None),
            "kd": Arm(plain_kd(cell.teacher, cell.recipe)),
            "stkd on_mix": on_mixtures(cell, "on_mix"),
            "stkd mixed_targets": on_mixtures(cell, "mixed_targets"),
        }


EXPERIMENT = STKD().experiment()
