"""Features that do not tell persons apart on a smartwatch, with a small transformer and one person left out.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from torch import nn
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, leave_one_group
from policykd.kd.experiments.system import Arm, Fit, higher, lower
from policykd.kd.networks.sensor_transformer import SensorTransformer
from policykd.kd.systems.tasked import Tasked, TaskedCell, TaskedOptions, tasked_loss
from policykd.kd.tasks.base import Split
from policykd.plain import Limits


@dataclass(frozen=True)
class Recipe(PreparedData, TaskedOptions):
    """One person is left out and stays unseen; width of the tokens is that of the student's first layer.

    Attributes:
        classes: Number of classes.
    """

    teacher: Fit = Fit((24,), epochs=1)
    student: Fit = Fit((24,), epochs=12, lr=2e-3)
    classes: Annotated[int, Limits(2, 10_000)] = 7
    pool: int = 700


class _Cell(TaskedCell):
    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = leave_one_group(self.recipe, self.seed)
        assert test.groups is not None
        self.new_person, self.classes = int(test.groups[0]), self.recipe.classes
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> nn.Module:
        shape = tuple(self.train.x.shape[1:])
        return SensorTransformer(shape, positions=2, width=fit.hidden[0], temporal=1, classes=self.classes)


class OnSmartwatch(Tasked):
    """The parts of the method one by one and together, on persons that are known."""

    recipe = Recipe()
    cell = _Cell

    @override
    def arms(self, cell: TaskedCell) -> dict[str, Arm]:
        critics = [self.adversary(cell) for _ in range(2)]
        every: Any = tasked_loss(cell, softened=True, mmd=True, adversary=critics[1])
        return {
            "ce": Arm(tasked_loss(cell)),
            "self-distillation": Arm(tasked_loss(cell, softened=True)),
            "mmd": Arm(tasked_loss(cell, mmd=True)),
            "adversary": Arm(tasked_loss(cell, adversary=critics[0]), along=[critics[0]]),
            "tasked": Arm(every, along=[critics[1]]),
        }


EXPERIMENT = replace(
    OnSmartwatch().experiment(),
    claim="On a smartwatch, features that do not tell persons apart recognize unseen persons' exercises better.",
    comparisons=(
        higher("accuracy", "tasked", "ce").says("The method is more accurate on an unseen person than cross-entropy."),
        higher("accuracy", "self-distillation", "ce", required=False).says("Self-distillation alone raises accuracy."),
        higher("accuracy", "mmd", "ce", required=False).says("The discrepancy alone raises accuracy."),
        higher("accuracy", "adversary", "ce", required=False).says("The adversary alone raises accuracy."),
        lower("person found", "tasked", "ce", required=False).says(
            "With the method a linear classifier of features names the person less often."
        ),
    ),
    notes=(
        "Seed k leaves out person k, of whom nothing is seen in training.",
        "The transformer has one spatial and one temporal layer of width 24, far less than the method's card names.",
    ),
)
