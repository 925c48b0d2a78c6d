"""Similarity-keeping distillation from many channels to few on recorded series, with its correlation over time.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.limits import Weight
from policykd.kd.experiments.system import Arm, DistillationRecipe, Fit, OwnSeedCell, System, higher
from policykd.kd.losses.ce import CE
from policykd.kd.losses.kd import KD
from policykd.kd.losses.similarity_keeping import SimilarityKeeping
from policykd.kd.metrics import accuracy
from policykd.kd.networks.hidden_cnn import HiddenCNN
from policykd.kd.objective.objective import Objective
from policykd.kd.systems.sk_kd import SKKD
from policykd.kd.tasks.base import Split
from policykd.plain import Limits


@dataclass(frozen=True)
class Recipe(PreparedData, DistillationRecipe):
    """All channels for the teacher, some for the students.

    Attributes:
        shares: Shares of training and test groups.
        kept: Channels that the students have, counted from 0.
        classes: Number of classes.
        sk_weight: Weight of the similarity, which is added up over the compared maps.
        blocks: Number of maps that are compared, from the first.
    """

    teacher: Fit = Fit((24, 48), epochs=15, lr=3e-3)
    student: Fit = Fit((8, 16), epochs=15, lr=3e-3)
    shares: tuple[float, ...] = (0.7, 0.3)
    kept: tuple[int, ...] = (0, 1, 2)
    classes: Annotated[int, Limits(2, 10_000)] = 7
    sk_weight: Weight = 10.0
    blocks: Annotated[int, Limits(1, 2)] = 2
    pool: int = 1500


class _Cell(OwnSeedCell[Recipe]):
    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = draw_pool(self.recipe, self.seed, by_group=True)
        if max(self.recipe.kept) >= train.x.shape[1]:
            raise ConfigError(f"kept names channel {max(self.recipe.kept)}; the data have {train.x.shape[1]} channels")
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> HiddenCNN:
        channels = self.train.x.shape[1] if role == "teacher" else len(self.recipe.kept)
        return HiddenCNN((channels, self.train.x.shape[2]), fit.hidden, classes=self.recipe.classes, kernel=5)

    @property
    @override
    def teacher_inputs(self) -> Tensor:
        return self.train.x

    def few(self, split: Split) -> Split:
        """Return the same samples with the channels that the students have."""
        return Split(split.x[:, list(self.recipe.kept)], split.y)


class OnSeries(System[Recipe]):
    """Students with few channels, which start alike and see the same batches."""

    name = SKKD.name
    title = SKKD.title
    paper = SKKD.paper
    claim = (
        "On recorded series of unseen persons or blocks, keeping the teacher's correlations over time makes a student "
        "with few channels more accurate."
    )
    claims = (
        higher("accuracy", "sk", "ce").says("Keeping similarities raises test accuracy over cross-entropy."),
        higher("accuracy", "kd + sk", "kd").says("Added to plain distillation, it raises test accuracy."),
        higher("accuracy", "kd", "ce", required=False).says("Plain distillation raises test accuracy."),
    )
    notes = ("Whole groups are held out: persons, or consecutive blocks where there is one person.",)
    recipe = Recipe()
    cell = _Cell

    @override
    def prepare(self, cell: Any) -> None:
        cell.transfer = cell.few(cell.train)

    @override
    def arms(self, cell: Any) -> dict[str, Arm]:
        recipe = cell.recipe
        plain = {"ce": recipe.ce_weight * CE(), "kd": recipe.kd_weight * KD(temperature=recipe.temperature)}
        kept = {f"sk{k}": recipe.sk_weight * SimilarityKeeping().on(f"map{k}") for k in range(1, recipe.blocks + 1)}
        return {
            "ce": Arm(Objective(ce=CE())),
            "kd": Arm(Objective(plain)),
            "sk": Arm(Objective({"ce": CE(), **kept})),
            "kd + sk": Arm(Objective({**plain, **kept})),
        }

    @override
    def measure(self, cell: Any, network: Any) -> dict[str, float]:
        data = cell.test if network is cell.teacher else cell.few(cell.test)
        return {"accuracy": accuracy(network(data.x), data.y)}


EXPERIMENT = OnSeries().experiment()
