"""One seed of SSKD: its configuration, networks with heads on digits as images, and the training of the heads.

Departure from the paper: features for training a head are computed once, since no view is augmented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.system import Cell, Fit, Recipe, StudentLoss
from policykd.kd.systems.sskd.network import HeadedCNN
from policykd.kd.systems.sskd.self_supervision import VIEWS, SimilarityHead, SSKDTerms, head_loss, view_similarity
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch, Batches


@dataclass(frozen=True)
class SSKDRecipe(Recipe, SSKDTerms):
    """Digits as images: a teacher that saw many, a student that sees few; ``hidden`` are channels of convolutions.

    Attributes:
        teacher: Channels and training of the teacher.
        student: Channels and training of every student; 720 steps are the published 240 epochs. Its batch size is the
            number of originals that similarities are measured among.
        per_class: Images per class that the student sees, all labeled.
        head_steps: Optimizer steps of the teacher's head; 930 are 30 epochs.
    """

    teacher: Fit = Fit((16, 32), steps=600, batch_size=32)
    student: Fit = Fit((8, 16), steps=720, batch_size=32)
    per_class: int = 10
    head_steps: int = 930

    def __post_init__(self) -> None:
        super().__post_init__()
        SSKDTerms.__post_init__(self)
        check_range("per_class", self.per_class, 2, 40)
        check_range("student.batch_size", self.student.batch_size, 2, CLASSES * self.per_class)


class SSKDCell(Cell[SSKDRecipe]):
    """Networks with a head on digits as images; the teacher's batches follow from the cell's own seed."""

    teacher_order = None
    student_order = ("student order",)

    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = (Split(split.x.reshape(-1, 1, 8, 8), split.y) for split in super().splits())
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> HeadedCNN:
        return HeadedCNN(fit.hidden)

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
            known = view_similarity(self.known[1][batch.index].flatten(0, 1))
            return self.recipe.similarity(view_similarity(head(batch.x.flatten(0, 1))), known)

        self.train_head(student, follow, self.transfer.x, self.recipe.student, self.student_order)
        return self.similarity_kl(student)


def find_original(head: SimilarityHead, batch: Batch, epoch: int) -> Tensor:
    """Return the loss that trains the teacher's head to find the original of every rotated view."""
    return head_loss(view_similarity(head(batch.x.flatten(0, 1))))
