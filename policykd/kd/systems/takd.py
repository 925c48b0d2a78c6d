"""Distillation through teacher assistants of intermediate size.

Mirzadeh, Farajtabar, Li, Levine, Matsukawa and Ghasemzadeh, Improved Knowledge Distillation via Teacher Assistant (AAAI
2020, arXiv 1902.03393). Along a path of shrinking networks each one is distilled from the one before it,
``L = ce_weight CE + kd_weight T**2 KL(teacher || student)``. A path of two is ordinary distillation, a path of one is
training without a teacher.

Departures: the last weights of every network are taken, not the best ones on test data, and the temperature and the
weights of the experiment are fixed, not searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import Cell, Fit, Recipe, System, cross_entropy, higher, lower, plain_kd
from policykd.kd.metrics import accuracy, kl
from policykd.kd.training.evaluate import predict

Size = TypeVar("Size")
Model = TypeVar("Model")


def train_path(
    sizes: Sequence[Size], train: Callable[[Model | None, Size], Model], *, teacher: Model | None = None
) -> list[Model]:
    """Train the networks of a path one after the other, each with the one before it as its teacher.

    Args:
        sizes: Sizes or roles, the largest network first.
        train: ``(teacher, size) -> network``, which starts from new weights and leaves the teacher as it is.
        teacher: Teacher of the first network; None trains it on the labels.

    Returns:
        One network per size.

    Raises:
        ConfigError: The path is empty.
    """
    if not sizes:
        raise ConfigError("a path needs at least one network: a path of only the student trains without a teacher")
    trained: list[Model] = []
    for size in sizes:
        teacher = train(teacher, size)
        trained.append(teacher)
    return trained


_UNTAUGHT = "student, assistant without teacher"
_OF_ASSISTANT = "A student of an assistant that was distilled from the teacher is more accurate than"


@dataclass(frozen=True)
class TAKDRecipe(Recipe):
    """A large teacher, a student of five hidden units, and an assistant between them.

    Attributes:
        assistant: Widths and training of the assistant.
    """

    teacher: Fit = Fit((256, 256), epochs=80, batch_size=128, lr=1e-2)
    student: Fit = Fit((5,), epochs=80, batch_size=128, lr=1e-2)
    shares: tuple[float, ...] = (0.4, 0.6)
    assistant: Fit = Fit((16,), epochs=80, batch_size=128, lr=1e-2)


class TAKDCell(Cell[TAKDRecipe]):
    """Networks by role: the same initial weights and batches wherever a role stands in a path."""

    def distilled(self, teacher: nn.Module | None, role: str, *, times: int = 1) -> nn.Module:
        """Return the network of a role, distilled from a teacher or, without one, trained on the labels.

        Args:
            teacher: The teacher in eval mode, or None.
            role: ``teacher``, ``assistant`` or ``student``.
            times: Factor of the training's length.
        """
        fit: Fit = getattr(self.recipe, role)
        fit = replace(fit, epochs=times * fit.epochs, steps=times * fit.steps)
        loss = cross_entropy if teacher is None else plain_kd(predict(teacher, self.train)[0], self.recipe)
        return self.fit(self.network(role, fit), loss, self.train, fit, ("order", role))

    def measured(self, network: nn.Module, source: nn.Module | None) -> dict[str, float]:
        """Return the test accuracy and, for a distilled network, its divergence from its source on training data."""
        found = {"accuracy": accuracy(*predict(network, self.test))}
        if source is not None:
            found["kl_to_source"] = kl(predict(network, self.train)[0], predict(source, self.train)[0])
        return found


class TAKD(System[TAKDRecipe]):
    """The student of the teacher, of an assistant with and without a teacher, and without any teacher."""

    name = "takd"
    title = "Teacher assistants"
    paper = "Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh, AAAI 2020, arXiv 1902.03393"
    claim = "A small student of an assistant of intermediate size is more accurate than a student of the large teacher."
    claims = (
        lower("kl_to_source", "student, assistant", "student, direct", by=0.9, statistic="ratio", required=False).says(
            "On training data, the student's KL divergence from the network that it is distilled from is more "
            "than 10 % smaller with the assistant than with the teacher."
        ),
        *(
            higher("accuracy", "student, assistant", baseline, required=baseline != _UNTAUGHT).says(
                f"{_OF_ASSISTANT} {other}."
            )
            for baseline, other in {
                "student, direct": "one distilled from the teacher",
                "student, direct, double epochs": "one distilled from the teacher in twice the epochs",
                _UNTAUGHT: "the student of an assistant trained on labels alone",
            }.items()
        ),
    )
    notes = (
        "With any teacher, a student this small is less accurate than with plain cross-entropy.",
        "Divergences from two sources are not a fair scale of closeness, since a softer source gives a smaller one; "
        "they are reported and the verdict does not depend on them.",
    )
    recipe = TAKDRecipe()
    cell = TAKDCell

    @override
    def run(self, seed: int, recipe: TAKDRecipe) -> Metrics:
        cell = self.cell(seed, recipe)
        teacher = cell.distilled(None, "teacher")
        assistant, student = train_path(["assistant", "student"], cell.distilled, teacher=teacher)
        untaught, of_untaught = train_path(["assistant", "student"], cell.distilled)
        networks: dict[str, tuple[nn.Module, nn.Module | None]] = {
            "teacher": (teacher, None),
            "assistant": (assistant, teacher),
            "assistant, no teacher": (untaught, None),
            "student, no teacher": (cell.distilled(None, "student"), None),
            "student, direct": (cell.distilled(teacher, "student"), teacher),
            "student, direct, double epochs": (cell.distilled(teacher, "student", times=2), teacher),
            "student, assistant": (student, assistant),
            _UNTAUGHT: (of_untaught, untaught),
        }
        return {arm: cell.measured(*pair) for arm, pair in networks.items()}


EXPERIMENT = TAKD().experiment()
