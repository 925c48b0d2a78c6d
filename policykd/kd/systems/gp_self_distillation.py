"""Self-distillation of Gaussian processes: refitting to the teacher's predictions, or to its whole posterior.

Borup and Andersen, Self-Distillation for Gaussian Process Regression and Classification (2023, arXiv 2304.02641). The
closed forms are in ``policykd.kd.gaussian_processes``. Data-centric: the targets of a step are the predictions of the
step before, which regularizes more with every step. Distribution-centric: the posterior of a step is the prior of the
next, on the same data, which regularizes less; for regression it is one fit with a smaller noise, for classification
with the Laplace approximation it is a data set that counts t times, or approximately a kernel that is scaled by t.

Departures: the kernel's width is fixed by the median distance, as the paper fixes parameters after the first step. A
classifier that was refitted to probabilities predicts the mean of the continuous Bernoulli distribution; the arm
"data-centric, sigmoid" reads its latent values as those of labels instead, which are further apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from scipy.optimize import minimize_scalar
from typing_extensions import override

from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale
from policykd.kd.experiments.system import System, higher, lower
from policykd.kd.gaussian_processes import (
    BERNOULLI,
    CONTINUOUS_BERNOULLI,
    Belief,
    Likelihood,
    data_centric_targets,
    effective_noise,
    laplace,
    log_evidence,
)
from policykd.plain import Limits, check_limits
from policykd.seeding import generator

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class GPRecipe:
    """Two regressions with a wrong noise, and a classification with a prior that is too narrow; a split per seed.

    Attributes:
        samples: Training samples of the regression, of 442 diabetes records.
        small_noise: Noise variance that is too small for the standardized targets.
        large_noise: One that is too large.
        steps: Steps of self-distillation t, the first fit included.
        labeled: Training samples of the classification, of 569 records of tumors.
        amplitude: Variance of the classification's latent prior.

    Raises:
        ConfigError: A field is out of range.
    """

    samples: Annotated[int, Limits(20, 400)] = 200
    small_noise: Scale = 0.1
    large_noise: Scale = 10.0
    steps: Annotated[int, Limits(2, 1000)] = 5
    labeled: Annotated[int, Limits(20, 500)] = 100
    amplitude: Scale = 1.0

    def __post_init__(self) -> None:
        check_limits(self)


@lru_cache(maxsize=2)
def _records(name: str) -> Data:
    from sklearn.datasets import load_breast_cancer, load_diabetes  # both ship with the package

    return (load_diabetes if name == "diabetes" else load_breast_cancer)(return_X_y=True)


def split(name: str, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kernel matrix, targets and positions of the training samples; inputs are standardized by those.

    The kernel is ``exp(-d**2 / median d**2)`` with the median over pairs of training samples.

    Args:
        name: ``diabetes`` or ``breast cancer``.
        samples: Number of training samples; they come first.
        seed: The cell's seed.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    x, y = _records(name)
    order = generator(seed, "gp_self_distillation", name).permutation(len(y))
    x, y, rows = x[order], y[order].astype(float), np.arange(samples)
    x = (x - x[rows].mean(0)) / x[rows].std(0)
    squares = euclidean_distances(x, squared=True)
    return np.exp(-squares / np.median(squares[:samples, :samples][np.triu_indices(samples, 1)])), y, rows


def regression_metrics(belief: Belief, y: np.ndarray, rows: np.ndarray, noise: float) -> dict[str, float]:
    """Return mean squared error and negative log-density of the test targets.

    Args:
        belief: Over all points.
        y: Their targets; the training points' come first.
        rows: Positions of the training points.
        noise: Variance of the noise of a target.
    """
    error, variance = (y - belief.mean)[len(rows) :], belief.variance[len(rows) :] + noise
    density = 0.5 * (error**2 / variance + np.log(2 * np.pi * variance))
    return {"mse": float((error**2).mean()), "nlpd": float(density.mean())}


def regressions(recipe: GPRecipe, seed: int) -> Metrics:
    """Return the metrics of both wrong noises, each after one and after all steps of both kinds, and of a tuned one."""
    kernel, y, rows = split("diabetes", recipe.samples, seed)
    y = (y - y[rows].mean()) / y[rows].std()
    own, prior = kernel[np.ix_(rows, rows)], Belief.prior(kernel)

    def fitted(noise: float, targets: np.ndarray, seen: float) -> dict[str, float]:
        return regression_metrics(prior.observe(rows, targets, noise), y, rows, seen)

    found = {}
    for name, noise in (("small noise", recipe.small_noise), ("large noise", recipe.large_noise)):
        found[f"{name}: first fit"] = fitted(noise, y[rows], noise)
        targets = data_centric_targets(own, y[rows], [noise] * recipe.steps)
        found[f"{name}: data-centric"] = fitted(noise, targets[-2], noise)
        found[f"{name}: distribution-centric"] = fitted(effective_noise([noise] * recipe.steps), y[rows], noise)
    best = float(np.exp(minimize_scalar(lambda log: -log_evidence(own, y[rows], np.exp(log)), bounds=(-7, 7)).x))
    found["noise of the highest evidence"] = fitted(best, y[rows], best)
    return found


Classifier = tuple[Belief, Likelihood]
"""A belief over latent values, and the likelihood whose mean is its prediction."""


def classification_metrics(found: Classifier, y: np.ndarray, rows: np.ndarray, first: Belief) -> dict[str, float]:
    """Return error, negative log-likelihood, mean confidence, and agreement of decisions with the first fit."""
    belief, likelihood = found
    p, test = belief.probabilities(likelihood)[len(rows) :].clip(1e-12, 1 - 1e-12), y[len(rows) :]
    decided = belief.mean[len(rows) :] > 0
    return {
        "error": float((decided != (test > 0)).mean()),
        "nll": float(-np.where(test > 0, np.log(p), np.log1p(-p)).mean()),
        "confidence": float(np.where(decided, p, 1 - p).mean()),
        "agreement": float((decided == (first.mean[len(rows) :] > 0)).mean()),
    }


def distilled_classifiers(prior: Belief, rows: np.ndarray, y: np.ndarray, steps: int) -> dict[str, Classifier]:
    """Return the classifier after its steps, by the kind of self-distillation.

    Args:
        prior: Over all points.
        rows: Positions of the training points.
        y: Their labels.
        steps: Steps, the first fit included.
    """
    first = prior.classify(rows, y)
    sequential = first
    for _ in range(steps - 1):
        sequential = sequential.classify(rows, y)

    def refitted(likelihood: Likelihood) -> Belief:
        targets = first.probabilities()[rows]
        for _ in range(steps - 1):
            belief = prior.classify(rows, targets, likelihood=CONTINUOUS_BERNOULLI)
            targets = belief.probabilities(likelihood)[rows]
        return belief

    return {
        "first fit": (first, BERNOULLI),
        "repeated data": (prior.classify(rows, y, repeats=steps), BERNOULLI),
        "scaled kernel": (Belief.prior(steps * prior.covariance).classify(rows, y), BERNOULLI),
        "sequential": (sequential, BERNOULLI),
        "data-centric": (refitted(CONTINUOUS_BERNOULLI), CONTINUOUS_BERNOULLI),
        "data-centric, sigmoid": (refitted(BERNOULLI), BERNOULLI),
    }


def classifications(recipe: GPRecipe, seed: int) -> Metrics:
    """Return the metrics of the classifiers, and of one whose amplitude has the highest evidence."""
    kernel, y, rows = split("breast cancer", recipe.labeled, seed)
    prior = Belief.prior(recipe.amplitude * kernel)
    found = distilled_classifiers(prior, rows, y[rows], recipe.steps)
    own = kernel[np.ix_(rows, rows)]
    best = minimize_scalar(lambda log: -laplace(np.exp(log) * own, y[rows]).log_evidence, bounds=(-3, 8))
    tuned = Belief.prior(np.exp(best.x) * kernel).classify(rows, y[rows])
    found["amplitude of the highest evidence"] = (tuned, BERNOULLI)
    first = found["first fit"][0]
    return {f"labels: {name}": classification_metrics(one, y, rows, first) for name, one in found.items()}


class GPSelfDistillation(System[GPRecipe]):
    """Both kinds of self-distillation from a noise or a prior that is wrong, against the first fit and a tuned one."""

    name = "gp_self_distillation"
    title = "Self-distillation for Gaussian process regression and classification"
    paper = "Borup and Andersen, 2023, arXiv 2304.02641"
    claim = (
        "Refitting to predictions helps a Gaussian process whose noise is too small and hurts one whose noise is too "
        "large; conditioning again on the same data does the opposite, and corrects an under-confident classifier."
    )
    claims = (
        lower("mse", "small noise: data-centric", "small noise: first fit").says(
            "If the noise is too small, refitting to predictions lowers the error."
        ),
        higher("mse", "small noise: distribution-centric", "small noise: first fit").says(
            "If the noise is too small, conditioning again raises the error."
        ),
        higher("mse", "large noise: data-centric", "large noise: first fit").says(
            "If the noise is too large, refitting to predictions raises the error."
        ),
        lower("mse", "large noise: distribution-centric", "large noise: first fit").says(
            "If the noise is too large, conditioning again lowers the error."
        ),
        lower("nll", "labels: repeated data", "labels: first fit").says(
            "Conditioning a classifier again on the same labels lowers its negative log-likelihood."
        ),
        lower("nll", "labels: repeated data", "labels: scaled kernel", required=False).says(
            "Repeated data give a lower negative log-likelihood than a scaled kernel."
        ),
        lower("nll", "labels: data-centric", "labels: first fit", required=False).says(
            "Refitting a classifier to its own probabilities lowers its negative log-likelihood."
        ),
        lower("mse", "small noise: data-centric", "noise of the highest evidence", required=False).says(
            "Refitting to predictions gives a lower error than the noise with the highest evidence."
        ),
        lower("nll", "labels: repeated data", "labels: amplitude of the highest evidence", required=False).says(
            "Repeated data give a lower negative log-likelihood than the amplitude with the highest evidence."
        ),
    )
    notes = (
        "For regression, conditioning t times is one fit with the noise divided by t: a gain shows that the noise was "
        "too large, not that distillation is better than tuning.",
        "A scaled kernel decides as repeated data do, at every point; it is less sure.",
    )
    recipe = GPRecipe()

    @override
    def run(self, seed: int, recipe: GPRecipe) -> Metrics:
        return {**regressions(recipe, seed), **classifications(recipe, seed)}


EXPERIMENT = GPSelfDistillation().experiment()
