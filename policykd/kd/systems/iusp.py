"""IUSP: intra-utterance similarity preserving distillation (Chang, Kao, Sun, Wang, Interspeech 2020, arXiv 2009.01759).

Similarity-preserving distillation (``sp``) compares the clips of a batch with one another; ``iusp`` compares the time
frames inside one clip. Both work on frame-level activations; multi-label teachers are distilled by ``binary_kd``. The
losses are in ``policykd.kd.losses``; here is the experiment on generated clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from policykd.kd.experiments.limits import Share, Weight
from policykd.kd.experiments.system import Arm, DistillationRecipe, Fit, OwnSeedCell, System, higher
from policykd.kd.losses.binary_kd import BinaryKD
from policykd.kd.losses.iusp import IUSP
from policykd.kd.losses.sp import SP
from policykd.kd.metrics import micro_average_precision
from policykd.kd.networks.frame_tagger import FrameTagger
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.terms import Term
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.plain import Limits
from policykd.seeding import generator


@dataclass(frozen=True)
class IUSPRecipe(DistillationRecipe):
    """Generated clips: events with random prototypes come and go in noise.

    Attributes:
        tags: Number of events.
        width: Size of a frame.
        frames: Frames of a clip.
        prior: Probability that an event is in a clip.
        active: Probability that a frame shows one of the clip's events instead of background.
        prototype_scale: Standard deviation of the prototypes; that of the noise is 1.
        teacher_clips: Clips that the teacher is trained on.
        clips: Clips that the students see, all tagged.
        test_clips: Clips for the final figure.
        similarity_weight: Weight of either similarity loss, of the last hidden layer.
    """

    teacher: Fit = Fit((128, 64), steps=500)
    student: Fit = Fit((16, 16), steps=500, batch_size=16)
    temperature: float = 2.0
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    tags: int = 6
    width: int = 24
    frames: int = 10
    prior: Annotated[float, Limits(0.01, 0.99)] = 0.25
    active: Share = 0.7
    prototype_scale: float = 0.6
    teacher_clips: int = 3000
    clips: Annotated[int, Limits(2, 10**6)] = 100
    test_clips: int = 600
    similarity_weight: Weight = 100.0


def event_clips(prototypes: np.ndarray, clips: int, config: IUSPRecipe, rng: np.random.Generator) -> Split:
    """Generate clips: every frame is noise, plus the prototype of one of the clip's events if it is an active frame.

    Args:
        prototypes: Frames of the events ``(C, D)``.
        clips: Number of clips N.
        config: Frames, prior and activity.
        rng: Source of randomness.

    Returns:
        Frames ``(N, T, D)`` and tags ``(N, C)``, 0 or 1.
    """
    tags = rng.random((clips, config.tags)) < config.prior
    frames = rng.normal(size=(clips, config.frames, config.width))
    # the largest of random numbers is a fair draw among the events that are there
    chosen = np.where(tags[:, None], rng.random((clips, config.frames, config.tags)), -1.0).argmax(2)
    shown = (rng.random((clips, config.frames)) < config.active) & tags.any(1, keepdims=True)
    frames += shown[..., None] * prototypes[chosen]
    return Split(torch.from_numpy(frames).float(), torch.from_numpy(tags).float())


class IUSPCell(OwnSeedCell[IUSPRecipe]):
    """Taggers of generated clips; the teacher's batches follow from the cell's own seed.

    Attributes:
        few: The clips that the students see.
    """

    few: Split

    @override
    def splits(self) -> tuple[Split, Split]:
        recipe, rng = self.recipe, generator(self.seed, "iusp", "clips")
        prototypes = recipe.prototype_scale * rng.normal(size=(recipe.tags, recipe.width))
        sizes = (recipe.teacher_clips, recipe.clips, recipe.test_clips)
        many, self.few, test = (event_clips(prototypes, clips, recipe, rng) for clips in sizes)
        return many, test

    @override
    def build(self, role: str, fit: Fit) -> FrameTagger:
        return FrameTagger(self.recipe.width, fit.hidden, self.recipe.tags)

    @override
    def on_labels(self, network: FrameTagger, batch: Batch, epoch: int) -> Tensor:
        return self.recipe.ce_weight * F.binary_cross_entropy_with_logits(network(batch.x), batch.targets)


def tag_loss(student: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of logits with independent labels, both ``(B, C)``."""
    return F.binary_cross_entropy_with_logits(student, target)


class IUSPSystem(System[IUSPRecipe]):
    """Taggers that keep similarities within or between clips, which start alike and see the same batches."""

    name = "iusp"
    title = "Intra-utterance similarity preserving distillation for tagging"
    paper = (
        "Chang, Kao, Sun, Wang, Intra-Utterance Similarity Preserving Knowledge Distillation for Audio Tagging, "
        "Interspeech 2020, arXiv 2009.01759"
    )
    claim = (
        "Similarity between the frames of a clip teaches a small tagger more than similarity between clips, and both "
        "are better than no distillation."
    )
    claims = (
        higher("average precision", "iusp", "sp").says(
            "With one weight, keeping the similarity of frames gives a higher average precision than keeping that "
            "of clips."
        ),
        higher("average precision", "sp", "baseline").says(
            "Keeping the similarity of clips gives a higher average precision than no distillation."
        ),
        higher("average precision", "iusp", "kd", required=False).says(
            "Keeping the similarity of frames gives a higher average precision than plain distillation."
        ),
    )
    gates = (0.00054, 0.018)
    notes = (
        "Clips are generated; the paper's data are recordings of urban sound. The full text was not available: "
        "normalization is that of similarity-preserving distillation, averaging over clips a choice made here.",
        "One weight serves both similarity losses, although their values differ in size.",
    )
    recipe = IUSPRecipe()
    cell = IUSPCell

    @override
    def prepare(self, cell: IUSPCell) -> None:
        cell.transfer = cell.few

    @override
    def arms(self, cell: IUSPCell) -> dict[str, Arm]:
        recipe, weight = cell.recipe, cell.recipe.similarity_weight
        tags = recipe.ce_weight * Term(FunctionLoss(tag_loss))
        terms = {
            "baseline": {},
            "kd": {"kd": recipe.kd_weight * BinaryKD(temperature=recipe.temperature)},
            "sp": {"sp": weight * SP().on("layers")},
            "iusp": {"iusp": weight * IUSP().on("layers")},
        }
        return {arm: Arm(Objective({"tags": tags, **own}), teacher=cell.teacher) for arm, own in terms.items()}

    @override
    def measure(self, cell: IUSPCell, network: FrameTagger) -> dict[str, float]:
        return {"average precision": micro_average_precision(network(cell.test.x), cell.test.y)}


EXPERIMENT = IUSPSystem().experiment()
