"""DBSN: a network whose structure is random, learned together with its weights by variational inference.

Deng, Luo, Zhu, Zhang, Measuring Uncertainty through Bayesian Learning of Deep Neural Network Structure (arXiv
1911.09804). Every edge of a cell mixes candidate operations by a gate on the simplex. Gates follow an adaptive Concrete
distribution (``policykd.relaxed``) with learned weights; the prior is the uniform Concrete distribution of the same
temperature. A prediction is the mean over sampled structures.

Departures: one cell on vectors instead of convolutional stages, so operations are linear layers; there are no attacks.
The divergence is the sum over edges; in the published code a broadcast counts the posterior once per pair of edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd import metrics
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, redrawn_labels, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share, Weight
from policykd.kd.experiments.system import System, higher, lower
from policykd.kd.tasks.base import Split
from policykd.kd.training.loop import seeded
from policykd.plain import Limits, check_limits
from policykd.relaxed import Annealing, concrete_log_sample, exp_concrete_log_density, gumbel_noise
from policykd.seeding import generator, integer_seed
from policykd.torch_seeding import seed_torch

OPERATIONS = 4
"""Candidate operations of an edge: nothing, identity, linear after a ReLU, linear after a tanh."""

HEAT = Annealing(3.0, 1.0, 2e-3)
"""Temperature of gates over the steps."""


@dataclass(frozen=True)
class DBSNRecipe:
    """A cell on few digits with wrong labels, its gates, and their schedules.

    Attributes:
        shares: Shares of the digits for training and testing.
        samples: Digits that the networks learn from.
        label_noise: Share of their labels that are redrawn.
        nodes: Nodes of the cell L; it has L (L - 1) / 2 edges.
        width: Features of a node.
        train_epochs: Passes over the data.
        batch: Samples per step.
        rate: Learning rate of the weights (SGD, momentum 0.9), divided by ten after 60 % and 80 % of the epochs; a
            fifth of the published one, at which this small cell over-fits within a few epochs.
        decay: Weight decay.
        gate_rate: Learning rate of the gates' weights (Adam).
        clip: Largest norm of the weights' gradient.
        heat: Temperature of gates over the steps.
        lowest_scale: Smallest scale of the gates' noise; it falls from 1 by 0.01 per epoch.
        dropout: Probability of the dropout baseline.
        draws: Structures behind a prediction.

    Raises:
        ConfigError: A field is out of range.
    """

    shares: tuple[float, ...] = (0.445, 0.555)
    samples: Annotated[int, Limits(20, 700)] = 400
    label_noise: Share = 0.1
    nodes: Annotated[int, Limits(2, 20)] = 4
    width: Annotated[int, Limits(1, 1000)] = 32
    train_epochs: Annotated[int, Limits(1, 10_000)] = 100
    batch: Annotated[int, Limits(2, 10_000)] = 50
    rate: Scale = 0.02
    decay: Weight = 1e-4
    gate_rate: Scale = 3e-3
    clip: Scale = 5.0
    heat: Annealing = HEAT
    lowest_scale: Annotated[float, Limits(1e-3, 1.0)] = 0.5
    dropout: Annotated[float, Limits(0.0, 0.99)] = 0.2
    draws: Annotated[int, Limits(1, 100_000)] = 100

    def __post_init__(self) -> None:
        check_limits(self)
        check_range("batch", self.batch, 2, self.samples)
        if len(self.shares) != 2 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise ConfigError(f"shares must be two shares that sum to 1, got {self.shares}")

    @property
    def edges(self) -> int:
        """Edges of the cell E."""
        return self.nodes * (self.nodes - 1) // 2


class GatedCell(nn.Module):
    """A classifier with one cell: ``N_j = F_j + sum_{i<j} sum_k gate_k o_k(N_i)``, read out from input and all nodes.

    Operations end in a batch normalization without scale and shift, so that none can rescale itself past its gate.

    Args:
        nodes: Nodes of the cell.
        width: Features of a node.
        dropout: Dropout of every node.
    """

    def __init__(self, nodes: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.nodes, edges = nodes, nodes * (nodes - 1) // 2
        self.stem = nn.Linear(PIXELS, width)
        self.split = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, nodes * width))
        self.identity = nn.ModuleList(nn.BatchNorm1d(width, affine=False) for _ in range(edges))
        self.relu = nn.ModuleList(_operation(nn.ReLU(), width) for _ in range(edges))
        self.tanh = nn.ModuleList(_operation(nn.Tanh(), width) for _ in range(edges))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear((nodes + 1) * width, CLASSES)

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        """Map inputs ``(B, 64)`` under gates ``(E, K)`` to logits ``(B, 10)``."""
        first = self.stem(x)
        features = self.split(first).chunk(self.nodes, 1)
        made = [self.drop(features[0])]
        edge = 0
        for place in range(1, self.nodes):
            total = features[place]
            for before in made:
                kept = gates[edge]  # entry 0 is the gate of nothing
                total = total + kept[1] * self.identity[edge](before)
                total = total + kept[2] * self.relu[edge](before) + kept[3] * self.tanh[edge](before)
                edge += 1
            made.append(self.drop(total))
        return self.head(torch.cat([first, *made], 1))


def _operation(activation: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(activation, nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=False))


def gate_divergence(log_gates: Tensor, weights: Tensor, *, temperature: float, noise_scale: float) -> Tensor:
    """Return ``log q - log p`` of sampled gates, summed over edges; p is the uniform Concrete distribution.

    Args:
        log_gates: Logarithms of the gates ``(E, K)``.
        weights: Log-weights of the posterior ``(E, K)``.
        temperature: Temperature of both.
        noise_scale: Scale of the posterior's noise; 1 for the prior.
    """
    own = exp_concrete_log_density(log_gates, weights, temperature=temperature, noise_scale=noise_scale)
    prior = exp_concrete_log_density(log_gates, torch.zeros_like(weights), temperature=temperature)
    return (own - prior).sum()


@dataclass
class Structure:
    """The gates of a network: fixed, learned without noise, drawn from the prior, or from a learned posterior.

    Attributes:
        weights: Log-weights of the gates ``(E, K)``.
        learned: Whether they are trained.
        noisy: Whether gates are drawn.
        scale: Scale of the noise.
        heat: Temperature.
    """

    weights: Tensor
    learned: bool
    noisy: bool
    scale: float = 1.0
    heat: float = 1.0

    def draw(self, rng: Generator) -> Tensor:
        """Return the logarithms of gates ``(E, K)``."""
        if not self.noisy:
            return F.log_softmax(self.weights / self.heat, -1)
        noise = gumbel_noise(tuple(self.weights.shape), generator=rng)
        return concrete_log_sample(self.weights, noise, temperature=self.heat, noise_scale=self.scale)

    def divergence(self, log_gates: Tensor) -> Tensor:
        """Return the divergence from the prior; 0 unless the gates have a learned distribution."""
        if not (self.learned and self.noisy):
            return torch.zeros(())
        return gate_divergence(log_gates, self.weights, temperature=self.heat, noise_scale=self.scale)


def train(
    network: GatedCell, structure: Structure, data: Split, recipe: DBSNRecipe, seed: int, *, fall: bool = True
) -> None:
    """Train weights and gates together, in place; one structure is drawn per step.

    Args:
        network: The network.
        structure: Its gates.
        data: Training samples.
        recipe: Optimizers and schedules.
        seed: The cell's seed.
        fall: Whether the scale of the noise falls; a posterior's does, the prior's does not.
    """
    weights = torch.optim.SGD(network.parameters(), lr=recipe.rate, momentum=0.9, weight_decay=recipe.decay)
    steps = torch.optim.lr_scheduler.MultiStepLR(
        weights, [int(share * recipe.train_epochs) for share in (0.6, 0.8)], gamma=0.1
    )
    structure.weights.requires_grad_(structure.learned)
    gates = torch.optim.Adam([structure.weights], lr=recipe.gate_rate, betas=(0.5, 0.999))
    order, rng, step = generator(seed, "dbsn", "order"), _noise(seed, "training"), 0
    network.train()
    for epoch in range(recipe.train_epochs):
        structure.scale = max(1.0 - 0.01 * epoch, recipe.lowest_scale) if fall else 1.0
        rows = torch.from_numpy(order.permutation(len(data))).split(recipe.batch)
        for index in (part for part in rows if len(part) > 1):
            structure.heat = recipe.heat(step)
            log_gates = structure.draw(rng)
            loss = F.cross_entropy(network(data.x[index], log_gates.exp()), data.y[index])
            weights.zero_grad()
            gates.zero_grad()
            (loss + structure.divergence(log_gates) / len(data)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            weights.step()
            if structure.learned:
                gates.step()
            step += 1
        steps.step()
    structure.weights.requires_grad_(False)
    structure.heat = recipe.heat.low


@torch.no_grad()
def predict(network: GatedCell, structure: Structure, x: Tensor, *, draws: int, rng: Generator) -> Tensor:
    """Return the log of the mean probabilities ``(N, C)`` over drawn structures, and over dropout if there is any."""
    network.eval()
    network.drop.train()
    each = [F.log_softmax(network(x, structure.draw(rng).exp()), 1) for _ in range(draws)]
    return log_mean_exp(torch.stack(each))


def log_mean_exp(values: Tensor) -> Tensor:
    """Return ``log mean exp`` over the first dimension, in float64."""
    return values.double().logsumexp(0) - torch.tensor(float(len(values))).double().log()


def _noise(seed: int, purpose: str) -> Generator:
    return torch.Generator().manual_seed(integer_seed(seed, "dbsn", purpose))


def uncertainty(known: Tensor, labels: Tensor, foreign: Tensor) -> dict[str, float]:
    """Return error, calibration, likelihood, entropies and how well entropy tells foreign inputs, of log-probabilities.

    Args:
        known: Log-probabilities of test samples ``(N, C)``.
        labels: Their labels ``(N,)``.
        foreign: Log-probabilities of inputs that are not of any class ``(M, C)``.
    """
    from sklearn.metrics import roc_auc_score

    inside, outside = (-(part.exp() * part).sum(1) for part in (known, foreign))
    truth = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))])
    return {
        "error": 1.0 - metrics.accuracy(known, labels),
        "ece": metrics.ece(known, labels),
        "nll": metrics.nll(known, labels),
        "entropy": float(inside.mean()),
        "entropy of noise": float(outside.mean()),
        "auroc of noise": float(roc_auc_score(truth, torch.cat([inside, outside]))),
    }


class DBSN(System[DBSNRecipe]):
    """One cell with learned random gates, and the same cell with fixed, learned, random gates or dropout."""

    name = "dbsn"
    title = "Deep Bayesian structure networks"
    paper = "Deng, Luo, Zhu, Zhang, 2019, arXiv 1911.09804"
    claim = "Averaging over learned random structures calibrates a network better than one structure does."
    claims = (
        *(
            lower(metric, "DBSN", arm).says(f"DBSN has a lower {name} than a network with {gates}.")
            for arm, gates in (("fixed gates", "fixed gates"), ("point estimate", "learned gates without noise"))
            for metric, name in (("ece", "calibration error"), ("nll", "negative log-likelihood"))
        ),
        lower("error", "DBSN", "fixed gates", by=0.01, required=False).says(
            "DBSN's error is at most 1 point above that of fixed gates."
        ),
        lower("nll", "DBSN", "random gates", required=False).says(
            "DBSN has a lower negative log-likelihood than gates drawn from the prior: learning the gates helps."
        ),
        lower("nll", "DBSN", "dropout", required=False).says(
            "DBSN has a lower negative log-likelihood than dropout with as many draws."
        ),
        lower("ece", "DBSN", "single draw", required=False).says(
            "The mean over structures has a lower calibration error than a single structure."
        ),
        higher("auroc of noise", "DBSN", "fixed gates", required=False).says(
            "DBSN's entropy tells uniform noise from digits better than that of fixed gates."
        ),
    )
    notes = ("One cell on 8 x 8 digits; the paper's cells are convolutional and stacked, on natural images.",)
    recipe = DBSNRecipe()

    @override
    def run(self, seed: int, recipe: DBSNRecipe) -> Metrics:
        train_part, test = digits_rows(seed, recipe.shares)
        data = some(train_part, recipe.samples, seed)
        data = Split(data.x, redrawn_labels(data.y, recipe.label_noise, seed=seed, purpose="dbsn"))
        noise = torch.rand(len(test), PIXELS, generator=_noise(seed, "foreign inputs"))
        learned = 1e-3 * torch.randn(recipe.edges, OPERATIONS, generator=_noise(seed, "gates"))
        kinds: dict[str, Callable[[], Structure]] = {
            "fixed gates": lambda: Structure(torch.zeros_like(learned), learned=False, noisy=False),
            "point estimate": lambda: Structure(learned.clone(), learned=True, noisy=False),
            "random gates": lambda: Structure(torch.zeros_like(learned), learned=False, noisy=True),
            "dropout": lambda: Structure(torch.zeros_like(learned), learned=False, noisy=False),
            "DBSN": lambda: Structure(learned.clone(), learned=True, noisy=True),
        }
        found = {}
        for name, make in kinds.items():
            structure, drop = make(), recipe.dropout if name == "dropout" else 0.0
            network = seeded(partial(GatedCell, recipe.nodes, recipe.width, dropout=drop), seed, "dbsn")
            seed_torch(integer_seed(seed, "dbsn", "dropout"))  # the runner gives every cell a state of its own
            train(network, structure, data, recipe, seed, fall=name == "DBSN")
            draws = {name: recipe.draws if structure.noisy or drop else 1}
            if name == "DBSN":
                draws["single draw"] = 1
            for arm, count in draws.items():
                known, foreign = (
                    predict(network, structure, x, draws=count, rng=_noise(seed, arm)) for x in (test.x, noise)
                )
                found[arm] = uncertainty(known, test.y, foreign)
        return found


EXPERIMENT = DBSN().experiment()
