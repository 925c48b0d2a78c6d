"""Data distillation: a few made-up inputs train a network from one known start as well as a whole corpus does.

Chang, Ren, Zhao, Nguyen, Qian, Schultz and Schuller, Breaking Resource Barriers in Speech Emotion Recognition via Data
Distillation (Interspeech 2025, arXiv 2406.15119). The distillation is in ``policykd.kd.training.distilled_data``.

Departures: only the paper's abstract and introduction could be read. Its "fixed initialization" is the term of Dataset
Distillation, whose descent through training steps is taken to be the method. Here the inputs are digits; the experiment
on emotional speech has spectrograms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from policykd.kd.experiments.digits import some_per_class
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import Cell, Fit, Recipe, System, cross_entropy, higher
from policykd.kd.metrics import recall
from policykd.kd.tasks.base import Split
from policykd.kd.training.bilevel import Tensors, descend
from policykd.kd.training.distilled_data import DistilledConfig, DistilledData, distill_data
from policykd.plain import Limits
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class DataDistillationRecipe(Recipe):
    """A network, the distilled data, and the baselines' grid.

    Attributes:
        teacher: Network and training on all data.
        student: Its widths are those of the distilled data's network; its training is not used.
        distilled: Sizes and training of the distilled data.
        other_starts: Further first parameters on which distilled data are tried.
        grid: Learning rates from which the baselines choose theirs on the training data.
    """

    teacher: Fit = Fit((64,), steps=300, batch_size=256)
    student: Fit = Fit((64,), epochs=1)
    shares: tuple[float, ...] = (0.7, 0.3)
    distilled: DistilledConfig = field(default_factory=DistilledConfig)
    other_starts: Annotated[int, Limits(1, 1000)] = 3
    grid: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)


def uar(logits: Tensor, labels: Tensor) -> float:
    """Return the unweighted average recall over the classes that are there."""
    return sum(recall(logits, labels, int(name)) for name in labels.unique()) / len(labels.unique())


class DistilledCell(Cell[Any]):
    """One seed: data, the network's architecture and its first parameters.

    Attributes:
        classes: Number of classes.
    """

    classes: int = 10

    def start(self, *key: str | int) -> Tensors:
        """Return first parameters; equal keys give equal ones."""
        network = self.network("student", self.recipe.student, "start", *key)
        return {name: value.detach() for name, value in network.named_parameters()}

    def distilled(self, starts: Callable[[int], Tensors], *key: str) -> DistilledData:
        """Return data that were distilled for some first parameters."""
        network = self.network("student", self.recipe.student)
        seed = integer_seed(self.seed, "data_distillation_ser", *key)
        return distill_data(network, starts, self.train, self.classes, self.recipe.distilled, seed=seed)

    @torch.no_grad()
    def score(self, parameters: Tensors) -> float:
        """Return the unweighted average recall of parameters on test data."""
        network = self.network("student", self.recipe.student)
        return uar(functional_call(network, parameters, (self.test.x,)), self.test.y)

    def on_samples(self, data: Split) -> float:
        """Return the score after as many steps as distilled data have, on all samples, at the best rate of the grid.

        The rate is chosen on the training data, which favors this baseline.

        Args:
            data: A few samples, such as one real sample of every class.
        """
        network, config = self.network("student", self.recipe.student), self.recipe.distilled

        def inner(parameters: Tensors, inputs: Tensors, step: int) -> Tensor:
            return F.cross_entropy(functional_call(network, parameters, (inputs["x"],)), data.y)

        found = []
        for rate in self.recipe.grid:
            rates = torch.full((config.blocks * config.passes,), rate)
            with torch.no_grad():
                trained = descend(inner, self.start("fixed"), {"x": data.x}, rates)
                value = F.cross_entropy(functional_call(network, trained, (self.train.x,)), self.train.y)
            found.append((float(value) if bool(torch.isfinite(value)) else float("inf"), trained))
        return self.score(min(found, key=lambda one: one[0])[1])

    def centers(self, per_class: int) -> Split:
        """Return k-means centers of every class of the training data, or its mean for one center."""
        from sklearn.cluster import KMeans

        x, y, rows = self.train.x.flatten(1), self.train.y, []
        for label in range(self.classes):
            own = x[y == label].numpy()
            clusters = KMeans(per_class, n_init=1, random_state=self.order(("centers", label)) % 2**31)
            rows.append(torch.from_numpy(clusters.fit(own).cluster_centers_).float())
        shape = (self.classes * per_class, *self.train.x.shape[1:])
        return Split(torch.cat(rows).reshape(shape), torch.arange(self.classes).repeat_interleave(per_class))


_FIXED, _REAL, _CENTERS = "distilled", "real samples", "k-means centers"
_OTHER = "distilled, other starts"


class DataDistillationSER(System[Any]):
    """The network after a few steps on distilled data, from its own and other starts, and on as many other samples."""

    name = "data_distillation_ser"
    title = "Distilled data for a fixed initialization"
    paper = "Chang, Ren, Zhao, Nguyen, Qian, Schultz, Schuller, Interspeech 2025, arXiv 2406.15119"
    claim = (
        "From a known start, a few steps on distilled data teach more than as many steps on as many real samples or "
        "cluster centers."
    )
    claims = (
        higher("uar", _FIXED, _REAL).says("Distilled data teach more than as many real samples in as many steps."),
        higher("uar", _FIXED, _CENTERS).says("Distilled data teach more than as many centers of clusters."),
        higher("uar", _FIXED, _OTHER).says("Distilled data teach more from their own start than from others."),
        higher("uar", "distilled for any start", _OTHER, required=False).says(
            "From other starts, data that were distilled for random starts teach more than those of a fixed one."
        ),
        higher("uar", _FIXED, "all data", by=-0.02, required=False).says(
            "Distilled data are at most 2 points behind training on all data with many more steps."
        ),
    )
    notes = (
        "Rates of the baselines are chosen on the training data; those of distilled data are learned there.",
        "Distilled data are not private by themselves, and nothing here shows that they are.",
    )
    recipe: Any = DataDistillationRecipe()
    cell = DistilledCell
    with_teacher = False

    @override
    def run(self, seed: int, recipe: Any) -> Metrics:
        cell: DistilledCell = self.cell(seed, recipe)
        network = cell.network("student", recipe.student)
        fixed = cell.distilled(lambda _: cell.start("fixed"), "fixed")
        every = cell.distilled(lambda step: cell.start("random", step), "random")
        others = [cell.start("other", number) for number in range(recipe.other_starts)]
        count = recipe.distilled.blocks * recipe.distilled.per_class
        whole = cell.fit(cell.network("teacher", recipe.teacher), cross_entropy, cell.train, recipe.teacher, ("all",))
        with torch.no_grad():
            found = {
                "all data": uar(whole(cell.test.x), cell.test.y),
                "no training": cell.score(cell.start("fixed")),
                _FIXED: cell.score(fixed.train_network(network, cell.start("fixed"))),
                _OTHER: _mean(cell, fixed, network, others),
                "distilled for any start": _mean(cell, every, network, others),
            }
        found[_REAL] = cell.on_samples(some_per_class(cell.train, count, seed))
        found["class means"] = cell.on_samples(cell.centers(1))
        found[_CENTERS] = cell.on_samples(cell.centers(count))
        return {name: {"uar": value} for name, value in found.items()}


def _mean(cell: DistilledCell, data: DistilledData, network: nn.Module, starts: list[Tensors]) -> float:
    return sum(cell.score(data.train_network(network, start)) for start in starts) / len(starts)


EXPERIMENT = DataDistillationSER().experiment()
