"""Calibration with a Concrete distribution: the logits stay, a temperature per input is learned from mixed images.

Esaki, Nakamura, Kawano, Tokuhisa, Kutsuna, Accuracy-Preserving Calibration via Statistical Modeling on Probability
Simplex (AISTATS 2024, arXiv 2402.13765). A classifier's logits f are the log-weights of a Concrete distribution on the
simplex, whose largest entry follows ``softmax(f)`` at every temperature. A branch on the features gives the temperature
of each input; it is trained on mixtures of one image of every class, whose target is the mixing weights. The confidence
is the mean of the distribution; the decision is that of the logits.

Departures: half of the test data, on which the paper calibrates, is replaced by a part of its own; the network stays in
eval mode; fresh weights are drawn for every mixture, as in the newer published code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.calibration import fit_temperature
from policykd.kd.experiments.digits import redrawn_labels, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.system import Cell, Fit, Recipe, System, higher, lower
from policykd.kd.metrics import calibration_error
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.loop import seeded
from policykd.plain import Limits
from policykd.relaxed import concrete_log_sample, exp_concrete_log_density, gumbel_noise
from policykd.seeding import generator, integer_seed

SMALLEST = 1e-6
"""Smallest mixing weight; weights of a sparse Dirichlet distribution underflow to 0."""


@dataclass(frozen=True)
class CalibrationRecipe(Recipe):
    """An over-confident classifier of few digits with wrong labels, digits to calibrate on, digits to test on.

    Attributes:
        samples: Digits that the classifier learns from.
        label_noise: Share of its labels that are redrawn.
        student: Widths and training of the branch that gives temperatures; ``batch_size`` is the number of mixtures.
        betas: Concentrations of the mixing weights; the smallest calibration error on held-out data chooses one.
        draws: Draws of the Concrete distribution behind a confidence.
        bins: Bins of the calibration error.
    """

    parts: ClassVar[tuple[str, ...]] = ("training", "calibration", "testing")
    teacher: Fit = Fit((128, 64), steps=400, batch_size=400, lr=1e-3)
    student: Fit = Fit((64,), steps=800, batch_size=64, lr=1e-3)
    shares: tuple[float, ...] = (0.223, 0.334, 0.443)
    samples: Annotated[int, Limits(50, 1000)] = 400
    label_noise: Share = 0.15
    betas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    draws: Annotated[int, Limits(1, 100_000)] = 200
    bins: Annotated[int, Limits(1, 1000)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.betas or min(self.betas) <= 0:
            raise ConfigError(f"betas must be at least one number above 0, got {self.betas}")
        if not self.student.steps:
            raise ConfigError("the branch sees new mixtures at every step: set student.steps and student.epochs=0")


def mixtures(data: Split, count: int, beta: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return mixed inputs ``(count, ...)`` of one sample of every class, and their weights ``(count, C)``.

    Args:
        data: Samples with labels 0 to C - 1, at least one of each.
        count: Number of mixtures.
        beta: Concentration of the weights' Dirichlet distribution: small for nearly pure samples.
        rng: Source of samples and weights.
    """
    labels = data.y.numpy()
    classes = int(labels.max()) + 1
    rows = [rng.choice(np.flatnonzero(labels == label), count) for label in range(classes)]
    drawn = rng.dirichlet([beta] * classes, count).clip(SMALLEST)
    weights = torch.from_numpy(drawn / drawn.sum(1, keepdims=True)).float()
    parts = torch.stack([data.x[torch.from_numpy(row)] for row in rows], 1)
    return torch.einsum("nk,nk...->n...", weights, parts), weights


class Branch(nn.Module):
    """Positive temperatures of samples from their features; without widths, one learned temperature for all.

    Args:
        features: Width of the features.
        hidden: Widths of the hidden layers; empty for a constant.
    """

    def __init__(self, features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = MLP((features,), hidden, classes=1) if hidden else None
        self.constant = nn.Parameter(torch.tensor(0.5413), requires_grad=self.net is None)  # softplus gives 1

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(B, D)`` to temperatures ``(B,)``."""
        if self.net is None:
            return F.softplus(self.constant).expand(len(features)).clamp_min(1e-4)
        return F.softplus(self.net(features)[:, 0]).clamp_min(1e-4)


def simplex_loss(logits: Tensor, heat: Tensor, target: Tensor) -> Tensor:
    """Return the mean negative log-density of simplex targets ``(B, C)`` under a Concrete distribution.

    Args:
        logits: Log-weights ``(B, C)``.
        heat: Temperatures ``(B,)``.
        target: Points of the simplex without zeros ``(B, C)``.
    """
    logs = target.log()
    return -(exp_concrete_log_density(logs, logits, temperature=heat) - logs.sum(-1)).mean()


def mean_probabilities(logits: Tensor, heat: Tensor | float, *, draws: int, seed: int) -> Tensor:
    """Return the mean of Concrete draws ``(N, C)``, the calibrated probabilities; equal seeds give equal noise."""
    noise = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(logits)
    for _ in range(draws):
        drawn = gumbel_noise(tuple(logits.shape), generator=noise, dtype=logits.dtype)
        total += concrete_log_sample(logits, drawn, temperature=heat).exp()
    return total / draws


class CalibrationCell(Cell[CalibrationRecipe]):
    """The classifier is the teacher; labels of its digits are partly wrong, those of the other parts are right."""

    @override
    def splits(self) -> tuple[Split, Split]:
        train, test = super().splits()
        train = some(train, min(self.recipe.samples, len(train)), self.seed)
        labels = redrawn_labels(train.y, self.recipe.label_noise, seed=self.seed, purpose="classifier")
        return Split(train.x, labels), test

    @torch.no_grad()
    def said(self, data: Split) -> tuple[Tensor, Tensor]:
        """Return features and logits of the classifier."""
        return self.teacher.features_and_logits(data.x)

    def branch(self, beta: float, hidden: tuple[int, ...]) -> Branch:
        """Return a branch that was trained on mixtures of the calibration part; the classifier is not changed."""
        fit = self.recipe.student
        rng = generator(self.seed, "concrete_calibration", "mixtures")
        branch = seeded(lambda: Branch(self.recipe.teacher.hidden[-1], hidden), self.seed, "branch")
        optimizer = torch.optim.Adam(branch.parameters(), lr=fit.lr)
        for _ in range(fit.steps):
            x, weights = mixtures(self.validation, fit.batch_size, beta, rng)
            with torch.no_grad():
                features, logits = self.teacher.features_and_logits(x)
            optimizer.zero_grad()
            simplex_loss(logits, branch(features), weights).backward()
            optimizer.step()
        return branch.eval()

    @torch.no_grad()
    def with_branch(self, branch: Branch, data: Split) -> Tensor:
        """Return calibrated probabilities ``(N, C)``."""
        features, logits = self.said(data)
        seed = integer_seed(self.seed, "concrete_calibration", "draws")
        return mean_probabilities(logits, branch(features), draws=self.recipe.draws, seed=seed)

    def chosen(self, hidden: tuple[int, ...]) -> tuple[float, Branch]:
        """Return the concentration with the smallest calibration error on the calibration part, and its branch."""
        found = [(beta, self.branch(beta, hidden)) for beta in self.recipe.betas]
        return min(
            found, key=lambda one: self.figures(self.with_branch(one[1], self.validation), self.validation)["ece"]
        )

    def figures(self, probabilities: Tensor, data: Split) -> dict[str, float]:
        """Return accuracy, calibration error and likelihood of the decisions of the logits."""
        decided = self.said(data)[1].argmax(1)
        confidence = probabilities.gather(1, decided[:, None])[:, 0].clamp(0.0, 1.0)
        label = probabilities.gather(1, data.y[:, None])[:, 0]
        return {
            "accuracy": float((decided == data.y).double().mean()),
            "ece": calibration_error(confidence, decided == data.y, bins=self.recipe.bins),
            "nll": float(-label.double().clamp_min(1e-12).log().mean()),
            "confidence": float(confidence.mean()),
        }

    def calibrated(self) -> dict[str, Callable[[Split], Tensor]]:
        """Return the arms: name -> probabilities ``(N, C)`` of a part of the data."""
        heat = fit_temperature(self.said(self.validation)[1], self.validation.y)
        arms: dict[str, Callable[[Split], Tensor]] = {
            "not calibrated": lambda data: self.said(data)[1].softmax(1),
            "temperature scaling": lambda data: (self.said(data)[1] / heat).softmax(1),
        }
        for name, hidden in (("constant temperature", ()), ("simplex temperature", self.recipe.student.hidden)):
            arms[name] = partial(self.with_branch, self.chosen(hidden)[1])
        return arms


_ARM = "simplex temperature"


class ConcreteCalibration(System[CalibrationRecipe]):
    """One over-confident classifier per seed, as it is and under three calibrations that keep its decisions."""

    name = "concrete_calibration"
    title = "Simplex temperature scaling: calibration with a Concrete distribution"
    paper = "Esaki, Nakamura, Kawano, Tokuhisa, Kutsuna, AISTATS 2024, arXiv 2402.13765"
    claim = (
        "A temperature per input, learned from mixed images, lowers the calibration error of an over-confident "
        "classifier below that of temperature scaling, at the same decisions."
    )
    claims = (
        lower("ece", _ARM, "not calibrated").says("A temperature per input lowers the calibration error."),
        lower("ece", _ARM, "temperature scaling").says(
            "A temperature per input gives a lower calibration error than temperature scaling."
        ),
        lower("ece", _ARM, "not calibrated", by=0.6, statistic="ratio", required=False).says(
            "A temperature per input lowers the calibration error to at most 60 %."
        ),
        lower("ece", _ARM, "constant temperature", required=False).says(
            "A temperature per input gives a lower calibration error than one learned temperature for all."
        ),
        lower("nll", _ARM, "temperature scaling", required=False).says(
            "A temperature per input gives a lower negative log-likelihood than temperature scaling."
        ),
        higher("accuracy", _ARM, "not calibrated", by=-1e-9, required=False).says("Decisions stay as they were."),
    )
    notes = (
        "Temperature scaling is fitted to the labels of the calibration part, the simplex temperatures to mixtures of "
        "its images; both choose by that part alone.",
        "The paper's gain is on natural images with deep networks; its detection of foreign inputs is not tested here.",
    )
    recipe = CalibrationRecipe()
    cell = CalibrationCell

    @override
    def run(self, seed: int, recipe: CalibrationRecipe) -> Metrics:
        cell = CalibrationCell(seed, recipe)
        return {name: cell.figures(calibrated(cell.test), cell.test) for name, calibrated in cell.calibrated().items()}


EXPERIMENT = ConcreteCalibration().experiment()
