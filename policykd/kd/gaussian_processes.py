"""Gaussian processes in closed form: beliefs that condition on numbers, labels or soft labels, again and again.

Dense float64 linear algebra on kernel matrices of up to a few thousand points; kernels and their parameters come from
the caller. Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 3.1 for the Laplace
approximation; Loaiza-Ganem and Cunningham, The Continuous Bernoulli (NeurIPS 2019); repeated conditioning: Borup and
Andersen (2023, arXiv 2304.02641).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit, log_expit

from policykd.errors import ConfigError, ShapeError, check_range

NEWTON_STEPS = 100
NEWTON_TOLERANCE = 1e-10
"""Growth of the objective below which the search of a mode ends."""


class Likelihood(Protocol):
    """A concave log-likelihood of targets in [0, 1] given latent values f of the same shape."""

    def log_density(self, y: np.ndarray, f: np.ndarray) -> np.ndarray:
        """Return ``log p(y | f)``."""
        ...

    def mean(self, f: np.ndarray) -> np.ndarray:
        """Return the mean of y."""
        ...

    def variance(self, f: np.ndarray) -> np.ndarray:
        """Return the variance of y, which is the curvature of ``-log p`` in f."""
        ...


class Bernoulli:
    """Labels 0 and 1 with probability ``sigmoid(f)``; for soft targets the cross-entropy, which is not a density."""

    def log_density(self, y: np.ndarray, f: np.ndarray) -> np.ndarray:
        """Return ``y log sigmoid(f) + (1 - y) log sigmoid(-f)``."""
        return y * log_expit(f) + (1.0 - y) * log_expit(-f)

    def mean(self, f: np.ndarray) -> np.ndarray:
        """Return ``sigmoid(f)``."""
        return expit(f)

    def variance(self, f: np.ndarray) -> np.ndarray:
        """Return ``sigmoid(f) sigmoid(-f)``."""
        return expit(f) * expit(-f)


class ContinuousBernoulli:
    """Targets in [0, 1] with density ``exp(y f) f / (exp(f) - 1)``, a normalized density, unlike :class:`Bernoulli`."""

    def log_density(self, y: np.ndarray, f: np.ndarray) -> np.ndarray:
        """Return ``y f - log((exp(f) - 1) / f)``."""
        size = np.abs(f)
        safe = np.where(size < 1e-3, 1.0, size)
        log_ratio = np.where(size < 1e-3, -size / 2 + size**2 / 24, np.log(-np.expm1(-safe) / safe))
        return y * f - (np.maximum(f, 0.0) + log_ratio)

    def log_normalizer(self, f: np.ndarray) -> np.ndarray:
        """Return ``log C``, by which the density exceeds that of a Bernoulli variable: ``log(f / tanh(f / 2))``."""
        safe = np.where(np.abs(f) < 1e-4, 1.0, f)
        return np.where(np.abs(f) < 1e-4, np.log(2.0) + f**2 / 12, np.log(safe / np.tanh(safe / 2)))

    def mean(self, f: np.ndarray) -> np.ndarray:
        """Return ``1 / (1 - exp(-f)) - 1 / f``, by its series near 0."""
        small = np.abs(f) < 1e-2
        safe = np.where(small, 1.0, f)
        size = np.abs(safe)
        above = 1.0 / -np.expm1(-size) - 1.0 / size
        return np.where(small, 0.5 + f / 12 - f**3 / 720, np.where(safe > 0, above, 1.0 - above))

    def variance(self, f: np.ndarray) -> np.ndarray:
        """Return ``1 / f**2 - 1 / (4 sinh(f / 2)**2)``, by its series near 0."""
        small = np.abs(f) < 5e-2
        size = np.where(small, 1.0, np.abs(f))
        decayed = np.exp(-size)
        return np.where(small, 1 / 12 - f**2 / 240 + f**4 / 6048, 1 / size**2 - decayed / np.expm1(-size) ** 2)


BERNOULLI, CONTINUOUS_BERNOULLI = Bernoulli(), ContinuousBernoulli()


@dataclass(frozen=True)
class Laplace:
    """The Gaussian that touches a posterior at its mode.

    Attributes:
        mode: Latent values at the mode ``(n,)``.
        gradient: Gradient of the log-likelihood there ``(n,)``, repeats included.
        curvature: Negative second derivatives ``(n,)``, repeats included.
        log_evidence: Approximate log marginal likelihood.
    """

    mode: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    log_evidence: float


def laplace(
    covariance: np.ndarray,
    y: np.ndarray,
    *,
    mean: np.ndarray | None = None,
    likelihood: Likelihood = BERNOULLI,
    repeats: float = 1.0,
) -> Laplace:
    """Return the mode of ``repeats log p(y | f) - (f - m)' K^-1 (f - m) / 2`` by Newton steps with halving.

    Args:
        covariance: Prior covariance K ``(n, n)`` of the latent values.
        y: Targets ``(n,)`` in [0, 1].
        mean: Prior mean m ``(n,)``; None for 0.
        likelihood: The likelihood.
        repeats: How often every target counts: t copies of the data set give t.

    Raises:
        ConfigError: Targets are outside [0, 1], or repeats not above 0.
        ShapeError: Shapes do not fit.
    """
    y = np.asarray(y, dtype=float)
    if covariance.shape != (len(y), len(y)):
        raise ShapeError(f"the covariance is {covariance.shape}; {len(y)} targets need ({len(y)}, {len(y)})")
    check_range("targets", float(y.min()), 0.0, 1.0)
    check_range("targets", float(y.max()), 0.0, 1.0)
    check_range("repeats", repeats, 1e-9, 1e9)
    prior = np.zeros(len(y)) if mean is None else mean

    def objective(weights: np.ndarray, f: np.ndarray) -> float:
        return float(repeats * likelihood.log_density(y, f).sum() - 0.5 * weights @ (f - prior))

    weights, f = np.zeros(len(y)), prior.copy()  # weights are K^-1 (f - m)
    value = objective(weights, f)
    for _ in range(NEWTON_STEPS):
        curvature = repeats * likelihood.variance(f)
        root = np.sqrt(curvature)
        factor = cho_factor(np.eye(len(y)) + root[:, None] * covariance * root, lower=True)
        b = curvature * (f - prior) + repeats * (y - likelihood.mean(f))
        step = b - root * cho_solve(factor, root * (covariance @ b)) - weights
        before, size = value, 1.0
        while True:
            tried = weights + size * step
            moved = prior + covariance @ tried
            value = objective(tried, moved)
            if value >= before or size < 1e-6:
                break
            size /= 2
        weights, f = tried, moved
        if value - before < NEWTON_TOLERANCE:
            break
    curvature = repeats * likelihood.variance(f)
    root = np.sqrt(curvature)
    lower, _ = cho_factor(np.eye(len(y)) + root[:, None] * covariance * root, lower=True)
    evidence = value - float(np.log(np.diag(lower)).sum())
    return Laplace(f, repeats * (y - likelihood.mean(f)), curvature, evidence)


@dataclass(frozen=True)
class Belief:
    """A Gaussian over the latent values of points: a prior, or what is known after conditioning.

    Attributes:
        mean: ``(n,)``.
        covariance: ``(n, n)``.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def prior(cls, kernel: np.ndarray) -> Belief:
        """Return the belief with mean 0 and a kernel matrix ``(n, n)`` of all points as its covariance."""
        return cls(np.zeros(len(kernel)), np.asarray(kernel, dtype=float))

    @property
    def variance(self) -> np.ndarray:
        """Variances of the latent values ``(n,)``."""
        return np.diag(self.covariance)

    def observe(self, rows: np.ndarray, y: np.ndarray, noise: float) -> Belief:
        """Return the belief after numbers with Gaussian noise were seen at some points.

        Args:
            rows: Positions of the points ``(k,)``.
            y: The numbers ``(k,)``.
            noise: Variance of the noise.

        Raises:
            ConfigError: The noise is not above 0.
        """
        check_range("noise", noise, 1e-300, 1e300)
        return self._moved(rows, y - self.mean[rows], np.full(len(rows), 1.0 / noise), solve=True)

    def classify(
        self, rows: np.ndarray, y: np.ndarray, *, likelihood: Likelihood = BERNOULLI, repeats: float = 1.0
    ) -> Belief:
        """Return the belief, by the Laplace approximation, after labels or soft labels were seen at some points.

        Args:
            rows: Positions of the points ``(k,)``.
            y: Targets in [0, 1] ``(k,)``.
            likelihood: The likelihood.
            repeats: How often every target counts.

        Raises:
            ConfigError: See :func:`laplace`.
        """
        own = self.covariance[np.ix_(rows, rows)]
        found = laplace(own, y, mean=self.mean[rows], likelihood=likelihood, repeats=repeats)
        return self._moved(rows, found.gradient, found.curvature, solve=False)

    def _moved(self, rows: np.ndarray, change: np.ndarray, precision: np.ndarray, *, solve: bool) -> Belief:
        """Return the belief with precisions added at some points.

        ``change`` is the error of the mean there, to be solved for, or already ``K^-1`` times the shift.
        """
        cross, root = self.covariance[:, rows], np.sqrt(precision)
        gram = np.eye(len(rows)) + root[:, None] * self.covariance[np.ix_(rows, rows)] * root
        lower = np.linalg.cholesky(gram)
        shift = root * cho_solve((lower, True), root * change) if solve else change
        half = solve_triangular(lower, root[:, None] * cross.T, lower=True)
        return Belief(self.mean + cross @ shift, self.covariance - half.T @ half)

    def probabilities(self, likelihood: Likelihood = BERNOULLI, *, nodes: int = 64) -> np.ndarray:
        """Return the mean of y at every point ``(n,)``, ``E[sigmoid(f)]`` for labels, by Gauss-Hermite quadrature."""
        places, weights = np.polynomial.hermite_e.hermegauss(nodes)
        deviation = np.sqrt(np.maximum(self.variance, 0.0))
        return likelihood.mean(self.mean[:, None] + deviation[:, None] * places) @ (weights / weights.sum())


def effective_noise(noises: Sequence[float]) -> float:
    """Return the noise of the one fit that equals repeated fits with these noises to the same numbers: ``1/sum 1/g``.

    Raises:
        ConfigError: There is none, or one is not above 0.
    """
    if not noises or min(noises) <= 0:
        raise ConfigError(f"noises must be at least one number above 0, got {tuple(noises)}")
    return 1.0 / sum(1.0 / noise for noise in noises)


def data_centric_targets(kernel: np.ndarray, y: np.ndarray, noises: Sequence[float]) -> np.ndarray:
    """Return the targets of every step of refitting a regression to its own fit ``(t + 1, n)``, from y on.

    ``y_s = K (K + g_s I)^-1 y_{s-1}``; one eigenvalue decomposition of the kernel matrix without noise serves all.

    Args:
        kernel: K ``(n, n)``.
        y: Targets of the first step ``(n,)``.
        noises: Noise variance of every step.
    """
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    along, found = vectors.T @ y, [np.asarray(y, dtype=float)]
    for noise in noises:
        check_range("noise", noise, 1e-300, 1e300)
        along = along * values / (values + noise)
        found.append(vectors @ along)
    return np.stack(found)


def log_evidence(kernel: np.ndarray, y: np.ndarray, noise: float) -> float:
    """Return the log marginal likelihood of a regression: the log-density of y under ``N(0, K + noise I)``."""
    lower = np.linalg.cholesky(kernel + noise * np.eye(len(y)))
    scaled = solve_triangular(lower, y, lower=True)
    return float(-0.5 * scaled @ scaled - np.log(np.diag(lower)).sum() - 0.5 * len(y) * np.log(2 * np.pi))
