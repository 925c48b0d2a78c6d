"""NURD: prediction without a nuisance whose correlation with the label changes between training and test.

Puli, Zhang, Oermann, Ranganath, Out-of-distribution Generalization in the Presence of Nuisance-Induced Spurious
Correlations (ICLR 2022, arXiv 2107.00520). First label and nuisance are made independent: by weights from a
cross-fitted model of the label given the nuisance, or by a generator of inputs whose nuisance is exchanged. Then a
representation is distilled that predicts the label and, with the label, shares no information with the nuisance; a
critic measures it (``policykd.kd.density_ratios``).

The task is the published one: ``z | y ~ N(a (2y - 1), 1)``, ``x = (y - z + 3 e, y + z + 0.1 e')``; the correlation a is
0.5 in training and -0.9 at the test. The uncorrelating representation ``x1 + x2`` is right for 63.05 % at every a.

Departures: fewer samples and epochs; the model of the label is a logistic regression, which is its true form here; the
critic reads the nuisance itself instead of a learned summary of one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd.density_ratios import (
    Critic,
    critic_loss,
    cross_fitted,
    effective_samples,
    independence_weights,
    information,
)
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Weight
from policykd.kd.experiments.system import System, higher
from policykd.kd.training.loop import seeded
from policykd.plain import Limits, check_limits
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class NURDRecipe:
    """The synthetic task and the training of predictor, representation and critic.

    Attributes:
        samples: Training samples; a fifth of them chooses the epoch.
        test_samples: Test samples per correlation.
        correlation: Correlation a in training.
        other: Correlation at the test.
        weight: lambda, weight of the information.
        train_epochs: Passes over the data.
        batch: Samples per step.
        rate: Learning rate of all networks (Adam).
        critic_epochs: Critic steps between two steps of the predictor, in passes over the data.
        folds: Folds of the model of the label.
        density_epochs: Epochs of the generator of inputs.

    Raises:
        ConfigError: A field is out of range.
    """

    samples: Annotated[int, Limits(100, 10**6)] = 5000
    test_samples: Annotated[int, Limits(10, 10**6)] = 4000
    correlation: Annotated[float, Limits(-10, 10)] = 0.5
    other: Annotated[float, Limits(-10, 10)] = -0.9
    weight: Weight = 1.0
    train_epochs: Annotated[int, Limits(1, 10_000)] = 40
    batch: Annotated[int, Limits(10, 10**6)] = 500
    rate: Scale = 0.01
    critic_epochs: Annotated[float, Limits(0.01, 100)] = 2.0
    folds: Annotated[int, Limits(2, 50)] = 5
    density_epochs: Annotated[int, Limits(1, 10_000)] = 60

    def __post_init__(self) -> None:
        check_limits(self)
        check_range("batch", self.batch, 10, self.samples // 5)


@dataclass(frozen=True)
class Rows:
    """Inputs ``(N, 2)``, labels ``(N,)``, nuisances ``(N, 1)`` and weights ``(N,)``."""

    x: Tensor
    y: Tensor
    z: Tensor
    weights: Tensor

    def take(self, index: Tensor) -> Rows:
        """Return the samples at these positions."""
        return Rows(self.x[index], self.y[index], self.z[index], self.weights[index])


def draw_rows(count: int, correlation: float, rng: np.random.Generator) -> Rows:
    """Generate samples of the synthetic task; equal generators give equal labels and noise at every correlation."""
    y = rng.integers(0, 2, count)
    z = correlation * (2 * y - 1) + rng.normal(size=count)
    x = np.stack([y - z + 3.0 * rng.normal(size=count), y + z + 0.1 * rng.normal(size=count)], 1)
    return Rows(
        torch.from_numpy(x).float(), torch.from_numpy(y), torch.from_numpy(z[:, None]).float(), torch.ones(count)
    )


def logistic(z: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the probabilities of a logistic regression of labels on nuisances."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1e3).fit(z, y).predict_proba


class Predictor(nn.Module):
    """A representation of one number and a linear readout of the label."""

    def __init__(self) -> None:
        super().__init__()
        self.represent = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1, bias=False))
        self.read = nn.Linear(1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, 2)`` to logits ``(B, 2)``."""
        return self.read(self.represent(x))


class GaussianInputs(nn.Module):
    """Mean and deviation of inputs given label and nuisance: the generator's density."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale = (nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)) for _ in range(2))

    def forward(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map labels ``(B,)`` and nuisances ``(B, 1)`` to means and deviations ``(B, 2)``."""
        given = torch.cat([y[:, None].to(z), z], 1)
        return self.mean(given), F.softplus(self.scale(given)) + 1e-3


class Cell:
    """One seed: data, weights, a generator of inputs, and the training of a representation.

    Args:
        seed: The seed.
        recipe: The configuration.
    """

    def __init__(self, seed: int, recipe: NURDRecipe) -> None:
        self.seed, self.recipe = seed, recipe
        whole = draw_rows(recipe.samples, recipe.correlation, generator(seed, "nurd", "training"))
        order = torch.from_numpy(generator(seed, "nurd", "split").permutation(recipe.samples))
        cut = recipe.samples // 5
        self.train, self.held_out = whole.take(order[cut:]), whole.take(order[:cut])

    def draws(self, purpose: str) -> Generator:
        """Return torch's generator of a purpose."""
        return torch.Generator().manual_seed(integer_seed(self.seed, "nurd", purpose))

    def weighted(self, rows: Rows) -> Rows:
        """Return the samples with cross-fitted weights that make label and nuisance independent."""
        y, rng = rows.y.numpy(), generator(self.seed, "nurd", "folds")
        found = cross_fitted(logistic, rows.z.numpy(), y, folds=self.recipe.folds, rng=rng)
        return Rows(rows.x, rows.y, rows.z, torch.from_numpy(independence_weights(found, y) * len(y)).float())

    def generated(self) -> Callable[[Rows, str], Rows]:
        """Return a function that exchanges the nuisances of samples and draws their inputs again."""
        model = seeded(GaussianInputs, self.seed, "nurd", "density")
        optimizer, order = torch.optim.Adam(model.parameters(), lr=self.recipe.rate), self.draws("density")
        for _ in range(self.recipe.density_epochs):
            for index in torch.randperm(len(self.train.y), generator=order).split(self.recipe.batch):
                batch = self.train.take(index)
                mean, scale = model(batch.y, batch.z)
                optimizer.zero_grad()
                (0.5 * ((batch.x - mean) / scale).square() + scale.log()).sum(1).mean().backward()
                optimizer.step()

        @torch.no_grad()
        def exchange(rows: Rows, purpose: str) -> Rows:
            draws = self.draws(purpose)
            z = rows.z[torch.randperm(len(rows.z), generator=draws)]
            mean, scale = model(rows.y, z)
            return Rows(mean + scale * torch.randn(mean.shape, generator=draws), rows.y, z, torch.ones(len(z)))

        return exchange

    def distilled(self, train: Rows, held_out: Rows, *, weight: float) -> Predictor:
        """Return the predictor of the epoch with the lowest weighted loss on held-out samples.

        Args:
            train: Weighted samples.
            held_out: Weighted samples that choose the epoch.
            weight: lambda; 0 leaves the critic out.
        """
        model = seeded(Predictor, self.seed, "nurd", "predictor")
        critic = seeded(lambda: Critic(1, 1), self.seed, "nurd", "critic")
        optimizer = torch.optim.Adam(model.parameters(), lr=self.recipe.rate)
        teacher = torch.optim.Adam(critic.parameters(), lr=self.recipe.rate)
        order, exchange, size = self.draws("order"), self.draws("exchange"), self.recipe.batch
        steps = max(1, round(self.recipe.critic_epochs * len(train.y) / size)) if weight else 0
        best, kept = float("inf"), model.state_dict()
        for _ in range(self.recipe.train_epochs):
            for index in torch.randperm(len(train.y), generator=order).split(size):
                optimizer.zero_grad()
                distillation_loss(model, critic, train.take(index), weight).backward()
                optimizer.step()
                self._teach(critic, teacher, model, train, steps, exchange)
            with torch.no_grad():
                value = float(distillation_loss(model, critic, held_out, weight))
            if value < best:
                best, kept = value, {name: part.clone() for name, part in model.state_dict().items()}
        model.load_state_dict(kept)
        return model.eval()

    def _teach(
        self,
        critic: Critic,
        optimizer: torch.optim.Optimizer,
        model: Predictor,
        rows: Rows,
        steps: int,
        draws: Generator,
    ) -> None:
        """Train a critic on random batches, the representation being frozen."""
        with torch.no_grad():
            represented = model.represent(rows.x)
        for _ in range(steps):
            index = torch.randint(len(rows.y), (self.recipe.batch,), generator=draws)
            optimizer.zero_grad()
            parts = represented[index], rows.y[index], rows.z[index], rows.weights[index]
            critic_loss(critic, *parts, generator=draws).backward()
            optimizer.step()

    def shared_information(self, model: Predictor, train: Rows, held_out: Rows) -> float:
        """Return the information that a new critic finds between (representation, label) and nuisance, nats."""
        critic = seeded(lambda: Critic(1, 1), self.seed, "nurd", "last critic")
        optimizer = torch.optim.Adam(critic.parameters(), lr=self.recipe.rate)
        self._teach(
            critic, optimizer, model, train, 20 * (len(train.y) // self.recipe.batch), self.draws("last critic")
        )
        with torch.no_grad():
            parts = model.represent(held_out.x), held_out.y, held_out.z, held_out.weights
            return float(information(critic, *parts))

    def figures(self, decide: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the accuracy of decisions at the training's, at no, and at the test's correlation, and its range."""
        found = {}
        for name, a in (("training", self.recipe.correlation), ("none", 0.0), ("test", self.recipe.other)):
            rows = draw_rows(self.recipe.test_samples, a, generator(self.seed, "nurd", "testing"))
            found[f"accuracy, {name}"] = float((decide(rows.x) == rows.y).double().mean())
        return found | {"range": max(found.values()) - min(found.values())}


def decisions(model: nn.Module, x: Tensor) -> Tensor:
    """Return the labels ``(B,)`` that a network decides for."""
    return model(x).argmax(1)


def distillation_loss(model: Predictor, critic: Critic, rows: Rows, weight: float) -> Tensor:
    """Return the weighted cross-entropy plus ``weight`` times the absolute value of the estimated information."""
    represented, share = model.represent(rows.x), rows.weights / rows.weights.sum()
    loss = (share * F.cross_entropy(model.read(represented), rows.y, reduction="none")).sum()
    return loss + weight * information(critic, represented, rows.y, rows.z, rows.weights).abs() if weight else loss


_TEST = "accuracy, test"


class NURD(System[NURDRecipe]):
    """Plain training, randomization alone, and both kinds of NURD, with the best rule that ignores the nuisance."""

    name = "nurd"
    title = "Nuisance-randomized distillation"
    paper = "Puli, Zhang, Oermann, Ranganath, ICLR 2022, arXiv 2107.00520"
    claim = (
        "Where the correlation between label and nuisance is reversed at the test, randomizing the nuisance does not "
        "suffice, and distilling a representation without information on it does."
    )
    claims = (
        higher(_TEST, "NURD, weights", "plain").says(
            "NURD with weights is more accurate at the test than plain training."
        ),
        higher(_TEST, "NURD, weights", "weights alone").says(
            "NURD with weights is more accurate at the test than weights without the information term."
        ),
        higher(_TEST, "NURD, generated", "plain").says(
            "NURD with generated inputs is more accurate at the test than plain training."
        ),
        higher(_TEST, "NURD, weights", "plain", by=0.15, required=False).says(
            "NURD with weights is at least 15 points more accurate at the test than plain training."
        ),
        higher(_TEST, "NURD, weights", by=0.55, required=False).says("NURD with weights is above 55 % at the test."),
        higher(_TEST, "NURD, weights", "best rule without nuisance", by=-0.05, required=False).says(
            "NURD with weights is at most 5 points below the best rule that ignores the nuisance."
        ),
    )
    notes = ("Choosing the epoch uses weighted held-out samples of the training's correlation alone.",)
    recipe = NURDRecipe()

    @override
    def run(self, seed: int, recipe: NURDRecipe) -> Metrics:
        cell = Cell(seed, recipe)
        plain = cell.train, cell.held_out
        weighted = cell.weighted(cell.train), cell.weighted(cell.held_out)
        exchange = cell.generated()
        made = exchange(cell.train, "train"), exchange(cell.held_out, "held out")
        arms = {
            "plain": (plain, 0.0),
            "weights alone": (weighted, 0.0),
            "NURD, weights": (weighted, recipe.weight),
            "NURD, generated": (made, recipe.weight),
        }
        found: dict[str, dict[str, float]] = {}
        for name, (data, weight) in arms.items():
            model = cell.distilled(*data, weight=weight)
            used = effective_samples(data[0].weights.numpy().astype(float)) / len(data[0].y)
            found[name] = cell.figures(partial(decisions, model)) | {
                "information": cell.shared_information(model, *weighted),
                "effective samples": used,
            }
        found["best rule without nuisance"] = cell.figures(lambda x: (x.sum(1) > 1.0).long())
        found["always one label"] = cell.figures(lambda x: torch.zeros(len(x), dtype=torch.long))
        return found


EXPERIMENT = NURD().experiment()
