"""Several teaching assistants whose weighted ensemble, found by differential evolution, teaches the student.

Ganta, Das Gupta, Sheng, Knowledge Distillation via Weighted Ensemble of Teaching Assistants (arXiv 2206.12005). The
assistants are distilled from the teacher one by one, not in a chain. The weights of their ensemble are optimized on
held-out data, then frozen, and the ensemble teaches the student. The pieces are in
``policykd.kd.ensembles``.

Departures: only the abstract was readable. The objective is the negative log-likelihood by default (smooth; the
accuracy is available), the evolution has SciPy's settings, sizes and weights of the losses are ours. The ensemble is
softened after averaging at T = 1, where the objective was defined; averaging softened members is reported beside it. A
chain of assistants is not among the baselines (see ``takd``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from policykd.errors import check_range
from policykd.kd.ensembles import (
    EvolutionConfig,
    Goal,
    Softening,
    ensemble_logits,
    ensemble_nll,
    evolve_weights,
    normalized,
)
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, redrawn_labels, some
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, seeded, train_classifier
from policykd.kd.training.stacked import distil_side_by_side
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class MultiTaDeConfig:
    """Digits; a wide teacher, three assistants distilled from it, and one that learned from mostly random labels.

    Attributes:
        train_share: share of the digits that is not for testing.
        validation: samples of that share on which the ensemble's weights are found.
        transfer: samples of the rest that the student learns from.
        teacher_hidden: hidden widths of the teacher.
        assistant_hidden: hidden width of every assistant.
        corrupted_hidden: hidden width of the corrupted one.
        corrupted_labels: share of its labels that is drawn at random.
        student_hidden: hidden width of the student.
        temperature: T of all distillation.
        assistant_kd_weight: weight of the divergence when assistants are distilled; the labels get the rest.
        student_kd_weight: the same for the student.
        goal: what the evolution minimizes.
        softening: how the ensemble is softened.
        epochs: epochs of teacher and assistants.
        student_epochs: epochs of the students.
        long_epochs: epochs of a second set of students, nearer to convergence.
        batch_size: samples per step.
        lr: learning rate of Adam.
        evolution: the evolution's settings.
    """

    train_share: float = 0.6
    validation: int = 250
    transfer: int = 250
    teacher_hidden: tuple[int, ...] = (128, 128)
    assistant_hidden: tuple[int, ...] = (64, 32, 16)
    corrupted_hidden: int = 32
    corrupted_labels: float = 0.7
    student_hidden: int = 8
    temperature: float = 4.0
    assistant_kd_weight: float = 0.7
    student_kd_weight: float = 0.9
    goal: Goal = "nll"
    softening: Softening = "resoftened"
    epochs: int = 40
    student_epochs: int = 100
    long_epochs: int = 300
    batch_size: int = 64
    lr: float = 2e-3
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)

    def __post_init__(self) -> None:
        check_range("train_share", self.train_share, 0.1, 0.9)
        check_range("corrupted_labels", self.corrupted_labels, 0, 1)
        for name in ("assistant_kd_weight", "student_kd_weight"):
            check_range(name, getattr(self, name), 0, 1)

    def training(self, epochs: int, seed: int) -> TrainConfig:
        """How networks are trained."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=0.0)
        return TrainConfig(epochs=epochs, batch_size=self.batch_size, seed=seed, optimizer=optimizer)


_NO_TEACHER, _LONG = "labels only", "accuracy after long training"


def run(seed: int, config: MultiTaDeConfig) -> Cell:
    """Train teacher and assistants, find the weights, train one student per kind of teacher."""
    whole, test = digits_rows(seed, (config.train_share, 1 - config.train_share))
    held_out, train = _parted(whole, config.validation, seed)
    transfer = some(train, config.transfer, seed)
    teacher, assistants = _teachers(seed, config, train)
    on_held_out, on_test, on_transfer = (
        torch.stack([predict(member, part)[0] for member in assistants]) for part in (held_out, test, transfer)
    )
    p, y = on_held_out.double().softmax(-1).numpy(), held_out.y.numpy()
    weightings = _weightings(seed, config, p, y)
    direct = predict(teacher, transfer)[0]
    taught = {
        arm: ensemble_logits(on_transfer, w, temperature=config.temperature, softening=softening)
        for arm, (w, softening) in weightings.items()
    } | {"teacher": direct, _NO_TEACHER: direct}
    short, long = (
        _student_accuracies(seed, config, taught, transfer, test, epochs)
        for epochs in (config.student_epochs, config.long_epochs)
    )
    cell = {arm: {"accuracy": a, _LONG: b} for arm, a, b in zip(taught, short, long, strict=True)}
    outputs = on_test.double().softmax(-1).numpy()
    for arm, (w, _) in weightings.items():
        cell[arm] |= {
            "ensemble nll": ensemble_nll(outputs, test.y.numpy(), w),
            "validation nll": ensemble_nll(p, y, w),
            "corrupted weight": float(w[-1]),
        }
    return cell


def _weightings(
    seed: int, config: MultiTaDeConfig, p: np.ndarray, y: np.ndarray
) -> dict[str, tuple[np.ndarray, Softening]]:
    """Arm -> weights of the assistants, found on held-out probabilities (M, N, C), and how they are softened."""
    found = evolve_weights(p, y, seed=integer_seed(seed, "evolution"), goal=config.goal, config=config.evolution)
    equal, alone = normalized(np.ones(len(p))), np.eye(len(p))
    best = int(np.argmin([ensemble_nll(p, y, one) for one in alone]))
    return {
        "evolved ensemble": (found.weights, config.softening),
        "equal ensemble": (equal, config.softening),
        "best assistant": (alone[best], config.softening),
        "evolved ensemble, softened members": (found.weights, "softened"),
        "equal ensemble, softened members": (equal, "softened"),
    }


def _parted(whole: Split, validation: int, seed: int) -> tuple[Split, Split]:
    order = generator(seed, "multi_ta_de", "validation").permutation(len(whole))
    return whole.take(order[:validation]), whole.take(order[validation:])


def _teachers(seed: int, config: MultiTaDeConfig, train: Split) -> tuple[nn.Module, list[nn.Module]]:
    """The teacher and its assistants; the corrupted one comes last."""
    setting = config.training(config.epochs, seed)
    teacher = train_classifier(seeded(lambda: _network(config.teacher_hidden), seed, "teacher"), train, setting)
    taught, kd_weight = predict(teacher, train)[0], config.assistant_kd_weight
    assistants = []
    for width in config.assistant_hidden:
        assistant = seeded(partial(_network, (width,)), seed, "assistant", width)
        weights = {"kd_weight": kd_weight, "ce_weight": 1 - kd_weight}
        assistants.append(distil(assistant, taught, train, setting, temperature=config.temperature, **weights))
    corrupted = seeded(lambda: _network((config.corrupted_hidden,)), seed, "corrupted assistant")
    labels = redrawn_labels(train.y, config.corrupted_labels, classes=CLASSES, seed=seed, purpose="corrupted assistant")
    noisy = Split(train.x, labels)
    return teacher, [*assistants, train_classifier(corrupted, noisy, setting)]


def _network(hidden: tuple[int, ...]) -> nn.Module:
    return MLP((PIXELS,), hidden, classes=CLASSES)


def _student_accuracies(
    seed: int, config: MultiTaDeConfig, taught: Mapping[str, Tensor], transfer: Split, test: Split, epochs: int
) -> list[float]:
    """Test accuracy of one student per arm, each with its own teacher's logits ``(N, C)``."""
    students = [seeded(partial(_network, (config.student_hidden,)), seed, "student") for _ in taught]
    distil_side_by_side(
        students,
        torch.stack(list(taught.values())),
        transfer,
        config.training(epochs, seed),
        temperature=config.temperature,
        kd_weights=[0.0 if arm == _NO_TEACHER else config.student_kd_weight for arm in taught],
    )
    return [accuracy(*predict(student, test)) for student in students]


def _beats(
    baseline: str,
    text: str,
    *,
    student: str = "evolved ensemble",
    metric: str = "accuracy",
    gate: float = 0.0,
    required: bool = False,
) -> Comparison:
    return Comparison(
        metric, student=student, baseline=baseline, better="higher", gate=gate, required=required, text=text
    )


EXPERIMENT = Experiment(
    name="multi_ta_de",
    title="Teaching assistants in an ensemble weighted by differential evolution",
    paper="Ganta, Das Gupta, Sheng, Knowledge Distillation via Weighted Ensemble of Teaching Assistants, "
    "arXiv 2206.12005",
    claim="weights found on held-out data shut out a bad assistant, and the weighted ensemble teaches better than the "
    "equal one and than the teacher itself",
    config=MultiTaDeConfig(),
    run=run,
    comparisons=(
        Comparison(
            "corrupted weight",
            student="evolved ensemble",
            better="lower",
            gate=0.05,
            text="the corrupted assistant gets less than 5 % of the weight",
        ),
        Comparison(
            "ensemble nll",
            student="evolved ensemble",
            baseline="equal ensemble",
            better="lower",
            statistic="ratio",
            gate=0.6,
            text="the weighted ensemble's test NLL is below 0.6 of the equal one's",
        ),
        _beats(
            "equal ensemble",
            "its student is more than 4 points better than the equal ensemble's",
            gate=0.04,
            required=True,
        ),
        _beats("teacher", "its student is better than the teacher's", required=True),
        _beats("best assistant", "its student is better than that of the best single assistant"),
        _beats(_NO_TEACHER, "its student is better than one without any teacher"),
        _beats(
            "equal ensemble, softened members",
            "better than equal weights where members are softened before they are averaged",
            student="evolved ensemble, softened members",
        ),
        _beats("equal ensemble", "better than equal weights after long training", metric=_LONG),
        _beats("teacher", "better than the teacher after long training", metric=_LONG),
    ),
    notes=(
        "Arms without further words average probabilities at T = 1, as the evolution does, and soften the mean: a "
        "corrupted assistant flattens such targets. Arms with softened members average softmax(z / T); there it does "
        "little harm, so that weighting has little to mend.",
        "The students' ordinary training stops short of convergence; the comparisons after long training say what is "
        "left of the effects then.",
        "On this small task distillation need not beat labels alone; it is reported, not required.",
    ),
)
