"""Gradients through a categorical choice: the Concrete relaxation against the score function and the exact gradient.

Maddison, Mnih, Teh, The Concrete Distribution (ICLR 2017, arXiv 1611.00712); Jang, Gu, Poole, Categorical
Reparameterization with Gumbel-Softmax (ICLR 2017, arXiv 1611.01144). The distribution is in ``policykd.relaxed``. A
categorical distribution over a few outcomes learns to avoid cost; its exact gradient ``p (c - p.c)`` is known.

Departures: the papers train networks with discrete units; here one choice is trained, whose gradient has a closed form.
With a cost that is linear in the one-hot vector, the straight-through and the relaxed gradient are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale
from policykd.kd.experiments.system import System, higher, lower
from policykd.plain import Limits, check_limits
from policykd.relaxed import concrete_log_sample, gumbel_noise, straight_through
from policykd.seeding import generator, integer_seed

Estimator = Callable[[Tensor, Tensor, Generator], Tensor]
"""``(logits (S, K), cost (K,), generator) -> one gradient per row (S, K)``."""


@dataclass(frozen=True)
class ConcreteRecipe:
    """A choice with a known cost, its estimators of the gradient, and the descent along them.

    Attributes:
        outcomes: Number of outcomes K.
        temperatures: Temperatures of the relaxation, ascending; the claims compare the first with the last, and the
            descent uses the one in the middle.
        gradients: Sampled gradients for bias and variance.
        runs: Descents per estimator.
        batch: Sampled gradients that a step of a descent averages.
        rate: Step size of the descents.
        most_steps: Steps after which a descent ends.
        mass: Probability of the best outcome at which a descent has arrived.

    Raises:
        ConfigError: A field is out of range.
    """

    outcomes: Annotated[int, Limits(2, 1000)] = 5
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 10.0)
    gradients: Annotated[int, Limits(100, 10**7)] = 200_000
    runs: Annotated[int, Limits(1, 10_000)] = 100
    batch: Annotated[int, Limits(1, 10_000)] = 8
    rate: Scale = 0.5
    most_steps: Annotated[int, Limits(1, 10**6)] = 3000
    mass: Annotated[float, Limits(0.01, 0.9999)] = 0.99

    def __post_init__(self) -> None:
        check_limits(self)
        rising = list(self.temperatures) == sorted(set(self.temperatures))
        if len(self.temperatures) < 2 or not rising or self.temperatures[0] <= 0:
            raise ConfigError(f"temperatures must be at least two ascending numbers above 0, got {self.temperatures}")


def exact_gradient(logits: Tensor, cost: Tensor) -> Tensor:
    """Return the gradient ``p (c - p.c)`` of the expected cost with respect to logits ``(S, K)``."""
    p = logits.softmax(-1)
    return p * (cost - (p * cost).sum(-1, keepdim=True))


def relaxed_gradient(logits: Tensor, cost: Tensor, rng: Generator, *, temperature: float) -> Tensor:
    """Return gradients ``(S, K)`` through straight-through Concrete samples, one per row of the logits."""
    leaf = logits.detach().requires_grad_(True)
    noise = gumbel_noise(tuple(logits.shape), generator=rng, dtype=logits.dtype)
    with torch.enable_grad():
        soft = concrete_log_sample(leaf, noise, temperature=temperature).exp()
        (found,) = torch.autograd.grad((straight_through(soft) @ cost).sum(), leaf)
    return found


def score_gradient(logits: Tensor, cost: Tensor, rng: Generator, *, baseline: bool) -> Tensor:
    """Return score-function gradients ``(c_k - b)(e_k - p)``, unbiased; the baseline b is the expected cost ``p.c``."""
    p = logits.softmax(-1)
    drawn = torch.multinomial(p, 1, generator=rng)[:, 0]
    value = cost[drawn] - ((p * cost).sum(-1) if baseline else 0.0)
    return value[:, None] * (F.one_hot(drawn, p.shape[-1]).to(p) - p)


def estimators(recipe: ConcreteRecipe) -> dict[str, Estimator]:
    """Return the estimators by the names of their arms."""

    def relaxed(temperature: float) -> Estimator:
        return lambda logits, cost, rng: relaxed_gradient(logits, cost, rng, temperature=temperature)

    def score(baseline: bool) -> Estimator:
        return lambda logits, cost, rng: score_gradient(logits, cost, rng, baseline=baseline)

    places = {0: "lowest", len(recipe.temperatures) // 2: "middle", len(recipe.temperatures) - 1: "highest"}
    names = [places.get(place, f"{heat:g}") for place, heat in enumerate(recipe.temperatures)]
    found = {f"temperature {name}": relaxed(heat) for name, heat in zip(names, recipe.temperatures, strict=True)}
    return found | {"score function": score(False), "score function, baseline": score(True)}


def errors(gradients: Tensor, exact: Tensor) -> dict[str, float]:
    """Return bias and standard deviation of sampled gradients ``(S, K)``, relative to the exact gradient ``(K,)``."""
    size, mean = exact.norm(), gradients.mean(0)
    spread = (gradients - mean).square().sum(-1).mean().sqrt()
    return {"bias": float((mean - exact).norm() / size), "deviation": float(spread / size)}


def steps_to_mass(estimate: Estimator, cost: Tensor, recipe: ConcreteRecipe, rng: Generator) -> dict[str, float]:
    """Return the mean steps of the descents to the mass on the best outcome, and the share that arrived in time."""
    logits = torch.zeros(recipe.runs, len(cost), dtype=cost.dtype)
    steps, best = torch.full((recipe.runs,), float(recipe.most_steps)), int(cost.argmin())
    for step in range(recipe.most_steps):
        arrived = logits.softmax(-1)[:, best] >= recipe.mass
        steps = torch.where(arrived, steps.clamp_max(float(step)), steps)
        if bool((steps <= step).all()):
            break
        rows = logits.repeat_interleave(recipe.batch, 0)
        gradient = estimate(rows, cost, rng).unflatten(0, (recipe.runs, recipe.batch)).mean(1)
        logits = logits - recipe.rate * gradient
    return {"steps": float(steps.mean()), "arrived": float((steps < recipe.most_steps).double().mean())}


_LOW, _HIGH = "temperature lowest", "temperature highest"


class ConcreteDistribution(System[ConcreteRecipe]):
    """Relaxed gradients at every temperature and score-function gradients, at one random choice and cost per seed."""

    name = "concrete_distribution"
    title = "The Concrete distribution: gradients through a categorical choice"
    paper = "Maddison, Mnih, Teh, ICLR 2017, arXiv 1611.00712; Jang, Gu, Poole, ICLR 2017, arXiv 1611.01144"
    claim = (
        "A higher temperature of the relaxation gives gradients with less variance and more bias, and relaxed "
        "gradients learn a choice in fewer steps than the score function."
    )
    claims = (
        lower("deviation", _HIGH, _LOW).says("Gradients at the highest temperature vary less than at the lowest."),
        higher("bias", _HIGH, _LOW).says("Gradients at the highest temperature have more bias than at the lowest."),
        lower("deviation", "temperature middle", "score function").says(
            "Gradients at the middle temperature vary less than those of the score function."
        ),
        lower("steps", "temperature middle", "score function").says(
            "Descents at the middle temperature need fewer steps than those of the score function."
        ),
        lower("deviation", _LOW, "score function, baseline", required=False).says(
            "Even gradients at the lowest temperature vary less than those of the score function with a baseline."
        ),
        lower("steps", "temperature middle", "score function, baseline", required=False).says(
            "Descents at the middle temperature need fewer steps than those of the score function with a baseline."
        ),
        lower("bias", "score function", by=0.02, required=False).says(
            "The score function's bias is below 2 % of the gradient, which is sampling error."
        ),
    )
    notes = (
        "Bias and deviation are relative to the norm of the exact gradient; the bias of an unbiased estimator is its "
        "sampling error.",
        "The baseline is the exact expected cost, which a user would have to estimate.",
    )
    recipe = ConcreteRecipe()

    @override
    def run(self, seed: int, recipe: ConcreteRecipe) -> Metrics:
        rng = generator(seed, "concrete_distribution", "choice")
        cost = torch.from_numpy(rng.uniform(0.0, 1.0, recipe.outcomes))
        logits = torch.from_numpy(rng.normal(size=recipe.outcomes))
        exact, found = exact_gradient(logits[None], cost)[0], {}
        for name, estimate in estimators(recipe).items():
            draws = torch.Generator().manual_seed(integer_seed(seed, "concrete_distribution", "draws"))
            gradients = estimate(logits.expand(recipe.gradients, -1), cost, draws)
            found[name] = errors(gradients, exact) | steps_to_mass(estimate, cost, recipe, draws)
        straight = steps_to_mass(lambda z, c, _: exact_gradient(z, c), cost, recipe, torch.Generator())
        return {"exact gradient": {"bias": 0.0, "deviation": 0.0} | straight} | found


EXPERIMENT = ConcreteDistribution().experiment()
