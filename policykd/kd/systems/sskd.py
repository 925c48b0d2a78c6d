"""SSKD: distillation meets self-supervision (Xu, Liu, Li, Loy, ECCV 2020, arXiv 2006.07114).

A head on the teacher's features learns to tell which original a rotated image comes from. The similarities that it
gives to rotated and original images are knowledge that the student takes over together with the class scores. Only
rows on which the teacher is right, or not too wrong, are transferred. The losses are
``policykd.kd.functional.selective_kd`` and ``sskd``, the networks ``policykd.kd.networks.headed_cnn``; here is the
experiment.

Departure: features for training a head are computed once, since no view is augmented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.few_labels import FewSamplesCell, FewSamplesRecipe
from policykd.kd.experiments.limits import Share, Temperature, Weight
from policykd.kd.experiments.system import Arm, Fit, StudentLoss, System, cross_entropy, higher, lower, plain_kd
from policykd.kd.losses.selective_kd import error_level, select_rows
from policykd.kd.losses.sskd import VIEWS, head_loss, originals, split_views, view_similarity
from policykd.kd.networks.headed_cnn import HeadedCNN, SimilarityHead, ViewOutputs
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch, Batches
from policykd.kd.training.evaluate import accuracy


@dataclass(frozen=True)
class SSKDRecipe(FewSamplesRecipe):
    """Digits as images: a teacher that saw many, a student that sees few; ``hidden`` are channels of convolutions.

    The weights, temperatures and shares of the four terms are the published ones.

    Attributes:
        teacher: Channels and training of the teacher.
        student: Channels and training of every student; 720 steps are the published 240 epochs. Its batch size is the
            number of originals that similarities are measured among.
        head_steps: Optimizer steps of the teacher's head; 930 are 30 epochs.
        rotated_weight: Weight of distillation on rotated views.
        similarity_weight: Weight of the similarity between rotated views and originals.
        rotated_temperature: T on rotated views.
        similarity_temperature: T on rows of the similarity.
        rotated_share: Share that is kept of the rotated views whose class the teacher gets wrong.
        similarity_share: Share that is kept of the rows of the similarity whose original the teacher gets wrong.
    """

    teacher: Fit = Fit((16, 32), steps=600, batch_size=32)
    student: Fit = Fit((8, 16), steps=720, batch_size=32)
    head_steps: int = 930
    rotated_weight: Weight = 2.7
    similarity_weight: Weight = 10.0
    rotated_temperature: Temperature = 4.0
    similarity_temperature: Temperature = 0.5
    rotated_share: Share = 1.0
    similarity_share: Share = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("student.batch_size", self.student.batch_size, 2, CLASSES * self.per_class)

    def objective(self, student: ViewOutputs, teacher: ViewOutputs, labels: Tensor) -> Tensor:
        """Return the weighted sum of the four terms.

        Args:
            student: The student's outputs.
            teacher: The teacher's, without a graph.
            labels: Classes of the images ``(B,)``.
        """
        normal, rotated = split_views(student.logits)
        normal_t, rotated_t = split_views(teacher.logits)
        rotated_labels = labels.repeat_interleave(VIEWS - 1)
        soft, share = self.rotated_temperature, self.rotated_share
        return (
            self.ce_weight * F.cross_entropy(normal, labels)
            + self.kd_weight * kf.kd(normal, normal_t, temperature=self.temperature)
            + self.rotated_weight * kf.selective_kd(rotated, rotated_t, rotated_labels, temperature=soft, share=share)
            + self.similarity_weight * self.similarity(student.embeddings, teacher.embeddings)
        )

    def similarity(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the unweighted term on embeddings of views ``(4 B, d)``."""
        return kf.sskd(student, teacher, temperature=self.similarity_temperature, share=self.similarity_share)


class SSKDCell(FewSamplesCell[SSKDRecipe]):
    """Networks with a head on digits as images; the teacher's batches follow from the cell's own seed."""

    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = (Split(split.x.reshape(-1, 1, 8, 8), split.y) for split in super().splits())
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> HeadedCNN:
        return HeadedCNN(fit.hidden, classes=CLASSES)

    @cached_property
    def known(self) -> tuple[Tensor, Tensor]:
        """The teacher's logits ``(N, 4, C)`` and embeddings ``(N, 4, d)`` of the views of the transfer data."""
        with torch.no_grad():
            outputs = self.teacher.outputs(self.transfer.x)
        return outputs.logits.unflatten(0, (-1, VIEWS)), outputs.embeddings.unflatten(0, (-1, VIEWS))

    def train_head(
        self, network: HeadedCNN, loss: StudentLoss, images: Tensor, fit: Fit, order: tuple[str, ...] | None
    ) -> None:
        """Train a head on features ``(N, 4, d)`` of views; the rest stays in eval mode and does not change at all."""
        network.eval()
        with torch.no_grad():
            features = network.view_features(images).unflatten(0, (-1, VIEWS))
        self.fit(network.head, loss, Split(features, torch.arange(len(images))), fit, order)

    def similarities(self, network: HeadedCNN, data: Split) -> Iterator[Tensor]:
        """Yield the similarities ``(3 B, B)`` of full batches in the data's order."""
        for batch in Batches(data, self.recipe.student.batch_size, shuffle=False, drop_last=True).epoch(0):
            yield view_similarity(network.outputs(batch.x).embeddings)

    def similarity_kl(self, student: HeadedCNN) -> dict[str, float]:
        """Return the mean divergence, in nats, of the rows of the student's test similarity from the teacher's."""
        pairs = zip(*(self.similarities(network, self.test) for network in (student, self.teacher)), strict=True)
        temperature = self.recipe.similarity_temperature
        values = [kf.kd(own, taught, temperature=temperature, scale_t2=False) for own, taught in pairs]
        return {"similarity kl": float(torch.stack(values).mean())}

    def similarity_kl_of_plain(self, student: HeadedCNN) -> dict[str, float]:
        """Fit a head to the finished features of a student without one, and return :meth:`similarity_kl`."""

        def follow(head: SimilarityHead, batch: Batch, epoch: int) -> Tensor:
            return self.recipe.similarity(head(batch.x.flatten(0, 1)), self.known[1][batch.index].flatten(0, 1))

        self.train_head(student, follow, self.transfer.x, self.recipe.student, self.student_order)
        return self.similarity_kl(student)


def find_original(head: SimilarityHead, batch: Batch, epoch: int) -> Tensor:
    """Return the loss that trains the teacher's head to find the original of every rotated view."""
    return head_loss(view_similarity(head(batch.x.flatten(0, 1))))


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
        higher("retrieval", "teacher", by=3.0, required=False).says(
            "The teacher's head finds the original of a rotated view more than three times as often as chance."
        ),
        lower("similarity kl", "sskd", "kd", required=False).says(
            "SSKD brings the similarity of test views closer to the teacher's than plain distillation does."
        ),
        lower("wrong rows", "transferred rows", "all rows", required=False).says(
            "Selective transfer lowers the share of rows of the similarity on which the teacher is wrong."
        ),
        higher("accuracy", "sskd", "ce").says("SSKD gives a higher test accuracy than cross-entropy."),
        higher("accuracy", "sskd", "kd").says("SSKD gives a higher test accuracy than plain distillation."),
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
        kept = [own[select_rows(own, cell.recipe.similarity_share)] for own in levels]
        return {
            arm: {"wrong rows": float((torch.cat(parts) > 0).double().mean())}
            for arm, parts in (("all rows", levels), ("transferred rows", kept))
        }


EXPERIMENT = SSKD().experiment()
