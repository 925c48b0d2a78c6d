"""SSKD: distillation meets self-supervision (Xu, Liu, Li, Loy, ECCV 2020, arXiv 2006.07114).

A head on the teacher's features learns to tell which original a rotated image comes from. The similarities that it
gives to rotated and original images are knowledge that the student takes over together with the class scores. Only
rows on which the teacher is right, or not too wrong, are transferred. The pieces of the method are in
``self_supervision`` and ``network``, its stages in ``cell``; here is the experiment.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from policykd.kd.experiments.digits import some_per_class
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import Arm, System, cross_entropy, higher, lower, plain_kd
from policykd.kd.systems.sskd.cell import SSKDCell, SSKDRecipe, find_original
from policykd.kd.systems.sskd.network import HeadedCNN
from policykd.kd.systems.sskd.self_supervision import ViewOutputs, error_level, originals, selected
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import accuracy


class SSKD(System[SSKDRecipe]):
    """Students of labels, of plain distillation and of all terms, which start alike and see the same images."""

    name = "sskd"
    title = "Distillation with self-supervised similarity between rotated views"
    paper = "Xu, Liu, Li, Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020, arXiv 2006.07114"
    claim = (
        "With few images, taking over the teacher's similarity between rotated views makes a student more accurate "
        "than plain distillation does, and plain distillation does not pass on this similarity."
    )
    claims = (
        higher(
            "retrieval",
            "teacher",
            by=3.0,
            says="The teacher's head finds the original of a rotated view more than three times as often as chance.",
        ),
        lower(
            "similarity kl",
            "sskd",
            "kd",
            says="SSKD brings the similarity of test views closer to the teacher's than plain distillation does.",
        ),
        lower(
            "wrong rows",
            "transferred rows",
            "all rows",
            says="Selective transfer lowers the share of rows of the similarity on which the teacher is wrong.",
        ),
        higher("accuracy", "sskd", "ce", says="SSKD gives a higher test accuracy than cross-entropy."),
        higher("accuracy", "sskd", "kd", says="SSKD gives a higher test accuracy than plain distillation."),
    )
    notes = (
        "A rotated digit can be another digit (6 and 9), unlike the objects in the paper's images; on rotated views "
        "only the teacher's soft outputs are transferred.",
        "Plain distillation has no head; for the comparison one is fitted to the finished student's features with the "
        "same similarity term and number of steps.",
        "Views are rotations without crops and flips, as a flip changes a digit; everything is trained by Adam.",
    )
    recipe = SSKDRecipe()
    cell = SSKDCell

    @override
    def prepare(self, cell: SSKDCell) -> None:
        cell.transfer = some_per_class(cell.train, cell.recipe.per_class, cell.seed)
        fit = replace(cell.recipe.teacher, epochs=0, steps=cell.recipe.head_steps)
        cell.train_head(cell.teacher, find_original, cell.train.x, fit, cell.teacher_order)

    @override
    def arms(self, cell: SSKDCell) -> dict[str, Arm]:
        def sskd(student: HeadedCNN, batch: Batch, epoch: int) -> Tensor:
            taught = ViewOutputs(*(values[batch.index].flatten(0, 1) for values in cell.known))
            return cell.recipe.objective(student.outputs(batch.x), taught, batch.targets)

        return {
            "ce": Arm(cross_entropy),
            "kd": Arm(plain_kd(cell.known[0][:, 0], cell.recipe), figures=cell.similarity_kl_of_plain),
            "sskd": Arm(sskd, figures=cell.similarity_kl),
        }

    @override
    def measure(self, cell: SSKDCell, network: HeadedCNN) -> dict[str, float]:
        found = {"accuracy": accuracy(network, cell.test)}
        if network is cell.teacher:  # how often the true original is the most similar one, in multiples of chance
            levels = torch.cat([error_level(rows, originals(rows)) for rows in cell.similarities(network, cell.test)])
            found["retrieval"] = float((levels == 0).double().mean()) * cell.recipe.student.batch_size
        return found

    @override
    def other_arms(self, cell: SSKDCell) -> Metrics:
        """Return the share of rows on which the teacher is wrong, before and after the selection."""
        levels = [error_level(rows, originals(rows)) for rows in cell.similarities(cell.teacher, cell.transfer)]
        kept = [own[selected(own, cell.recipe.similarity_share)] for own in levels]
        return {
            arm: {"wrong rows": float((torch.cat(parts) > 0).double().mean())}
            for arm, parts in (("all rows", levels), ("transferred rows", kept))
        }


EXPERIMENT = SSKD().experiment()
