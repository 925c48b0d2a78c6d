"""TASKED: a network that recognizes activities of new persons, by features that do not tell persons apart.

Suh, Fortes Rey and Lukowicz, TASKED: Transformer-based Adversarial learning for human activity recognition using
wearable sensors via Self-KnowledgE Distillation (Knowledge-Based Systems 260, 2023, arXiv 2209.09092). Discrepancy and
reversal are in ``policykd.kd.domains``, the last epoch's predictions in ``policykd.kd.training.prediction_memory``; the
experiment on a smartwatch uses the transformer of ``policykd.kd.networks.sensor_transformer``.

Departures: neither text nor code could be read, so weights and schedules are those of the method's card. The decoder,
off by default there, is left out. All parts are updated in one step, by reversal instead of turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.domains import domain_mmd, domain_ramp, reverse_gradient
from policykd.kd.experiments.limits import Scale, Share, Weight
from policykd.kd.experiments.system import Arm, Cell, DistillationRecipe, Fit, StudentLoss, System, higher, lower
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.options import check_choice
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded
from policykd.kd.training.prediction_memory import PredictionMemory
from policykd.plain import Limits
from policykd.seeding import generator

SelfDistillation = Literal["progressive", "tf_self", "tf_reg"]
_MODES = ("progressive", "tf_self", "tf_reg")


@dataclass(frozen=True)
class TaskedOptions(DistillationRecipe):
    """The method's options.

    Attributes:
        self_distillation: ``progressive`` softens labels by the predictions of the last epoch, ``tf_self`` distills a
            copy that was trained alone, ``tf_reg`` a virtual teacher (Yuan et al. 2020).
        self_share: Share of the soft target; that of the last epoch for ``progressive``.
        mmd_weight: Weight of the discrepancy of persons.
        adversary_weight: Weight of the cross-entropy of persons.
    """

    self_distillation: SelfDistillation = "progressive"
    self_share: Share = 0.8
    mmd_weight: Weight = 1.0
    adversary_weight: Weight = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("self_distillation", self.self_distillation, _MODES)


@dataclass(frozen=True)
class TaskedRecipe(TaskedOptions):
    """Generated persons whose windows are shifted within one small subspace; the first person is the new one.

    Attributes:
        persons: Number of persons, the new one included.
        windows: Windows of every person; those of the new person have no labels.
        test_windows: Further windows of the new person, for testing.
        classes: Number of activities.
        channels: Size of a window.
        separation: Deviation of the activities' centers.
        noise: Deviation within an activity.
        shift: Deviation of a person's shift in each direction.
        directions: Dimension of the subspace of shifts.
    """

    teacher: Fit = Fit((48, 16), epochs=1)
    student: Fit = Fit((48, 16), epochs=40, batch_size=96)
    mmd_weight: Weight = 3.0
    adversary_weight: Weight = 0.3
    persons: Annotated[int, Limits(3, 100)] = 4
    windows: Annotated[int, Limits(8, 100_000)] = 200
    test_windows: Annotated[int, Limits(8, 100_000)] = 1000
    classes: Annotated[int, Limits(2, 100)] = 4
    channels: Annotated[int, Limits(1, 1000)] = 16
    separation: Scale = 0.5
    noise: Scale = 0.6
    shift: Scale = 0.9
    directions: Annotated[int, Limits(1, 1000)] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("directions", self.directions, 1, self.channels)


class TaskedCell(Cell[Any]):
    """One seed: windows of several persons, with or without those of the new one among the training windows.

    Attributes:
        new_person: Number of the person whose labels nothing reads.
        classes: Number of activities.
    """

    new_person: int
    classes: int

    @override
    def splits(self) -> tuple[Split, Split]:
        recipe: TaskedRecipe = self.recipe
        self.new_person, self.classes = 0, recipe.classes
        rng = generator(self.seed, "tasked", "data")
        counts = [recipe.windows] * recipe.persons + [recipe.test_windows]
        persons = np.repeat([*range(recipe.persons), self.new_person], counts)
        y = rng.integers(0, recipe.classes, len(persons))
        space = np.linalg.qr(rng.normal(size=(recipe.channels, recipe.directions)))[0]
        shifts = recipe.shift * rng.normal(size=(recipe.persons, recipe.directions)) @ space.T
        centers = recipe.separation * rng.normal(size=(recipe.classes, recipe.channels))
        x = centers[y] + shifts[persons] + recipe.noise * rng.normal(size=(len(y), recipe.channels))
        whole = Split(torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(persons))
        rows, cut = torch.arange(len(y)), recipe.persons * recipe.windows
        return whole.take(rows[:cut]), whole.take(rows[cut:])

    @override
    def build(self, role: str, fit: Fit) -> nn.Module:
        return MLP((self.recipe.channels,), fit.hidden, classes=self.classes)

    @property
    def persons(self) -> Tensor:
        """Person of every training window."""
        groups = self.transfer.groups
        assert groups is not None
        return groups


def label_loss(cell: TaskedCell, *, softened: bool) -> StudentLoss:
    """Return ``(logits and rows of the known windows) -> loss`` on labels, softened as the recipe says or plain."""
    recipe, memory = cell.recipe, PredictionMemory(len(cell.transfer), cell.classes)
    epochs, share = recipe.student.config(len(cell.transfer), 0).epochs, recipe.self_share
    alone = None
    if softened and recipe.self_distillation == "tf_self":
        alone = cell.distil(Arm(tasked_loss(cell, softened=False)))

    def loss(logits: Tensor, batch: Batch, epoch: int) -> Tensor:
        hard = F.cross_entropy(logits, batch.targets)
        if not softened:
            return hard
        if recipe.self_distillation == "progressive":
            soft = memory.targets(batch.index, batch.targets, epoch=epoch, epochs=epochs, share=share)
            memory.store(batch.index, logits)
            return F.cross_entropy(logits, soft)
        if alone is None:
            return (1 - share) * hard + share * kf.tfkd(logits, batch.targets)
        with torch.no_grad():
            taught = alone(batch.x)
        return (1 - share) * hard + share * kf.kd(logits, taught, temperature=recipe.temperature)

    return loss


def tasked_loss(
    cell: TaskedCell,
    *,
    softened: bool = False,
    mmd: bool = False,
    adversary: nn.Module | None = None,
    with_new: bool = False,
) -> StudentLoss:
    """Return the loss of a student on labels and, optionally, against features that tell persons apart.

    Args:
        cell: The cell.
        softened: Whether labels are softened by self-distillation.
        mmd: Whether the discrepancy of persons counts.
        adversary: Classifier of persons behind a reversal; None for none.
        with_new: Whether unlabeled windows of the new person count in the last two.
    """
    recipe, on_labels = cell.recipe, label_loss(cell, softened=softened)
    epochs = recipe.student.config(len(cell.transfer), 0).epochs

    def loss(student: Any, batch: Batch, epoch: int) -> Tensor:
        persons, ramp = cell.persons[batch.index], domain_ramp(epoch / epochs)
        known = persons != cell.new_person
        features, logits = student.features_and_logits(batch.x)
        rows = Batch(batch.x[known], batch.targets[known], batch.index[known], (int(known.sum()),))
        total = on_labels(logits[known], rows, epoch)
        if not with_new:
            features, persons = features[known], persons[known]
        if mmd:
            total = total + ramp * recipe.mmd_weight * domain_mmd(features, persons, least=4)
        if adversary is not None:
            named = adversary(reverse_gradient(features, ramp))
            total = total + recipe.adversary_weight * F.cross_entropy(named, persons)
        return total

    return loss


def person_probe(cell: TaskedCell, network: Any) -> float:
    """Return how often a linear classifier of features, fitted on every second training window, names the person."""
    from sklearn.linear_model import LogisticRegression

    features, _ = network.features_and_logits(cell.transfer.x)
    x, y = features.numpy(), cell.persons.numpy()
    scaled = (x - x[::2].mean(0)) / np.maximum(x[::2].std(0), 1e-6)
    probe = LogisticRegression(max_iter=300).fit(scaled[::2], y[::2])
    return float(probe.score(scaled[1::2], y[1::2]))


_TASKED, _MMD, _CE = "tasked", "mmd, known persons", "ce"


class Tasked(System[Any]):
    """Students of the labels of known persons, with the parts of the method one by one and together."""

    name = "tasked"
    title = "Activities of new persons: discrepancy, an adversary and self-distillation"
    paper = "Suh, Fortes Rey, Lukowicz, Knowledge-Based Systems 260 (2023), arXiv 2209.09092"
    claim = (
        "Features that do not tell persons apart recognize activities of a new person better, with unlabeled windows "
        "of that person."
    )
    claims = (
        higher("accuracy", _TASKED, _CE).says(
            "With unlabeled windows of the new person, the method is more accurate there than cross-entropy."
        ),
        lower("person found", _MMD, _CE).says(
            "The discrepancy of known persons alone lets a linear classifier name the person less often."
        ),
        higher("accuracy", _MMD, _CE, required=False).says(
            "Without windows of the new person, the discrepancy raises accuracy there."
        ),
        higher("accuracy", _TASKED, "mmd", required=False).says(
            "Adversary and self-distillation add accuracy to the discrepancy."
        ),
        higher("accuracy", "adversary", _CE, required=False).says("The adversary alone raises accuracy."),
        higher("accuracy", "self-distillation", _CE, required=False).says("Self-distillation alone raises accuracy."),
    )
    notes = ("Persons differ by a shift within one small subspace, and every person has the same mix of activities.",)
    recipe: Any = TaskedRecipe()
    cell = TaskedCell
    with_teacher = False

    def adversary(self, cell: TaskedCell) -> nn.Module:
        """Return a new classifier of persons from a student's features."""
        width, count = cell.network("student", cell.recipe.student).fc.in_features, int(cell.persons.max()) + 1
        return seeded(lambda: MLP((width,), (32,), classes=count), cell.seed, "adversary")

    @override
    def arms(self, cell: TaskedCell) -> dict[str, Arm]:
        def opposed(**options: bool) -> Arm:
            critic = self.adversary(cell)
            return Arm(tasked_loss(cell, adversary=critic, **options), along=[critic])

        return {
            _CE: Arm(tasked_loss(cell)),
            "self-distillation": Arm(tasked_loss(cell, softened=True)),
            _MMD: Arm(tasked_loss(cell, mmd=True)),
            "tasked, known persons": opposed(softened=True, mmd=True),
            "mmd": Arm(tasked_loss(cell, mmd=True, with_new=True)),
            "adversary": opposed(with_new=True),
            _TASKED: opposed(softened=True, mmd=True, with_new=True),
        }

    @override
    def measure(self, cell: TaskedCell, network: Any) -> dict[str, float]:
        logits = network(cell.test.x)
        return {"accuracy": accuracy(logits, cell.test.y), "person found": person_probe(cell, network)}


EXPERIMENT = Tasked().experiment()
