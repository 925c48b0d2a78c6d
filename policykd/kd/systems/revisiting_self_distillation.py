"""Self-distillation into fresh copies of the same network, round after round, and the flatness of their minima.

Pham, Cho, Joshi, Hegde, Revisiting Self-Distillation (arXiv 2206.08491). Round 0 learns from labels; every later round
starts from new weights and learns from the round before. The paper explains the better generalization of students by
flatter minima, which ``policykd.kd.flatness`` measures. Kernel rounds are those of
``policykd.kd.kernel_self_distillation`` without weight on the labels.

Departures: only the abstract was readable. Networks, data, temperature and weights are ours, with three rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, redrawn_labels
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share, Temperature
from policykd.kd.experiments.system import Fit, System, higher, lower
from policykd.kd.flatness import measure_flatness
from policykd.kd.kernel_self_distillation import KernelSelfDistillation
from policykd.kd.metrics import measure
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, seeded, train_classifier
from policykd.plain import Limits, check_limits
from policykd.seeding import integer_seed

quality = partial(measure, only=("accuracy", "nll", "ece"))


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
        kd_weight: Weight of the divergence; the cross-entropy has the rest, so that 0 repeats the training on labels.

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


@dataclass(frozen=True)
class RevisitingRecipe:
    """Digits with random training labels: kernel rounds, a wide network that over-fits, and a flatness study.

    Attributes:
        wide: Widths and training of the wide network, the same for teacher and student.
        flat: Widths and training of the network of the flatness study, the same for all rounds.
        shares: Shares of the digits for training and testing.
        temperature: T of all distillation.
        noisy_labels: Share of training labels that is redrawn for the kernel rounds and the wide network.
        gamma: Width of the kernel ``exp(-gamma ||x - x'||^2)`` on pixels in [0, 1].
        small_ridge: A penalty that is too small.
        middle_ridge: A penalty that is nearly right.
        large_ridge: A penalty that is too large.
        kernel_rounds: Rounds of kernel self-distillation after the first fit.
        early_rounds: Rounds that must each help at the small ridge.
        wide_kd_weight: Weight of the divergence for the wide network; the cross-entropy has the rest.
        flat_kd_weight: The same in the flatness study.
        flat_noisy_labels: Share of labels that is redrawn in the flatness study.
        flat_rounds: Rounds of the flatness study.
        flat_weight_decay: Weight decay in the flatness study.
        probes: Probes of the Hessian's trace.
        radius: Radius of the sharpness.

    Raises:
        ConfigError: A field is out of range.
    """

    wide: Fit = Fit((128,), epochs=150)
    flat: Fit = Fit((64,), epochs=100)
    shares: tuple[float, float] = (0.5, 0.5)
    temperature: Temperature = 4.0
    noisy_labels: Share = 0.4
    gamma: Scale = 0.15
    small_ridge: Scale = 0.1
    middle_ridge: Scale = 1.0
    large_ridge: Scale = 3.0
    kernel_rounds: int = 7
    early_rounds: int = 3
    wide_kd_weight: Share = 1.0
    flat_kd_weight: Share = 0.9
    flat_noisy_labels: Share = 0.3
    flat_rounds: Annotated[int, Limits(3, 1000)] = 3
    flat_weight_decay: Share = 1e-4
    probes: Annotated[int, Limits(1, 1_000_000)] = 50
    radius: Scale = 0.05

    def __post_init__(self) -> None:
        check_limits(self)
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1.0) > 1e-9:
            raise ConfigError(f"shares is {self.shares}; both must be above 0 and sum to 1")
        check_range("early_rounds", self.early_rounds, 1, self.kernel_rounds)


def make_network(fit: Fit) -> nn.Module:
    """Return a network for the digits with the widths of ``fit``."""
    return MLP((PIXELS,), fit.hidden, classes=CLASSES)


def kernel_arms(recipe: RevisitingRecipe, train: Split, test: Split) -> dict[str, dict[str, float]]:
    """Return how accuracy changes over rounds of kernel self-distillation, for three ridges."""
    from sklearn.metrics.pairwise import rbf_kernel

    one_hot = np.eye(CLASSES)[train.y.numpy()] - 1 / CLASSES
    kernel, cross = (rbf_kernel(part.x.numpy(), train.x.numpy(), gamma=recipe.gamma) for part in (train, test))
    problem = KernelSelfDistillation(kernel, one_hot, ridge=recipe.small_ridge)
    arms = {}
    for name in ("small", "middle", "large"):
        ridge = getattr(recipe, f"{name}_ridge")
        rounds = problem.with_ridge(ridge).predictions(cross, [0.0] * (recipe.kernel_rounds + 1))
        scores = (rounds.argmax(-1) == test.y.numpy()).mean(1)
        gains = np.diff(scores)
        arms[f"kernel, {name} ridge"] = {
            "accuracy": float(scores[0]),
            "accuracy last round": float(scores[-1]),
            "gain of round 1": float(gains[0]),
            "gain after round 1": float(scores[-1] - scores[1]),
            "least early gain": float(gains[: recipe.early_rounds].min()),
            "greatest gain": float(gains.max()),
        }
    return arms


def wide_arms(seed: int, recipe: RevisitingRecipe, train: Split, test: Split) -> dict[str, dict[str, float]]:
    """Return the quality of a wide network and of its student."""
    teacher, student = self_distillation_rounds(
        partial(make_network, recipe.wide),
        train,
        recipe.wide.config(len(train), integer_seed(seed, "wide")),
        rounds=1,
        temperature=recipe.temperature,
        kd_weight=recipe.wide_kd_weight,
    )
    return {"wide, teacher": quality(teacher, test), "wide, student": quality(student, test)}


def flat_arms(seed: int, recipe: RevisitingRecipe, train: Split, test: Split) -> dict[str, dict[str, float]]:
    """Return quality and flatness of every round's network."""
    config = recipe.flat.config(len(train), integer_seed(seed, "flatness"))
    networks = self_distillation_rounds(
        partial(make_network, recipe.flat),
        train,
        replace(config, optimizer=replace(config.optimizer, weight_decay=recipe.flat_weight_decay)),
        rounds=recipe.flat_rounds,
        temperature=recipe.temperature,
        kd_weight=recipe.flat_kd_weight,
    )
    arms = {}
    for number, network in enumerate(networks):
        draw = torch.Generator().manual_seed(integer_seed(seed, "probes"))
        found = measure_flatness(network, train, probes=recipe.probes, radius=recipe.radius, generator=draw)
        arms[f"flatness, round {number}"] = quality(network, test) | found
    return arms


class RevisitingSelfDistillation(System[RevisitingRecipe]):
    """Kernel rounds, a wide network and a flatness study on one split."""

    name = "revisiting_self_distillation"
    title = "Self-distillation, round after round, and flat minima"
    paper = "Pham, Cho, Joshi, Hegde, Revisiting Self-Distillation, arXiv 2206.08491"
    claim = (
        "Where the teacher over-fits, a student of the same architecture is better than the teacher; where the teacher "
        "is regularized enough, more rounds hurt."
    )
    claims = (
        *(
            claimed(metric, f"kernel, {ridge} ridge").says(f"In kernel self-distillation with a {words}, {text}.")
            for claimed, ridge, metric, words, text in (
                (higher, "small", "gain of round 1", "ridge that is too small", "round 1 raises accuracy"),
                (higher, "small", "least early gain", "ridge that is too small", "every early round raises accuracy"),
                (higher, "middle", "gain of round 1", "nearly right ridge", "round 1 raises accuracy"),
                (lower, "middle", "gain after round 1", "nearly right ridge", "later rounds lower accuracy"),
                (lower, "large", "greatest gain", "ridge that is too large", "every round lowers accuracy"),
            )
        ),
        higher("accuracy", "wide, student", "wide, teacher").says(
            "The student of an over-fitted wide network is more accurate than the network itself."
        ),
        lower("nll", "wide, student", "wide, teacher").says(
            "The student of an over-fitted wide network has a lower negative log-likelihood than the network."
        ),
        *(
            claimed(metric, f"flatness, round {number}", "flatness, round 0", required=False).says(
                f"In the flatness study, round {number} has a {words} than round 0."
            )
            for claimed, metric, number, words in (
                *((lower, "hessian trace", number, "smaller trace of the Hessian") for number in (1, 2, 3)),
                (lower, "largest eigenvalue", 1, "smaller largest eigenvalue of the Hessian"),
                (lower, "sharpness", 1, "smaller rise of the loss along its gradient"),
                (higher, "training loss", 1, "higher training loss"),
                (higher, "accuracy", 1, "higher test accuracy"),
            )
        ),
    )
    gates = (0.047, 0.0041, 0.0, -0.021, -0.0032, 0.0, 0.0)
    notes = (
        "A student better than its teacher is expected only where the teacher over-fits (random labels here), not on "
        "clean data.",
        "The paper's explanation by flatter minima is measured and reported; the verdict does not depend on it.",
        "Curvature depends on the scale of the weights and on confidence; read the trace with the training loss.",
        "A teacher that is trained twice as long and an ensemble of independent networks are not among the arms.",
    )
    recipe = RevisitingRecipe()

    @override
    def run(self, seed: int, recipe: RevisitingRecipe) -> Metrics:
        train, test = digits_rows(seed, recipe.shares)

        def noisy(share: float, purpose: str) -> Split:
            return Split(train.x, redrawn_labels(train.y, share, seed=seed, purpose=purpose))

        over_fitted = noisy(recipe.noisy_labels, "wide")
        return {
            **kernel_arms(recipe, over_fitted, test),
            **wide_arms(seed, recipe, over_fitted, test),
            **flat_arms(seed, recipe, noisy(recipe.flat_noisy_labels, "flatness"), test),
        }


EXPERIMENT = RevisitingSelfDistillation().experiment()
