"""CRD: contrastive representation distillation (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699).

The loss, its memory banks, negatives and constants are ``policykd.kd.losses.CRD``; the measures of how much of the
teacher's representation the student has are in ``policykd.kd.representations``. Here is the experiment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import override

from policykd.kd.experiments.feature_metrics import compare_features
from policykd.kd.experiments.few_labels import FewSamplesCell, FewSamplesRecipe
from policykd.kd.experiments.limits import Temperature, Weight
from policykd.kd.experiments.system import Arm, Fit, System, cross_entropy, higher, plain_kd
from policykd.kd.losses import KDLoss
from policykd.kd.losses.ce import CE
from policykd.kd.losses.crd import CRD
from policykd.kd.losses.kd import KD
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.terms import Term
from policykd.kd.representations import info_nce_bound, linear_cka
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class CRDRecipe(FewSamplesRecipe):
    """A teacher that saw many digits, a student that sees few of them; their last hidden layers are contrasted.

    Attributes:
        joint_ce_weight: Weight of the cross-entropy where the contrastive term joins plain distillation.
        joint_kd_weight: Weight of the divergence there.
        crd_weight: Weight of the contrastive term.
        width: E, width of the embeddings.
        negatives: K per sample.
        contrast_temperature: T of the contrastive scores.
        momentum: Share of the old entry when a memory bank is updated.
    """

    teacher: Fit = Fit((256, 64), steps=1000, batch_size=32)
    student: Fit = Fit((48, 32), steps=800, batch_size=32)
    joint_ce_weight: Weight = 1.0
    joint_kd_weight: Weight = 1.0
    crd_weight: Weight = 0.8
    width: int = 16
    negatives: int = 64
    contrast_temperature: Temperature = 0.1
    momentum: float = 0.5


class CRDCell(FewSamplesCell[CRDRecipe]):
    """Embeddings and memory banks for students."""

    def contrast(self) -> CRD:
        """Return new embeddings and memory banks; they begin alike in every arm."""
        recipe, rows = self.recipe, self.transfer
        return seeded(
            lambda: CRD(
                len(rows),
                recipe.student.hidden[-1],
                recipe.teacher.hidden[-1],
                dim=recipe.width,
                negatives=recipe.negatives,
                temperature=recipe.contrast_temperature,
                momentum=recipe.momentum,
                labels=rows.y,
                seed=integer_seed(self.seed, "crd"),
            ),
            self.seed,
            "crd embeddings",
        )

    def contrast_for(self, student: MLP) -> CRD:
        """Return embeddings for a student that was trained without them, trained on its finished features."""
        features, known = Split(student.features_and_logits(self.transfer.x)[0], self.transfer.y), self.taught[0]

        def loss(contrast: CRD, batch: Batch, epoch: int) -> Tensor:
            return contrast(batch.x, known[batch.index], batch.index)

        return self.fit(self.contrast(), loss, features, self.recipe.student, self.student_order)

    def information(self, student: MLP, contrast: CRD) -> dict[str, float]:
        """Return the bound on the information that the embeddings share, on test data."""
        features = (network.features_and_logits(self.test.x)[0] for network in (student, self.teacher))
        temperature = self.recipe.contrast_temperature
        return {"information": info_nce_bound(*contrast.embed(*features), temperature=temperature)}


def contrasted(cell: CRDCell, **terms: Term | KDLoss) -> Arm:
    """Return the arm with other terms and the contrastive term between the last hidden layers."""
    contrast, recipe = cell.contrast(), cell.recipe
    taps = (f"hidden{len(fit.hidden)}" for fit in (recipe.student, recipe.teacher))
    objective = Objective({**terms, "crd": recipe.crd_weight * contrast.on(*taps)})
    return Arm(objective, figures=lambda student: cell.information(student, contrast))


_SAME = "kd, same weights"


class CRDSystem(System[CRDRecipe]):
    """Students with and without the contrastive term, which start alike and see the same batches."""

    name = "crd"
    title = "Contrastive representation distillation"
    paper = "Tian, Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020, arXiv 1910.10699"
    claim = (
        "The contrastive term makes a student with few samples more accurate, alone and added to plain distillation."
    )
    claims = (
        higher("accuracy", "crd", "ce").says("The contrastive term raises test accuracy over cross-entropy."),
        higher("accuracy", "kd + crd", _SAME).says(
            "Added to plain distillation, with the same weights on both sides, the term raises test accuracy."
        ),
        higher("information", "crd", "ce", required=False).says(
            "On test data, the lower bound on the information shared with the teacher is larger with the "
            "contrastive term than with cross-entropy."
        ),
    )
    gates = (0.0066, 0.0)
    notes = (
        "The bound is that of InfoNCE between the embeddings. The student of cross-entropy gets its embeddings after "
        "its own training, by the contrastive term and the same number of steps on its finished features.",
        "Weights are the published ones: cross-entropy and divergence have 0.1 and 0.9 in plain distillation, and 1 "
        "and 1 where the contrastive term is added. The claim compares that student with plain distillation at 1 and "
        "1, so that the two differ in the term alone.",
        "The paper draws K = 16384 negatives from 50000 samples; the loss depends on K over the number of samples.",
    )
    recipe = CRDRecipe()
    cell = CRDCell

    @override
    def arms(self, cell: CRDCell) -> dict[str, Arm]:
        recipe = cell.recipe
        same = replace(recipe, ce_weight=recipe.joint_ce_weight, kd_weight=recipe.joint_kd_weight)
        return {
            "ce": Arm(cross_entropy, figures=lambda student: cell.information(student, cell.contrast_for(student))),
            "crd": contrasted(cell, ce=CE()),
            "kd": Arm(plain_kd(cell.taught[1], recipe)),
            _SAME: Arm(plain_kd(cell.taught[1], same)),
            "kd + crd": contrasted(
                cell, ce=recipe.joint_ce_weight * CE(), kd=recipe.joint_kd_weight * KD(temperature=recipe.temperature)
            ),
        }

    @override
    def measure(self, cell: CRDCell, network: MLP) -> dict[str, float]:
        return compare_features(cell, network, **({} if network is cell.teacher else {"cka": linear_cka}))


EXPERIMENT = CRDSystem().experiment()
