"""Self-distillation into fresh copies of the same network, round after round, and the flatness of what comes out.

Pham, Cho, Joshi, Hegde, Revisiting Self-Distillation (arXiv 2206.08491). Round 0 learns from labels; every later round
starts from new weights and learns from the round before. The paper's account of why students generalize better is that
they end in flatter minima; the module ``flatness`` here measures that. Kernel rounds are those of
``policykd.kd.systems.ground_truth_self_distillation`` without weight on the labels.

Departures: only the abstract was readable. Networks, data, temperature and weights are ours, with three rounds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, redrawn_labels
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.kernel_self_distillation import KernelSelfDistillation
from policykd.kd.metrics import accuracy, ece, nll
from policykd.kd.networks import MLP
from policykd.kd.systems.revisiting_self_distillation.flatness import (
    hessian_vector_product,
    hutchinson_trace,
    rademacher,
    sam_sharpness,
    top_eigenvalue,
)
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, seeded, train_classifier
from policykd.seeding import integer_seed


def self_distillation_rounds(
    make: Callable[[], nn.Module],
    data: Split,
    config: TrainConfig,
    *,
    rounds: int,
    temperature: float,
    kd_weight: float,
) -> list[nn.Module]:
    """Train round 0 on labels and every later round on the round before, all from new weights and in a new order.

    Args:
        make: Makes a network.
        data: Inputs and labels.
        config: The same for all rounds; its seed seeds weights and order of each.
        rounds: Number of self-distillation rounds, >= 1.
        temperature: T > 0.
        kd_weight: a, weight of the divergence; the labels get ``1 - a``, so that 0 is training anew.

    Returns:
        ``rounds + 1`` networks in eval mode, the first teacher first.

    Raises:
        ConfigError: No round, or a weight outside [0, 1].
    """
    check_range("rounds", rounds, 1, float("inf"))
    check_range("kd_weight", kd_weight, 0, 1)
    networks: list[nn.Module] = []
    for number in range(rounds + 1):
        network = seeded(make, config.seed, "round", number)
        setting = replace(config, seed=integer_seed(config.seed, "order of round", number))
        if not networks:
            networks.append(train_classifier(network, data, setting))
            continue
        taught = predict(networks[-1], data)[0]
        weights = {"kd_weight": kd_weight, "ce_weight": 1 - kd_weight}
        networks.append(distil(network, taught, data, setting, temperature=temperature, **weights))
    return networks


def flatness(network: nn.Module, data: Split, *, probes: int, radius: float, seed: int) -> dict[str, float]:
    """Curvature and sharpness of the cross-entropy on hard labels around a network's weights, in float64.

    Args:
        network: Left as it was.
        data: Inputs and labels, all at once.
        probes: Probes of the trace.
        radius: Of the sharpness.
        seed: Seeds the probes.

    Returns:
        ``hessian trace``, ``largest eigenvalue``, ``sharpness``, ``training loss``.
    """
    double = copy.deepcopy(network).double()
    x, parameters = data.x.double(), list(double.parameters())

    def loss() -> Tensor:
        return F.cross_entropy(double(x), data.y)

    product = hessian_vector_product(loss, parameters)
    signs = rademacher(probes + 1, parameters, torch.Generator().manual_seed(integer_seed(seed, "probes")))
    return {
        "hessian trace": hutchinson_trace(product, signs[1:])[0],
        "largest eigenvalue": top_eigenvalue(product, signs[0], iterations=50, tolerance=1e-3)[0],
        "sharpness": sam_sharpness(loss, parameters, radius=radius),
        "training loss": float(loss().detach()),
    }


@dataclass(frozen=True)
class RevisitingSelfDistillationConfig:
    """Digits with random training labels: kernel rounds, a wide network that over-fits, and a flatness study.

    Attributes:
        train_share: share of the digits for training; the rest is for testing.
        noisy_labels: share of training labels drawn anew for the kernel rounds and the wide network.
        gamma: width of the kernel ``exp(-gamma ||x - x'||^2)`` on pixels in [0, 1].
        small_ridge: a penalty that is too small.
        middle_ridge: one that is nearly right.
        large_ridge: one that is too large.
        kernel_rounds: rounds of kernel self-distillation after the first fit.
        early_rounds: rounds that must each help at the small ridge.
        wide_hidden: hidden widths of the wide network.
        wide_epochs: its epochs, for teacher and student.
        wide_kd_weight: weight of the divergence there; the labels get the rest.
        flat_hidden: hidden widths in the flatness study.
        flat_noisy_labels: share of labels drawn anew there.
        flat_epochs: epochs of each of its rounds.
        flat_kd_weight: weight of the divergence there.
        flat_rounds: rounds there.
        flat_weight_decay: weight decay there.
        temperature: T of all distillation.
        probes: probes of the Hessian's trace.
        radius: radius of the sharpness.
        batch_size: samples per step.
        lr: learning rate of Adam.
    """

    train_share: float = 0.5
    noisy_labels: float = 0.4
    gamma: float = 0.15
    small_ridge: float = 0.1
    middle_ridge: float = 1.0
    large_ridge: float = 3.0
    kernel_rounds: int = 7
    early_rounds: int = 3
    wide_hidden: tuple[int, ...] = (128,)
    wide_epochs: int = 150
    wide_kd_weight: float = 1.0
    flat_hidden: tuple[int, ...] = (64,)
    flat_noisy_labels: float = 0.3
    flat_epochs: int = 100
    flat_kd_weight: float = 0.9
    flat_rounds: int = 3
    flat_weight_decay: float = 1e-4
    temperature: float = 4.0
    probes: int = 50
    radius: float = 0.05
    batch_size: int = 64
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_range("noisy_labels", self.noisy_labels, 0, 1)
        if not 0 < self.early_rounds <= self.kernel_rounds:
            raise ConfigError(f"early_rounds must lie in [1, kernel_rounds = {self.kernel_rounds}]")

    def training(self, epochs: int, seed: int, weight_decay: float = 0.0) -> TrainConfig:
        """How networks are trained."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=weight_decay)
        return TrainConfig(epochs=epochs, batch_size=self.batch_size, seed=seed, optimizer=optimizer)


def run(seed: int, config: RevisitingSelfDistillationConfig) -> Cell:
    """Kernel rounds, the wide network and the flatness study on one split."""
    train, test = digits_rows(seed, (config.train_share, 1 - config.train_share))
    labels = redrawn_labels(train.y, config.noisy_labels, classes=CLASSES, seed=seed, purpose="wide")
    noisy = Split(train.x, labels)
    return {
        **_kernel_arms(config, noisy, test),
        **_wide_arms(seed, config, noisy, test),
        **_flat_arms(seed, config, train, test),
    }


def _kernel_arms(config: RevisitingSelfDistillationConfig, train: Split, test: Split) -> dict[str, dict[str, float]]:
    from sklearn.metrics.pairwise import rbf_kernel

    one_hot = np.eye(CLASSES)[train.y.numpy()] - 1 / CLASSES
    kernel, cross = (rbf_kernel(part.x.numpy(), train.x.numpy(), gamma=config.gamma) for part in (train, test))
    problem = KernelSelfDistillation(kernel, one_hot, ridge=config.small_ridge)
    arms = {}
    for name in ("small", "middle", "large"):
        ridge = getattr(config, f"{name}_ridge")
        rounds = problem.with_ridge(ridge).predictions(cross, [0.0] * (config.kernel_rounds + 1))
        scores = (rounds.argmax(-1) == test.y.numpy()).mean(1)
        gains = np.diff(scores)
        arms[f"kernel, {name} ridge"] = {
            "accuracy": float(scores[0]),
            "accuracy last round": float(scores[-1]),
            "gain of round 1": float(gains[0]),
            "gain after round 1": float(scores[-1] - scores[1]),
            "least early gain": float(gains[: config.early_rounds].min()),
            "greatest gain": float(gains.max()),
        }
    return arms


def _wide_arms(
    seed: int, config: RevisitingSelfDistillationConfig, train: Split, test: Split
) -> dict[str, dict[str, float]]:
    setting = config.training(config.wide_epochs, integer_seed(seed, "wide"))
    teacher, student = self_distillation_rounds(
        partial(_network, config.wide_hidden),
        train,
        setting,
        rounds=1,
        temperature=config.temperature,
        kd_weight=config.wide_kd_weight,
    )
    return {"wide, teacher": _quality(teacher, test), "wide, student": _quality(student, test)}


def _flat_arms(
    seed: int, config: RevisitingSelfDistillationConfig, train: Split, test: Split
) -> dict[str, dict[str, float]]:
    labels = redrawn_labels(train.y, config.flat_noisy_labels, classes=CLASSES, seed=seed, purpose="flatness")
    data = Split(train.x, labels)
    networks = self_distillation_rounds(
        partial(_network, config.flat_hidden),
        data,
        config.training(config.flat_epochs, integer_seed(seed, "flatness"), config.flat_weight_decay),
        rounds=config.flat_rounds,
        temperature=config.temperature,
        kd_weight=config.flat_kd_weight,
    )
    return {
        f"flatness, round {number}": _quality(network, test)
        | flatness(network, data, probes=config.probes, radius=config.radius, seed=seed)
        for number, network in enumerate(networks)
    }


def _quality(network: nn.Module, test: Split) -> dict[str, float]:
    logits, labels = predict(network, test)
    return {"accuracy": accuracy(logits, labels), "nll": nll(logits, labels), "ece": ece(logits, labels)}


def _network(hidden: tuple[int, ...]) -> nn.Module:
    return MLP((PIXELS,), hidden, classes=CLASSES)


Side = Literal["higher", "lower"]


def _kernel(ridge: str, metric: str, better: Side, text: str, gate: float = 0.0) -> Comparison:
    return Comparison(metric, student=f"kernel, {ridge} ridge", better=better, gate=gate, text=text)


def _flatter(metric: str, number: int, text: str, *, better: Side = "lower") -> Comparison:
    student, baseline = f"flatness, round {number}", "flatness, round 0"
    return Comparison(metric, student=student, baseline=baseline, better=better, required=False, text=text)


EXPERIMENT = Experiment(
    name="revisiting_self_distillation",
    title="Self-distillation, round after round, and flat minima",
    paper="Pham, Cho, Joshi, Hegde, Revisiting Self-Distillation, arXiv 2206.08491",
    claim="where the teacher over-fits, a student of the same architecture beats it; where it is regularized enough, "
    "more rounds hurt",
    config=RevisitingSelfDistillationConfig(),
    run=run,
    comparisons=(
        _kernel("small", "gain of round 1", "higher", "small ridge: round 1 gains more than 5 points", gate=0.05),
        _kernel("small", "least early gain", "higher", "small ridge: every early round helps"),
        _kernel("middle", "gain of round 1", "higher", "middle ridge: round 1 helps"),
        _kernel("middle", "gain after round 1", "lower", "middle ridge: the rounds after it hurt"),
        _kernel("large", "greatest gain", "lower", "large ridge: every round hurts"),
        Comparison(
            "accuracy",
            student="wide, student",
            baseline="wide, teacher",
            better="higher",
            text="an over-fitted network's student is more accurate",
        ),
        Comparison(
            "nll",
            student="wide, student",
            baseline="wide, teacher",
            better="lower",
            text="and its probabilities are better",
        ),
        _flatter("hessian trace", 1, "the student's minimum is flatter by the Hessian's trace"),
        _flatter("hessian trace", 2, "so is that of round 2"),
        _flatter("hessian trace", 3, "so is that of round 3"),
        _flatter("largest eigenvalue", 1, "flatter by the largest eigenvalue"),
        _flatter("sharpness", 1, "flatter by the rise along the gradient"),
        _flatter("training loss", 1, "its training loss is higher", better="higher"),
        _flatter("accuracy", 1, "in the flatness study the student is more accurate, too", better="higher"),
    ),
    notes=(
        "Student above teacher is expected only where the teacher over-fits (random labels here), not on clean data.",
        "The paper's account by flatter minima is measured and reported; the verdict does not depend on it.",
        "Curvature depends on the scale of the weights and on confidence; read the trace beside the training loss.",
        "A teacher that is trained twice as long and an ensemble of independent networks are not among the arms.",
    ),
)
