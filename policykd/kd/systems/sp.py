"""Similarity-preserving distillation: pairs of samples are to look as much alike to the student as to the teacher.

Tung and Mori, Similarity-Preserving Knowledge Distillation (ICCV 2019, arXiv 1907.09682). The loss itself is
``policykd.kd.functional.sp``; it needs neither labels nor equal widths, so that a teacher can pass on what it knows of
unlabeled inputs. That is what this system does: a few labeled samples and a large unlabeled pool in every step,
``L = ce_weight CE(labeled) + sp_weight L_SP(pool)``.

Departures: the paper trains with labels on everything; here most inputs have none. Features are the last hidden layer,
where the paper takes the last convolutional map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import check_temperature
from policykd.errors import ConfigError, check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import PIXELS, digits_rows, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.networks.penultimate import penultimate
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.loop import ADAM, Loss, minimize, seeded, train_classifier
from policykd.seeding import generator, integer_seed


class LabeledDraws:
    """Small labeled batches, drawn without replacement anew for every step, beside the batches of a pool.

    Args:
        data: The labeled samples.
        size: Samples per step.
        seed: The cell's seed; equal seeds give equal draws.

    Raises:
        ConfigError: There are fewer samples than one step takes.
    """

    def __init__(self, data: Split, size: int, seed: int) -> None:
        check_range("labeled samples per step", size, 1, len(data))
        self._data, self._size, self._rng = data, size, generator(seed, "labelled draws")

    def draw(self) -> Split:
        """The next batch."""
        return self._data.take(self._rng.permutation(len(self._data))[: self._size])


def on_pool(
    student: MLP,
    labeled: LabeledDraws,
    features: Tensor,
    logits: Tensor,
    *,
    ce_weight: float = 1.0,
    sp_weight: float = 0.0,
    kd_weight: float = 0.0,
    temperature: float = 4.0,
) -> Loss:
    """A loss on batches of an unlabeled pool, with a labeled batch beside each; the batch's own labels are not read.

    Args:
        student: The student.
        labeled: Where its labels come from.
        features: The teacher's last hidden layer for the pool ``(N, D)``.
        logits: Its logits for the pool ``(N, C)``.
        ce_weight: Weight of the cross-entropy on the labeled batch.
        sp_weight: Weight of the similarity loss on the pool, gamma in the paper; in the thousands, because the loss is
            divided by the square of the batch.
        kd_weight: Weight of the divergence of logits on the pool.
        temperature: T of that divergence.
    """

    def loss(batch: Batch, epoch: int) -> Tensor:
        known = labeled.draw()
        own_features, own_logits = penultimate(student, torch.cat([known.x, batch.x]))
        count = len(known)
        total = ce_weight * F.cross_entropy(own_logits[:count], known.y)
        if sp_weight:
            total = total + sp_weight * kf.sp(own_features[count:], features[batch.index])
        if kd_weight:
            total = total + kd_weight * kf.kd(own_logits[count:], logits[batch.index], temperature=temperature)
        return total

    return loss


@dataclass(frozen=True)
class SPConfig:
    """The experiment on the digits: a teacher with 1000 labels, a student with 60.

    Attributes:
        pool: Share of the digits that the teacher learns from and whose inputs are the pool.
        labeled_per_class: Samples per class whose labels the student has.
        labeled_batch: Labeled samples per step.
        pool_batch: Samples of the pool per step.
        teacher_hidden: Widths of the teacher.
        student_hidden: Widths of the student.
        sp_weights: Weights of the similarity loss; the last one is what the claim is about.
        kd_temperature: T of the logit distillation that stands beside them.
        teacher_epochs: Epochs of the teacher.
        epochs: Epochs of the student, over the pool.
        lr: Learning rate of Adam.
    """

    pool: float = 0.557
    labeled_per_class: int = 6
    labeled_batch: int = 24
    pool_batch: int = 96
    teacher_hidden: tuple[int, ...] = (256, 64)
    student_hidden: tuple[int, ...] = (48, 32)
    sp_weights: tuple[float, ...] = (100.0, 1000.0)
    kd_temperature: float = 4.0
    teacher_epochs: int = 40
    epochs: int = 80
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_range("pool", self.pool, 0.01, 0.99)
        check_temperature(self.kd_temperature)
        if not self.sp_weights or min(self.sp_weights) <= 0:
            raise ConfigError(f"sp_weights must be at least one number above 0, got {self.sp_weights}")

    def training(self, epochs: int, batch_size: int, seed: int, role: str) -> TrainConfig:
        """The training of a role; all students see the same batches of the pool."""
        order = integer_seed(seed, "order", role)
        optimizer = replace(ADAM, lr=self.lr)
        return TrainConfig(epochs, batch_size, seed=order, drop_last=True, optimizer=optimizer)


def run(seed: int, config: SPConfig) -> Cell:
    """One cell: the teacher, and students with labels alone, with similarities of the pool, and with its logits."""
    pool, test = digits_rows(seed, (config.pool, 1 - config.pool))
    labeled = some_per_class(pool, config.labeled_per_class, seed)
    teacher = seeded(lambda: MLP((PIXELS,), config.teacher_hidden), seed, "teacher")
    train_classifier(teacher, pool, config.training(config.teacher_epochs, 64, seed, "teacher"))
    with torch.no_grad():
        features, logits = penultimate(teacher, pool.x)
    arms: dict[str, dict[str, float]] = {"CE": {}}
    arms |= {f"SP {weight:g}": {"sp_weight": weight} for weight in config.sp_weights[:-1]}
    arms |= {"SP": {"sp_weight": config.sp_weights[-1]}}
    arms |= {"KD": {"kd_weight": 1.0, "temperature": config.kd_temperature}}
    cell = {"teacher": _figures(teacher, teacher, test)}
    for arm, weights in arms.items():
        student = seeded(lambda: MLP((PIXELS,), config.student_hidden), seed, "student")
        draws = LabeledDraws(labeled, config.labeled_batch, seed)
        loss = on_pool(student, draws, features, logits, **weights)
        minimize(loss, student, pool, config.training(config.epochs, config.pool_batch, seed, "student"))
        cell[arm] = _figures(student, teacher, test)
    return cell


@torch.no_grad()
def _figures(network: MLP, teacher: MLP, data: Split) -> dict[str, float]:
    features, logits = penultimate(network, data.x)
    return {"accuracy": accuracy(logits, data.y), "sp": float(kf.sp(features, penultimate(teacher, data.x)[0]))}


EXPERIMENT = Experiment(
    name="sp",
    title="Similarity-preserving distillation",
    paper="Tung, Mori, ICCV 2019, arXiv 1907.09682",
    claim="A teacher's similarities of unlabeled inputs help a student that has few labels.",
    config=SPConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="SP",
            baseline="CE",
            better="higher",
            gate=0.03,
            text="accuracy above CE on the same labels by 3 points",
        ),
        Comparison(
            "sp",
            student="SP",
            baseline="CE",
            better="lower",
            text="similarity loss on test data",
        ),
        Comparison(
            "accuracy",
            student="SP",
            baseline="KD",
            better="higher",
            required=False,
            text="accuracy against logit distillation on the same pool",
        ),
    ),
    notes=("Logit distillation on the same pool passes on the classes themselves and is expected to be far better.",),
)
