"""AMAL: for every sample, how much to learn from its label and how much from a teacher, decided by clean held-out data.

Sivasubramanian, Maheshwari, Shenoy, Prathosh and Ramakrishnan, Adaptive Mixing of Auxiliary Losses in Supervised
Learning (AAAI 2023, arXiv 2202.03250). Weights and their gradients are in ``policykd.kd.adaptive_mixing``.

Departures: the rate of the weights does not depend on the scale of the virtual step (``kappa``); the variant for
labeling rules, whose code is not published, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.divergences import categorical_kl
from policykd.kd.adaptive_mixing import MixingWeights, loss_gradients
from policykd.kd.experiments.digits import redrawn_labels
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share
from policykd.kd.experiments.system import Arm, Cell, Fit, Recipe, StudentLoss, System, cross_entropy, higher
from policykd.kd.metrics import accuracy
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import evaluating
from policykd.plain import Limits
from policykd.seeding import generator

Count = Annotated[int, Limits(1, 1_000_000)]


@dataclass(frozen=True)
class AMALRecipe(Recipe):
    """A teacher of noisy labels, a student of the same, and a few clean rows to decide by.

    Attributes:
        label_noise: Probability that a training label is redrawn from all classes.
        start: First weight of the teacher.
        refine_every: Epochs between two refinements of the weights.
        group: Samples of a group, which one virtual step sees together.
        updates: Updates of a group in a refinement.
        look_ahead: Rate of the virtual step.
        kappa: Rate of the weights, relative to the virtual step.
        fixed: Weights of the labels that are the same for all samples, as baselines; the teacher has the rest.
    """

    parts: ClassVar[tuple[str, ...]] = ("training", "clean held-out data", "testing")
    teacher: Fit = Fit((128,), epochs=15)
    student: Fit = Fit((64,), epochs=120, batch_size=100)
    shares: tuple[float, ...] = (0.334, 0.056, 0.61)
    label_noise: Share = 0.4
    start: Share = 0.9
    refine_every: Count = 10
    group: Count = 150
    updates: Count = 5
    look_ahead: Scale = 0.1
    kappa: Scale = 6.0
    fixed: tuple[float, ...] = (0.5, 0.1, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for share in self.fixed:
            MixingWeights(1, 1, start=share)


class AMALCell(Cell[AMALRecipe]):
    """One seed whose training labels are noisy.

    Attributes:
        clean: Whether a training label is the true one ``(N,)``.
    """

    clean: Tensor

    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = super().splits()
        noisy = redrawn_labels(train.y, self.recipe.label_noise, seed=self.seed, purpose="amal")
        self.clean = noisy == train.y
        return Split(train.x, noisy), test


def weighted_losses(logits: Tensor, target: Tensor, taught: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return the mean over a batch of every sample's weighted losses.

    Args:
        logits: Logits ``(B, C)``.
        target: Class indices ``(B,)``.
        taught: The teachers' logits ``(M, B, C)``.
        weights: Weights ``(B, M + 1)``, those of the labels first.
        temperature: T > 0 of the divergences.
    """
    hard = F.cross_entropy(logits, target, reduction="none")
    soft = [categorical_kl(logits, one, temperature=temperature, reduction="none") for one in taught]
    return (weights * torch.stack([hard, *soft], 1)).sum(1).mean()


def fixed_mix(cell: Cell[Any], taught: Tensor, share: float) -> StudentLoss:
    """Return the loss with one weight of the labels for all samples; the teacher has the rest."""

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        weights = torch.tensor([share, 1.0 - share]).expand(len(batch.targets), 2)
        answers = taught[:, batch.index]
        return weighted_losses(student(batch.x), batch.targets, answers, weights, cell.recipe.temperature)

    return loss


class Adaptive:
    """The loss of AMAL; its weights are refined whenever as many epochs are done as the recipe says.

    Attributes:
        mixing: The weights.
    """

    def __init__(self, cell: AMALCell, taught: Tensor) -> None:
        self._cell, self._taught, self._refined = cell, taught, 0
        self.mixing = MixingWeights(len(cell.train), len(taught), start=cell.recipe.start)

    def __call__(self, student: Any, batch: Batch, epoch: int) -> Tensor:
        """Return the loss of a batch."""
        if epoch and epoch % self._cell.recipe.refine_every == 0 and epoch != self._refined:
            self._refined = epoch
            self.refine(student, epoch)
        weights, answers = self.mixing.values[batch.index], self._taught[:, batch.index]
        return weighted_losses(student(batch.x), batch.targets, answers, weights, self._cell.recipe.temperature)

    @torch.no_grad()
    def refine(self, student: Any, epoch: int) -> None:
        """Refine the weights of all samples, group by group, for the student in eval mode."""
        cell, recipe = self._cell, self._cell.recipe
        order = torch.from_numpy(generator(cell.seed, "amal", "groups", epoch).permutation(len(cell.train)))
        with evaluating(student):
            features, logits = student.features_and_logits(cell.train.x)
            held_features, held_logits = student.features_and_logits(cell.validation.x)
        every = loss_gradients(logits, cell.train.y, self._taught, temperature=recipe.temperature)
        held = (held_logits, held_features, cell.validation.y)
        step = recipe.look_ahead / recipe.student.batch_size
        for rows in order.split(recipe.group):
            own = (every[rows], features[rows])
            self.mixing.refine(rows, *own, *held, step=step, rate=recipe.kappa / step, updates=recipe.updates)


_AMAL, _BEST, _CLEAN = "amal", "best fixed mix", "fixed mix and clean rows"


class AMAL(System[AMALRecipe]):
    """Students of labels, of fixed mixes of labels and teacher, and of the learned mix."""

    name = "amal"
    title = "Adaptive mixing of labels and teacher for every sample"
    paper = "Sivasubramanian, Maheshwari, Shenoy, Prathosh, Ramakrishnan, AAAI 2023, arXiv 2202.03250"
    claim = (
        "With noisy labels and a few clean rows, weights that are learned for every sample make a student more "
        "accurate than the best fixed mix and than training on the clean rows, too."
    )
    claims = (
        higher("accuracy", _AMAL, _BEST).says(
            "Learned weights give a more accurate student than the fixed mix that is best on the clean rows."
        ),
        higher("accuracy", _AMAL, _CLEAN).says(
            "Learned weights give a more accurate student than the published fixed mix with the clean rows as further "
            "training data."
        ),
        higher("accuracy", _AMAL, "ce", required=False).says("Learned weights are more accurate than labels alone."),
        higher("accuracy", _AMAL, "ce and clean rows", required=False).says(
            "Learned weights are more accurate than labels with the clean rows as further training data."
        ),
        higher("clean labels found", _AMAL, by=0.7, required=False).says(
            "The weight of a label tells clean from wrong labels with an area under the curve above 0.7."
        ),
    )
    notes = (
        "The best fixed mix is chosen by accuracy on the clean rows, which AMAL also uses.",
        "A label that was redrawn may still be the right one; it counts as clean.",
    )
    recipe = AMALRecipe()
    cell = AMALCell

    @override
    def arms(self, cell: AMALCell) -> dict[str, Arm]:
        adaptive = Adaptive(cell, cell.taught[1][None])

        def weights(student: nn.Module) -> dict[str, float]:
            from sklearn.metrics import roc_auc_score

            own = adaptive.mixing.values[:, 0]
            found = {"weight of clean": own[cell.clean].mean(), "weight of wrong": own[~cell.clean].mean()}
            auc = roc_auc_score(cell.clean.numpy(), own.numpy()) if not bool(cell.clean.all()) else 1.0
            return {"clean labels found": float(auc), **{name: float(value) for name, value in found.items()}}

        return {"ce": Arm(cross_entropy), _AMAL: Arm(adaptive, figures=weights)}

    def with_clean_rows(self, cell: AMALCell) -> dict[str, dict[str, float]]:
        """Return the arms that also train on the clean rows, which end with the training data."""
        both = Split(torch.cat([cell.train.x, cell.validation.x]), torch.cat([cell.train.y, cell.validation.y]))
        with torch.no_grad():
            taught = cell.teacher(both.x)[None]
        cell.transfer = both
        arms = {"ce and clean rows": cross_entropy, _CLEAN: fixed_mix(cell, taught, 1.0 - cell.recipe.start)}
        with torch.enable_grad():
            return {name: self.measure(cell, cell.distil(Arm(loss))) for name, loss in arms.items()}

    @override
    def other_arms(self, cell: AMALCell) -> Metrics:
        taught, found = cell.taught[1][None], {}
        with torch.enable_grad():
            for share in cell.recipe.fixed:
                found[f"fixed mix {share:g}"] = cell.distil(Arm(fixed_mix(cell, taught, share)))
        held = {name: accuracy(one(cell.validation.x), cell.validation.y) for name, one in found.items()}
        best = max(held, key=lambda name: held[name])
        measured = {name: self.measure(cell, one) for name, one in found.items()}
        return {**measured, _BEST: measured[best], **self.with_clean_rows(cell)}


EXPERIMENT = AMAL().experiment()
