"""STKD: similarity transfer with mixed virtual samples (Zhao, Gong, Sun, Dong, Yu 2021, arXiv 2103.10047).

A virtual sample is a convex combination of samples of the batch; the student learns to give it the distribution that
the teacher gives. ``draw_mixing`` draws how a batch is mixed, ``Mixing.mix`` mixes inputs, labels or probabilities in
the same way, and ``virtual_teacher`` gives the teacher's logits for the virtual samples::

    mixing = draw_mixing(len(x), concentration=1.0, generator=rng)
    z_s, z_t = student(mixing.mix(x)), virtual_teacher(teacher, x, mixing, temperature=4.0)
    loss = 0.1 * ce(z_s, mixing.mix(one_hot(y))) + 0.9 * kd(z_s, z_t, temperature=4.0)

Neither the paper's equations nor code by its authors could be read: the loss follows the abstract, which allows two
readings of "the teacher's distribution of a virtual sample". Both are here; ``on_mix`` is the default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import check_temperature
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.networks import MLP
from policykd.kd.options import check_choice, check_positive
from policykd.kd.training.batches import Batch
from policykd.kd.training.budget import step_budget
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.loop import Loss, distil, minimize, seeded, train_classifier
from policykd.seeding import generator, integer_seed

Reading = Literal["on_mix", "mixed_targets"]


@dataclass(frozen=True)
class Mixing:
    """How the samples of a batch are combined.

    Attributes:
        shares: Weights of the m samples in a virtual one, sum one over the first axis: ``(m, 1)`` for one draw per
            batch, ``(m, B)`` for one per sample.
        partners: Which samples are combined ``(m, B)``: row j is a permutation of the batch.
    """

    shares: Tensor
    partners: Tensor

    def mix(self, values: Tensor) -> Tensor:
        """Combine what belongs to the samples: inputs, one-hot labels, probabilities.

        Args:
            values: ``(B, ...)``, floating point.

        Returns:
            ``(B, ...)``: row i is ``sum_j shares[j, i] values[partners[j, i]]``.

        Raises:
            ValueError: Another batch size.
        """
        if len(values) != self.partners.shape[1]:
            raise ValueError(f"a mixing of {self.partners.shape[1]} samples cannot mix {len(values)}")
        weights = self.shares.to(values).reshape(*self.shares.shape, *[1] * (values.dim() - 1))
        return (weights * values[self.partners]).sum(0)


def draw_mixing(
    batch: int,
    *,
    concentration: float = 1.0,
    images: int = 2,
    per_sample: bool = False,
    generator: np.random.Generator,
) -> Mixing:
    """Draw a mixing: weights from a symmetric Dirichlet (two images: Beta(a, a)), partners by permuting the batch.

    Args:
        batch: B, samples in the batch.
        concentration: a > 0; small values leave most virtual samples close to a real one.
        images: m, samples in a virtual one.
        per_sample: Draw weights for every sample instead of once for the batch.
        generator: Source of randomness.

    Raises:
        ValueError: An option is out of range.
    """
    check_positive(batch=batch, concentration=concentration)
    if images < 2:
        raise ValueError(f"a virtual sample combines at least 2 images, got {images}")
    shares = generator.dirichlet([concentration] * images, batch if per_sample else 1).T
    others = [generator.permutation(batch) for _ in range(images - 1)]
    partners = np.stack([np.arange(batch), *others])
    return Mixing(torch.from_numpy(shares.astype(np.float32)), torch.from_numpy(partners))


@torch.no_grad()
def virtual_teacher(
    teacher: Callable[[Tensor], Tensor],
    x: Tensor,
    mixing: Mixing,
    *,
    temperature: float = 4.0,
    reading: Reading = "on_mix",
) -> Tensor:
    """Logits whose softmax at ``temperature`` is the teacher's distribution of the virtual samples.

    ``on_mix``: the teacher sees the virtual sample, ``f_t(mix(x))``. ``mixed_targets``: the teacher's distributions of
    the real samples are mixed, ``T log mix(softmax(f_t(x) / T))``. The two differ by Jensen's gap.

    Args:
        teacher: ``(B, ...) -> (B, C)``, in eval mode.
        x: The real samples ``(B, ...)``, augmented and normalized already: both networks must see the same mixture.
        mixing: How they are combined.
        temperature: T > 0.
        reading: See above.

    Returns:
        ``(B, C)``, without a graph.

    Raises:
        ValueError: An option is out of range.
    """
    check_choice("reading", reading, ("on_mix", "mixed_targets"))
    check_temperature(temperature)
    if reading == "on_mix":
        return teacher(mixing.mix(x))
    log_p = torch.log_softmax(teacher(x) / temperature, 1)
    parts = log_p[mixing.partners] + mixing.shares.to(log_p).log()[..., None]
    return temperature * parts.logsumexp(0)


@dataclass(frozen=True)
class StkdConfig:
    """Digits: a teacher that saw many rows, a student that sees few.

    Attributes:
        share: Share of the digits that the teacher is trained on and the student's rows come from; tested on the rest.
        per_class: Rows of every class that the student sees, all labeled.
        teacher_hidden: Widths of the teacher's hidden layers.
        student_hidden: Widths of the student's.
        teacher_steps: Optimizer steps of the teacher.
        steps: Optimizer steps of every student.
        batch_size: Samples per step.
        learning_rate: Of Adam.
        temperature: T of all distillation.
        ce_weight: Weight of the cross-entropy with the (mixed) labels where there is a teacher.
        kd_weight: Weight of the divergence from the teacher.
        concentration: a of the Beta distribution of the mixing weights.
        images: Samples in a virtual one.
    """

    share: float = 0.56
    per_class: int = 4
    teacher_hidden: tuple[int, ...] = (256, 64)
    student_hidden: tuple[int, ...] = (48,)
    teacher_steps: int = 1000
    steps: int = 800
    batch_size: int = 32
    learning_rate: float = 2e-3
    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    concentration: float = 1.0
    images: int = 2

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.1, 0.9)
        check_range("per_class", self.per_class, 2, 40)


def run(seed: int, config: StkdConfig) -> Cell:
    """Train a teacher and the five students, which start alike and see the same batches and mixings."""
    pool, test = digits_rows(seed, (config.share, 1 - config.share))
    teacher = seeded(lambda: MLP((PIXELS,), config.teacher_hidden, classes=CLASSES), seed, "teacher")
    train_classifier(teacher, pool, _budget(config, len(pool), config.teacher_steps, seed))
    rows, order = some_per_class(pool, config.per_class, seed), integer_seed(seed, "student order")
    budget = _budget(config, len(rows), config.steps, order)
    students = {
        arm: seeded(lambda: MLP((PIXELS,), config.student_hidden, classes=CLASSES), seed, "student")
        for arm in ("ce", "mixup", "kd", "stkd on_mix", "stkd mixed_targets")
    }
    train_classifier(students["ce"], rows, budget)
    distil(
        students["kd"],
        teacher,
        rows,
        budget,
        temperature=config.temperature,
        kd_weight=config.kd_weight,
        ce_weight=config.ce_weight,
    )
    readings: dict[str, Reading | None] = {
        "mixup": None,
        "stkd on_mix": "on_mix",
        "stkd mixed_targets": "mixed_targets",
    }
    for arm, reading in readings.items():
        loss = _virtual_loss(students[arm], teacher, reading, config, generator(seed, "stkd", "mixing"))
        minimize(loss, students[arm], rows, budget)
    cell = {arm: {"accuracy": accuracy(student, test)} for arm, student in students.items()}
    return cell | {"teacher": {"accuracy": accuracy(teacher, test)}}


def _budget(config: StkdConfig, samples: int, steps: int, seed: int) -> TrainConfig:
    return step_budget(
        samples, steps=steps, batch_size=config.batch_size, learning_rate=config.learning_rate, seed=seed
    )


def _virtual_loss(
    student: nn.Module, teacher: nn.Module, reading: Reading | None, config: StkdConfig, rng: np.random.Generator
) -> Loss:
    """The loss on virtual samples; without a reading there is no teacher (mixup alone)."""

    def loss(batch: Batch, epoch: int) -> Tensor:
        mixing = draw_mixing(len(batch.x), concentration=config.concentration, images=config.images, generator=rng)
        logits = student(mixing.mix(batch.x))
        hard = kf.ce(logits, mixing.mix(F.one_hot(batch.targets, CLASSES).float()))
        if reading is None:
            return hard
        taught = virtual_teacher(teacher, batch.x, mixing, temperature=config.temperature, reading=reading)
        return config.ce_weight * hard + config.kd_weight * kf.kd(logits, taught, temperature=config.temperature)

    return loss


EXPERIMENT = Experiment(
    name="stkd",
    title="Similarity transfer: distillation on mixed virtual samples",
    paper="Zhao, Gong, Sun, Dong, Yu, Similarity Transfer for Knowledge Distillation, 2021, arXiv 2103.10047",
    claim="with few rows, distilling on mixtures is as good as plain distillation and far better than mixup without a "
    "teacher; the teacher has to see the mixture",
    config=StkdConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="stkd on_mix",
            baseline="kd",
            better="higher",
            gate=-0.003,
            text="at most 0.3 points behind plain distillation",
        ),
        Comparison(
            "accuracy",
            student="stkd on_mix",
            baseline="mixup",
            better="higher",
            gate=0.05,
            text="more than 5 points above mixup without a teacher",
        ),
        Comparison(
            "accuracy",
            student="stkd on_mix",
            baseline="stkd mixed_targets",
            better="higher",
            text="better than mixing the teacher's answers for the real samples",
        ),
    ),
    notes=(
        "Neither equations nor code of the paper could be read; both readings of its abstract are trained.",
        "The paper claims to beat plain distillation; what is required here is not to lose to it.",
    ),
)
