"""Distillation from softened class probabilities, and when its teacher should stop early.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (NIPS 2014 workshop, arXiv 1503.02531); Cho and
Hariharan, On the Efficacy of Knowledge Distillation (ICCV 2019, arXiv 1910.01348). The loss is
``ce_weight CE + kd_weight T**2 KL(softmax(v / T) || softmax(z / T))``, section 2 of the first; here are what the two
papers do around it: the bias of classes that the transfer set lacks, teachers from a shortened schedule, and a student
that drops the teacher half-way (ESKD). Ensembles as teachers are in ``policykd.kd.ensembles``: the first
paper's arithmetic mean is the softening ``softened``, its geometric mean ``logits``.

Departures: the specialists of the first paper's section 5 are left out. One converged teacher serves all three parts
of the experiment. A fifth of the held-out half is validation data, which chooses the bias and, for every seed, the
early-stopped teacher by its student's accuracy; test data choose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import check_temperature
from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import PIXELS, digits_rows, some, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy, recall
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import ADAM, Loss, distil, distillation, minimize, seeded, train_classifier
from policykd.seeding import integer_seed


def tune_bias(
    logits: Tensor, labels: Tensor, classes: Sequence[int], *, limit: float = 10.0, steps: int = 81
) -> Tensor:
    """The bias for classes that the transfer set lacked, chosen on validation data (section 3 of the first paper).

    Args:
        logits: Validation logits ``(N, C)``.
        labels: Validation labels ``(N,)``.
        classes: The classes that get one common constant.
        limit: Largest size of the constant.
        steps: Number of constants tried in [-limit, limit]; the most accurate one wins, then the smallest.

    Returns:
        What to add to the logits ``(C,)``.

    Raises:
        ConfigError: There is no such class, or an option is out of range.
    """
    check_range("steps", steps, 2, 100_000)
    check_range("limit", limit, 0.0, 1e6)
    if not classes or not set(classes) < set(range(logits.shape[1])):
        raise ConfigError(f"classes must name some of 0 to {logits.shape[1] - 1}, got {tuple(classes)}")
    unit = torch.zeros(logits.shape[1], dtype=logits.dtype)
    unit[list(classes)] = 1.0
    constants = sorted(torch.linspace(-limit, limit, steps).tolist(), key=abs)
    best = max(constants, key=lambda constant: accuracy(logits + constant * unit, labels))
    return best * unit


def shortened(config: TrainConfig, epochs: int) -> TrainConfig:
    """The same schedule in fewer epochs, for an early-stopped teacher: the drops of the learning rate move along.

    Args:
        config: The whole schedule.
        epochs: The new length; not an early checkpoint of the long run, whose rate would still be high.

    Raises:
        ValueError: ``epochs`` is below 1.
    """
    share = epochs / config.epochs
    milestones = tuple(milestone * share for milestone in config.scheduler.milestones)
    scheduler = replace(config.scheduler, milestones=milestones, warmup=config.scheduler.warmup * share)
    return replace(config, epochs=epochs, scheduler=scheduler)


def early_stopped(loss: Loss, student: nn.Module, stop_epoch: int) -> Loss:
    """A distillation loss that turns into plain cross-entropy at an epoch (ESKD); the teacher is not called any more.

    It is one loss for one run, so that neither the optimizer's state nor the learning rate starts anew.

    Args:
        loss: The loss of the epochs before, such as ``training.distillation(...)``.
        student: The student.
        stop_epoch: First epoch without the teacher, counted from 0.
    """

    def switched(batch: Batch, epoch: int) -> Tensor:
        return loss(batch, epoch) if epoch < stop_epoch else F.cross_entropy(student(batch.x), batch.targets)

    return switched


@dataclass(frozen=True)
class HintonKDConfig:
    """The experiment on the digits.

    Attributes:
        temperature: T where labels are given, too.
        kd_weight: Weight of the divergence there; the cross-entropy has the rest.
        teacher_hidden: Widths of the teacher.
        teacher_epochs: Length of the converged teacher's training.
        early_epochs: Lengths of early-stopped teachers, among which validation data choose.
        few_per_class: Labels per class in the part with few labels.
        few_hidden: Widths of that student and of the one that lacks a class.
        few_epochs: Its epochs, one step each.
        missing_class: The class that the transfer set lacks.
        missing_temperature: T there; labels are not used.
        missing_epochs: Epochs there.
        efficacy_samples: Training samples of the students of early-stopped and converged teachers.
        efficacy_hidden: Widths of these.
        efficacy_epochs: Their epochs.
        eskd_epochs: Epochs with teacher of the student that drops it.
        batch_size: Samples per step.
        teacher_lr: Learning rate of Adam for the teachers.
        student_lr: And for the students, high enough that they converge within their epochs.
    """

    temperature: float = 4.0
    kd_weight: float = 0.9
    teacher_hidden: tuple[int, ...] = (128, 128)
    teacher_epochs: int = 120
    early_epochs: tuple[int, ...] = (3, 10, 30)
    few_per_class: int = 4
    few_hidden: tuple[int, ...] = (32,)
    few_epochs: int = 200
    missing_class: int = 3
    missing_temperature: float = 8.0
    missing_epochs: int = 40
    efficacy_samples: int = 150
    efficacy_hidden: tuple[int, ...] = (16,)
    efficacy_epochs: int = 100
    eskd_epochs: int = 40
    batch_size: int = 64
    teacher_lr: float = 2e-3
    student_lr: float = 1e-2

    def __post_init__(self) -> None:
        for temperature in (self.temperature, self.missing_temperature):
            check_temperature(temperature)
        check_range("kd_weight", self.kd_weight, 0.0, 1.0)
        check_range("missing_class", self.missing_class, 0, 9)
        if not self.early_epochs:
            raise ConfigError("early_epochs names no length; give at least one, such as (10,)")
        for epochs in self.early_epochs:
            check_range("early_epochs", epochs, 1, self.teacher_epochs - 1)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of divergence and cross-entropy."""
        return {"kd_weight": self.kd_weight, "ce_weight": 1 - self.kd_weight}

    def training(self, epochs: int, seed: int, part: str) -> TrainConfig:
        """The training of a part's networks; arms of one part see the same batches."""
        lr = self.teacher_lr if part == "teacher" else self.student_lr
        order = integer_seed(seed, "order", part)
        return TrainConfig(epochs, self.batch_size, seed=order, optimizer=replace(ADAM, lr=lr))


def run(seed: int, config: HintonKDConfig) -> Cell:
    """One cell: the teachers, then students with few labels, with a missing class, and of early-stopped teachers."""
    parts = digits_rows(seed, (0.5, 0.1, 0.4))
    teachers = _teachers(seed, config, parts[0])
    return {
        **_few_labels(seed, config, teachers[config.teacher_epochs], *parts),
        **_missing_class(seed, config, teachers[config.teacher_epochs], *parts),
        **_efficacy(seed, config, teachers, *parts),
    }


def _teachers(seed: int, config: HintonKDConfig, train: Split) -> dict[int, nn.Module]:
    """Teachers by the length of their schedule, from one initialization."""
    whole = config.training(config.teacher_epochs, seed, "teacher")
    return {
        epochs: train_classifier(_network(config.teacher_hidden, seed, "teacher"), train, shortened(whole, epochs))
        for epochs in (*config.early_epochs, config.teacher_epochs)
    }


def _few_labels(seed: int, config: HintonKDConfig, teacher: nn.Module, train: Split, val: Split, test: Split) -> Cell:
    few = some_per_class(train, config.few_per_class, seed)
    training = config.training(config.few_epochs, seed, "few labels")
    hard, soft = (_network(config.few_hidden, seed, "few labels") for _ in range(2))
    train_classifier(hard, few, training)
    _distil(soft, teacher, few, training, config)
    return {"few labels, CE": _accuracy(hard, test), "few labels, KD": _accuracy(soft, test)}


def _missing_class(
    seed: int, config: HintonKDConfig, teacher: nn.Module, train: Split, val: Split, test: Split
) -> Cell:
    transfer = train.take((train.y != config.missing_class).nonzero()[:, 0])
    training = config.training(config.missing_epochs, seed, "missing class")
    hard, soft = (_network(config.few_hidden, seed, "missing class") for _ in range(2))
    train_classifier(hard, transfer, training)
    taught, _ = predict(teacher, transfer)
    distil(soft, taught, transfer, training, temperature=config.missing_temperature, kd_weight=1.0, ce_weight=0.0)
    bias = tune_bias(*predict(soft, val), [config.missing_class])
    logits = {"CE": predict(hard, test)[0], "KD": predict(soft, test)[0]}
    logits["KD, bias"] = logits["KD"] + bias
    return {
        f"missing class, {arm}": {
            "accuracy": accuracy(values, test.y),
            "recall": recall(values, test.y, config.missing_class),
        }
        for arm, values in logits.items()
    }


def _efficacy(
    seed: int, config: HintonKDConfig, teachers: dict[int, nn.Module], train: Split, val: Split, test: Split
) -> Cell:
    subset = some(train, config.efficacy_samples, seed)
    training = config.training(config.efficacy_epochs, seed, "efficacy")

    def student() -> nn.Module:
        return _network(config.efficacy_hidden, seed, "efficacy")

    pupils = {epochs: _distil(student(), teacher, subset, training, config) for epochs, teacher in teachers.items()}
    chosen = max(config.early_epochs, key=lambda epochs: accuracy(*predict(pupils[epochs], val)))
    named = {f"{epochs}-epoch": epochs for epochs in config.early_epochs}
    named |= {"early-stopped": chosen, "converged": config.teacher_epochs}
    return {
        **{f"{name} teacher": _accuracy(teachers[epochs], test) for name, epochs in named.items()},
        **{f"student, {name} teacher": _accuracy(pupils[epochs], test) for name, epochs in named.items()},
        "student, CE": _accuracy(train_classifier(student(), subset, training), test),
        "student, ESKD": _accuracy(
            _drop_teacher(student(), teachers[config.teacher_epochs], subset, training, config), test
        ),
    }


def _drop_teacher(
    student: nn.Module, teacher: nn.Module, data: Split, training: TrainConfig, config: HintonKDConfig
) -> nn.Module:
    loss = distillation(student, teacher, temperature=config.temperature, **config.weights)
    minimize(early_stopped(loss, student, config.eskd_epochs), student, data, training)
    return student


def _distil(
    student: nn.Module, teacher: nn.Module, data: Split, training: TrainConfig, config: HintonKDConfig
) -> nn.Module:
    taught, _ = predict(teacher, data)  # asked once: the samples are not augmented
    return distil(student, taught, data, training, temperature=config.temperature, **config.weights)


def _network(hidden: tuple[int, ...], seed: int, *key: str) -> nn.Module:
    return seeded(lambda: MLP((PIXELS,), hidden), seed, *key)


def _accuracy(network: nn.Module, data: Split) -> dict[str, float]:
    return {"accuracy": accuracy(*predict(network, data))}


EXPERIMENT = Experiment(
    name="hinton_kd",
    title="Knowledge distillation with softened probabilities; early-stopped teachers",
    paper="Hinton, Vinyals, Dean, NIPS DL workshop 2014, arXiv 1503.02531; Cho, Hariharan, ICCV 2019, arXiv 1910.01348",
    claim="Soft targets teach what few or missing labels cannot, and the best teacher is not the most accurate one.",
    config=HintonKDConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="few labels, KD",
            baseline="few labels, CE",
            better="higher",
            gate=0.04,
            text="4 labels per class: KD above CE by 4 points",
        ),
        Comparison(
            "recall",
            student="missing class, KD",
            better="higher",
            gate=0.5,
            text="recall of a class that the student never saw",
        ),
        Comparison(
            "recall",
            student="missing class, KD, bias",
            better="higher",
            gate=0.9,
            text="the same with a bias chosen on validation data",
        ),
        Comparison(
            "recall",
            student="missing class, CE",
            better="lower",
            gate=0.01,
            text="the same with hard labels",
        ),
        Comparison(
            "accuracy",
            student="converged teacher",
            baseline="early-stopped teacher",
            better="higher",
            text="the converged teacher is more accurate than the early-stopped one",
        ),
        Comparison(
            "accuracy",
            student="student, early-stopped teacher",
            baseline="student, converged teacher",
            better="higher",
            gate=0.01,
            text="but its student is worse by 1 point",
        ),
        Comparison(
            "accuracy",
            student="student, ESKD",
            baseline="student, converged teacher",
            better="higher",
            required=False,
            text="dropping the teacher half-way (ESKD)",
        ),
    ),
    notes=(
        "ESKD is here for its switching, which the tests check; in networks this small it is not expected to help.",
        "The papers' ImageNet and speech results are out of reach of this setting and are not claimed.",
    ),
)
