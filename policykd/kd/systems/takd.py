"""Distillation through teacher assistants of intermediate size.

Mirzadeh, Farajtabar, Li, Levine, Matsukawa and Ghasemzadeh, Improved Knowledge Distillation via Teacher Assistant (AAAI
2020, arXiv 1902.03393). Along a path of shrinking networks each one is distilled from the one before it,
``L = (1 - kd_weight) CE + kd_weight T**2 KL(teacher || student)``, with a temperature and a weight per hop. A path of
two is ordinary distillation, a path of one is training without a teacher.

Departures: the last weights of a hop are taken, not the best ones on test data, and the temperature and weight of the
experiment are fixed, not searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

from torch import nn

from policykd.divergences import check_temperature
from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import PIXELS, digits_rows
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy, kl
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import ADAM, distil, seeded, train_classifier
from policykd.seeding import integer_seed

Size = TypeVar("Size")
Model = TypeVar("Model")


@dataclass(frozen=True)
class Hop:
    """One network of a path.

    Attributes:
        make: Makes it, freshly initialized.
        training: How it is trained.
        temperature: T of the distillation into it; unused in the first network.
        kd_weight: Weight of the divergence, the cross-entropy has the rest; unused in the first network.
    """

    make: Callable[[], nn.Module]
    training: TrainConfig
    temperature: float = 4.0
    kd_weight: float = 0.9

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("kd_weight", self.kd_weight, 0.0, 1.0)

    def train(self, teacher: nn.Module | None, data: Any) -> nn.Module:
        """A new network, distilled from a teacher in eval mode, or trained on the labels alone without one."""
        if teacher is None:
            return train_classifier(self.make(), data, self.training)
        taught, _ = predict(teacher, data)
        weights = {"kd_weight": self.kd_weight, "ce_weight": 1 - self.kd_weight}
        return distil(self.make(), taught, data, self.training, temperature=self.temperature, **weights)


def train_path(hops: Sequence[Hop], data: Any, *, teacher: nn.Module | None = None) -> list[nn.Module]:
    """Train the networks of a path one after the other.

    Args:
        hops: Largest network first.
        data: What ``policykd.kd.training.batches.Batches`` takes.
        teacher: What the first hop is distilled from; None trains it on the labels.

    Returns:
        One network per hop, in eval mode; none changes once the next one is trained.

    Raises:
        ConfigError: The path is empty.
    """
    if not hops:
        raise ConfigError("a path needs at least one network: [student] for no distillation")
    trained: list[nn.Module] = []
    for hop in hops:
        teacher = hop.train(teacher, data)
        trained.append(teacher)
    return trained


def paths(sizes: Sequence[Size]) -> list[tuple[Size, ...]]:
    """All ``2**(n - 2)`` paths from the first to the last of n sizes, those with fewer hops first.

    Args:
        sizes: Sizes in decreasing order, at least two.

    Raises:
        ConfigError: There are fewer than two.
    """
    _check_ends(sizes)
    first, *between, last = sizes
    return [(first, *chosen, last) for count in range(len(between) + 1) for chosen in combinations(between, count)]


def best_path(
    sizes: Sequence[Size], teacher: Model, train: Callable[[Model, Size], Model], score: Callable[[Model], float]
) -> tuple[tuple[Size, ...], Model]:
    """The path to the last size by dynamic programming over sizes: n (n - 1) / 2 trainings, not ``2**(n - 2)`` paths.

    The best network found for a size is the only one of that size that teaches further.

    Args:
        sizes: Sizes in decreasing order, the teacher's first.
        teacher: The trained network of the first size.
        train: ``(teacher, size) -> network``.
        score: What is highest for the best network, on validation data.

    Returns:
        The path and the network at its end.

    Raises:
        ConfigError: There are fewer than two sizes.
    """
    _check_ends(sizes)
    best: list[tuple[tuple[Size, ...], Model]] = [((sizes[0],), teacher)]
    for size in sizes[1:]:
        reached = [((*path, size), train(model, size)) for path, model in best]
        best.append(max(reached, key=lambda item: score(item[1])))
    return best[-1]


def _check_ends(sizes: Sequence[Any]) -> None:
    if len(sizes) < 2:
        raise ConfigError(f"a path needs a teacher's and a student's size, got {len(sizes)} size(s)")


@dataclass(frozen=True)
class TAKDConfig:
    """The experiment on the digits.

    Attributes:
        teacher_hidden: Widths of the teacher.
        assistant_hidden: Widths of the assistant.
        student_hidden: Widths of the student.
        temperature: T of every hop.
        kd_weight: Weight of the divergence of every hop.
        epochs: Epochs of every network.
        batch_size: Samples per step.
        lr: Learning rate of Adam.
    """

    teacher_hidden: tuple[int, ...] = (256, 256)
    assistant_hidden: tuple[int, ...] = (16,)
    student_hidden: tuple[int, ...] = (5,)
    temperature: float = 4.0
    kd_weight: float = 0.9
    epochs: int = 80
    batch_size: int = 128
    lr: float = 1e-2

    def hop(self, role: str, seed: int) -> Hop:
        """The network of a role: the same initial weights and batches wherever it stands."""
        hidden = {"teacher": self.teacher_hidden, "assistant": self.assistant_hidden, "student": self.student_hidden}
        order = integer_seed(seed, "order", role)
        training = TrainConfig(self.epochs, self.batch_size, seed=order, optimizer=replace(ADAM, lr=self.lr))
        make = partial(seeded, partial(MLP, (PIXELS,), hidden[role]), seed, role)
        return Hop(make, training, self.temperature, self.kd_weight)


def run(seed: int, config: TAKDConfig) -> Cell:
    """One cell: one teacher, the assistant with and without it, and the student of all of them and of none."""
    train, test = digits_rows(seed, (0.4, 0.6))
    hops = {role: config.hop(role, seed) for role in ("teacher", "assistant", "student")}
    longer = replace(hops["student"].training, epochs=2 * config.epochs)
    [teacher] = train_path([hops["teacher"]], train)
    assistant, student = train_path([hops["assistant"], hops["student"]], train, teacher=teacher)
    scratch, of_scratch = train_path([hops["assistant"], hops["student"]], train)
    networks: Mapping[str, tuple[nn.Module, nn.Module | None]] = {
        "teacher": (teacher, None),
        "assistant": (assistant, teacher),
        "assistant, no teacher": (scratch, None),
        "student, no teacher": (hops["student"].train(None, train), None),
        "student, direct": (hops["student"].train(teacher, train), teacher),
        "student, direct, double epochs": (replace(hops["student"], training=longer).train(teacher, train), teacher),
        "student, assistant": (student, assistant),
        "student, assistant without teacher": (of_scratch, scratch),
    }
    return {arm: _measure(network, source, train, test) for arm, (network, source) in networks.items()}


def _measure(network: nn.Module, source: nn.Module | None, train: Split, test: Split) -> dict[str, float]:
    """Accuracy, and for a distilled network how far it stays from what it was distilled from, on its training data."""
    figures = {"accuracy": accuracy(*predict(network, test))}
    if source is not None:
        figures["kl_to_source"] = kl(predict(network, train)[0], predict(source, train)[0])
    return figures


EXPERIMENT = Experiment(
    name="takd",
    title="Teacher assistants",
    paper="Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh, AAAI 2020, arXiv 1902.03393",
    claim="A small student mimics an assistant of intermediate size more closely than the large teacher.",
    config=TAKDConfig(),
    run=run,
    comparisons=(
        Comparison(
            "kl_to_source",
            student="student, assistant",
            baseline="student, direct",
            better="lower",
            statistic="ratio",
            gate=0.9,
            text="KL(source || student) on training data, from the assistant over direct",
        ),
        Comparison(
            "accuracy",
            student="student, assistant",
            baseline="student, direct",
            better="higher",
            required=False,
            text="test accuracy, with the assistant against direct",
        ),
        Comparison(
            "accuracy",
            student="student, assistant",
            baseline="student, direct, double epochs",
            better="higher",
            required=False,
            text="the same against direct distillation in twice the epochs",
        ),
        Comparison(
            "accuracy",
            student="student, assistant",
            baseline="student, assistant without teacher",
            better="higher",
            required=False,
            text="the same against an assistant trained from scratch",
        ),
    ),
    notes=(
        "The paper's order of accuracies is not expected here: a student this small loses to plain cross-entropy "
        "with any teacher. It is reported, not required.",
    ),
)
