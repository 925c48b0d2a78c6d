"""Distillation across sensors on a smartwatch: the student has the accelerometer, teachers also see rotation.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from torch import nn
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, leave_one_group
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.networks.hidden_cnn import HiddenCNN
from policykd.kd.systems.pskd_har import PSKDHAR, PSKDCell, PSKDOptions
from policykd.kd.tasks.base import Split
from policykd.plain import Limits


@dataclass(frozen=True)
class Recipe(PreparedData, PSKDOptions):
    """One person is left out; the first three channels are acceleration, the next three rotation.

    Attributes:
        classes: Number of classes.
    """

    teacher: Fit = Fit((24, 48), epochs=8, lr=3e-3)
    student: Fit = Fit((8, 16), epochs=21, lr=3e-3)
    classes: Annotated[int, Limits(2, 10_000)] = 7
    pool: int = 800


class _Cell(PSKDCell):
    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = leave_one_group(self.recipe, self.seed)
        self.classes = self.recipe.classes
        self.views, self.test_views = (
            {"accelerometer": x[:, :3], "rotation": x[:, 3:6], "both": x} for x in (train.x, test.x)
        )
        return Split(train.x[:, :3], train.y), Split(test.x[:, :3], test.y)

    @override
    def build(self, role: str, fit: Fit) -> nn.Module:
        view = self.train.x if role == "student" else self.views[role]
        return HiddenCNN(tuple(view.shape[1:]), fit.hidden, classes=self.classes, kernel=5)


class OnSmartwatch(PSKDHAR):
    """The arms of the generated data, with rotation instead of a skeleton."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnSmartwatch().experiment(),
    claim="On a smartwatch and an unseen person, teachers that also see rotation help a student with acceleration.",
    comparisons=(
        higher("accuracy", "acs", "ce").says("The method gives a more accurate student than labels."),
        higher("accuracy", "acs", "kd accelerometer").says(
            "The method gives a more accurate student than the teacher with the student's sensor."
        ),
        higher("accuracy", "acs", "kd mean of teachers", required=False).says(
            "Choosing a teacher per sample gives a more accurate student than the mean of all teachers."
        ),
        higher("accuracy", "acs", "acs, all at once", required=False).says(
            "Teachers that join one after the other give a more accurate student than all teachers from the start."
        ),
        higher("accuracy", "teacher both", "teacher accelerometer", required=False).says(
            "With rotation, a teacher is more accurate than without."
        ),
    ),
    notes=(
        "Seed k leaves out person k; skeletons are not part of the data, so rotation is the sensor of the teachers.",
        "The class vectors are random, so they can only act as a regularizer.",
    ),
)
