"""Hard alignment of symbols and frames: Bernoulli transitions against binary Concrete ones, under three searches.

Yasuda, Wang, Yamagishi, Effect of Choice of Probability Distribution, Randomness, and Search Methods for Alignment
Modeling in Sequence-to-Sequence Text-to-Speech Synthesis Using Hard Alignment (ICASSP 2020, arXiv 1910.12383). The
likelihood and the searches are in ``policykd.kd.hard_alignment``. A network reads symbols and makes frames; whether a
frame still belongs to the symbol is a latent choice. The Concrete model adds logistic noise to the choice's logit in
training, also in the likelihood; drawing an alignment follows the same rule for both models.

Departures: generated frames on a circle instead of speech, whose durations are known; there is neither dropout in the
pre-net nor a flow, and the temperature is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share, Temperature
from policykd.kd.experiments.system import System, lower
from policykd.kd.hard_alignment import State, alignment_log_likelihood, durations, search_alignments
from policykd.kd.training.loop import seeded
from policykd.plain import Limits, check_limits
from policykd.relaxed import binary_concrete_logit, logistic_noise
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class AlignmentRecipe:
    """Symbols that last for known numbers of frames, and the model that learns them without being told where.

    Attributes:
        base: Frames that each symbol lasts at least; their number is that of the symbols.
        longer: Probability that a symbol lasts one frame longer.
        noise: Standard deviation of the frames.
        length: Symbols in a sequence, without repeats.
        width: Width of embeddings and encoder.
        state: Width of decoder and of the layer that joins both.
        sigma: Standard deviation of the model's emissions.
        temperature: Temperature of the Concrete model.
        train_steps: Optimizer steps of each model.
        batch: Sequences per step.
        rate: Learning rate of Adam.
        clip: Largest norm of the gradient.
        test: Sequences for the metrics.
        beams: Hypotheses of the beam search.
        most_frames: Frames after which a search ends.

    Raises:
        ConfigError: A field is out of range.
    """

    base: tuple[int, ...] = (2, 3, 4, 2, 5, 3)
    longer: Share = 0.15
    noise: Scale = 0.1
    length: Annotated[int, Limits(2, 100)] = 5
    width: Annotated[int, Limits(1, 1000)] = 16
    state: Annotated[int, Limits(1, 1000)] = 48
    sigma: Scale = 0.3
    temperature: Temperature = 1.0
    train_steps: Annotated[int, Limits(1, 10**6)] = 500
    batch: Annotated[int, Limits(1, 10_000)] = 32
    rate: Scale = 3e-3
    clip: Scale = 10.0
    test: Annotated[int, Limits(1, 100_000)] = 300
    beams: Annotated[int, Limits(1, 1000)] = 4
    most_frames: Annotated[int, Limits(2, 10_000)] = 60

    def __post_init__(self) -> None:
        check_limits(self)
        if not self.base or min(self.base) < 1:
            raise ConfigError(f"base must be at least one number of frames above 0, got {self.base}")
        if self.length > len(self.base):
            raise ConfigError(f"length is {self.length}; there are {len(self.base)} symbols and none is repeated")


@dataclass(frozen=True)
class Sequences:
    """Symbols ``(B, I)``, frames ``(B, U, 2)`` with padding, and the number of frames ``(B,)``."""

    symbols: Tensor
    y: Tensor
    frames: Tensor


def draw_sequences(count: int, recipe: AlignmentRecipe, rng: np.random.Generator) -> Sequences:
    """Generate sequences of symbols whose frames are noisy points of the unit circle, one place per symbol."""
    kinds = len(recipe.base)
    symbols = rng.permuted(np.tile(np.arange(kinds), (count, 1)), axis=1)[:, : recipe.length]
    lasting = np.asarray(recipe.base)[symbols] + (rng.uniform(size=symbols.shape) < recipe.longer)
    frames = lasting.sum(1)
    y = np.zeros((count, int(frames.max()), 2))
    for row in range(count):
        angle = 2 * math.pi * np.repeat(symbols[row], lasting[row]) / kinds
        y[row, : frames[row]] = np.stack([np.cos(angle), np.sin(angle)], 1)
    y += recipe.noise * rng.normal(size=y.shape)
    return Sequences(torch.from_numpy(symbols), torch.from_numpy(y).float(), torch.from_numpy(frames))


class AlignedModel(nn.Module):
    """Symbols to frames: an encoder, a decoder over earlier frames, and a joint layer for every frame and symbol.

    Args:
        recipe: Widths and number of symbols.
    """

    def __init__(self, recipe: AlignmentRecipe) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(recipe.base), recipe.width)
        self.encoder = nn.GRU(recipe.width, recipe.width, batch_first=True, bidirectional=True)
        self.pre = nn.Sequential(nn.Linear(2, recipe.width), nn.Tanh())
        self.decoder = nn.GRU(recipe.width, recipe.state, batch_first=True)
        self.from_symbol, self.from_state = (
            nn.Linear(2 * recipe.width, recipe.state),
            nn.Linear(recipe.state, recipe.state),
        )
        self.stay, self.mean = nn.Linear(recipe.state, 1), nn.Linear(recipe.state, 2)
        self.sigma = recipe.sigma

    def encode(self, symbols: Tensor) -> Tensor:
        """Map symbols ``(B, I)`` to what the joint layer reads of them ``(B, I, H)``."""
        return self.from_symbol(self.encoder(self.embed(symbols))[0])

    def forward(self, data: Sequences) -> tuple[Tensor, Tensor]:
        """Return logits of staying and log-likelihoods of the frames, both ``(B, U, I)``, given earlier frames."""
        before = torch.cat([torch.zeros_like(data.y[:, :1]), data.y[:, :-1]], 1)
        hidden = self.from_state(self.decoder(self.pre(before))[0])
        joint = torch.tanh(self.encode(data.symbols)[:, None] + hidden[:, :, None])
        error = (data.y[:, :, None] - self.mean(joint)).square().sum(-1)
        constant = 2 * math.log(self.sigma) + math.log(2 * math.pi)
        return self.stay(joint)[..., 0], -0.5 * error / self.sigma**2 - constant

    def begin(self, symbols: Tensor) -> State:
        """Return the state of a search: encoded symbols, hidden state before the first frame, and the frame before."""
        nothing = torch.zeros(len(symbols), 1, 2)
        return self._heard(
            (self.encode(symbols)[:, None], torch.zeros(len(symbols), 1, self.decoder.hidden_size)), nothing
        )

    def logits(self, state: State, token: Tensor) -> Tensor:
        """Return logits of staying; see :class:`policykd.kd.hard_alignment.Decoder`."""
        return self.stay(self._joint(state, token))[..., 0]

    def advance(self, state: State, token: Tensor) -> State:
        """Make the mean frame of the tokens and read it; see :class:`policykd.kd.hard_alignment.Decoder`."""
        return self._heard(state, self.mean(self._joint(state, token)))

    def _joint(self, state: State, token: Tensor) -> Tensor:
        symbol = state[0].take_along_dim(token[..., None, None], 2)[:, :, 0]
        return torch.tanh(symbol + self.from_state(state[1]))

    def _heard(self, state: State, frame: Tensor) -> State:
        shape = frame.shape[:2]
        hidden = state[1].reshape(1, -1, self.decoder.hidden_size).contiguous()
        _, hidden = self.decoder(self.pre(frame).flatten(0, 1)[:, None], hidden)
        return state[0], hidden[0].unflatten(0, shape)


def negative_log_likelihood(model: AlignedModel, data: Sequences, noise: Tensor | None, temperature: float) -> Tensor:
    """Return the mean negative log-likelihood per frame; with logistic noise ``(B, U, I)``, of noisy transitions."""
    stay, emission = model(data)
    if noise is not None:
        stay = binary_concrete_logit(stay, noise, temperature=temperature)
    tokens = torch.full((len(stay),), stay.shape[2])
    return -alignment_log_likelihood(stay, emission, tokens, data.frames).sum() / data.frames.sum()


def trained_model(seed: int, recipe: AlignmentRecipe, *, noisy: bool) -> AlignedModel:
    """Return a trained model; both kinds begin with equal weights and see equal batches."""
    model = seeded(lambda: AlignedModel(recipe), seed, "hard_alignment")
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    rng = generator(seed, "hard_alignment", "batches")
    draws = torch.Generator().manual_seed(integer_seed(seed, "hard_alignment", "noise"))
    for step in range(recipe.train_steps):
        data = draw_sequences(recipe.batch, recipe, rng)
        shape = (recipe.batch, data.y.shape[1], recipe.length)
        noise = logistic_noise(shape, generator=draws) if noisy else None
        optimizer.zero_grad()
        value = negative_log_likelihood(model, data, noise, recipe.temperature)
        value.backward()
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the loss is {float(value.detach())} at step {step}; lower the learning rate")
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    return model.eval()


def duration_metrics(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Return mean error and share of errors of two frames or more of durations ``(N, I)``; the last is left out."""
    gap = (found - expected)[:, :-1].abs().double()
    return {"duration error": float(gap.mean()), "off by 2": float((gap >= 2).double().mean())}


@torch.no_grad()
def searched(
    model: AlignedModel, data: Sequences, recipe: AlignmentRecipe, *, width: int = 1, draws: Generator | None = None
) -> Tensor:
    """Return the durations ``(N, I)`` that a search gives the symbols; random with a generator."""

    def noise(shape: tuple[int, ...]) -> Tensor:
        return logistic_noise(shape, generator=draws or Generator())

    count = torch.full((len(data.symbols),), recipe.length)
    paths, _ = search_alignments(
        model,
        model.begin(data.symbols),
        count,
        most_frames=recipe.most_frames,
        width=width,
        noise=noise if draws is not None else None,
    )
    return durations(paths, recipe.length)


class HardAlignment(System[AlignmentRecipe]):
    """Two models per seed, each under greedy, beam and random search, with two trivial ways to choose durations."""

    name = "hard_alignment_binary_concrete"
    title = "Hard alignment with Bernoulli or binary Concrete transitions"
    paper = "Yasuda, Wang, Yamagishi, ICASSP 2020, arXiv 1910.12383"
    claim = (
        "Deterministic search gives better durations than random search, and a model with binary Concrete transitions "
        "gives better durations under random search than one with Bernoulli transitions."
    )
    claims = (
        lower("duration error", "Concrete, random", "Bernoulli, random").says(
            "Under random search, the binary Concrete model has smaller duration errors than the Bernoulli model."
        ),
        lower("duration error", "Bernoulli, greedy", "Bernoulli, random").says(
            "The Bernoulli model has smaller duration errors under greedy than under random search."
        ),
        lower("duration error", "Concrete, greedy", "Concrete, random").says(
            "The binary Concrete model has smaller duration errors under greedy than under random search."
        ),
        lower(
            "duration error", "Concrete, random", "Bernoulli, random", by=0.5, statistic="ratio", required=False
        ).says("Under random search, the binary Concrete model halves the duration errors of the Bernoulli model."),
        lower("nll per frame", "Bernoulli, greedy", "Concrete, greedy", required=False).says(
            "Without noise, the Bernoulli model has the lower negative log-likelihood."
        ),
        lower("duration error", "Bernoulli, beam", "Bernoulli, greedy", required=False).says(
            "Beam search has smaller duration errors than greedy search with the Bernoulli model."
        ),
        lower("duration error", "Concrete, random", "durations drawn again", required=False).says(
            "Random search with the binary Concrete model errs less than durations drawn from the true process."
        ),
    )
    notes = (
        "Errors are distances from the shorter, likelier duration of every symbol; drawing from the true process errs "
        "by the probability of the longer one.",
        "Listening tests, by which the paper judges, need speech and listeners.",
    )
    recipe = AlignmentRecipe()

    @override
    def run(self, seed: int, recipe: AlignmentRecipe) -> Metrics:
        data = draw_sequences(recipe.test, recipe, generator(seed, "hard_alignment", "test"))
        expected = torch.tensor(recipe.base)[data.symbols]
        found = dict(self._trivial(seed, recipe, expected))
        for name, noisy in (("Bernoulli", False), ("Concrete", True)):
            model = trained_model(seed, recipe, noisy=noisy)
            with torch.no_grad():
                likelihood = float(negative_log_likelihood(model, data, None, recipe.temperature))
            draws = torch.Generator().manual_seed(integer_seed(seed, "hard_alignment", "search"))
            for search, options in (("greedy", {}), ("beam", {"width": recipe.beams}), ("random", {"draws": draws})):
                lasting = searched(model, data, recipe, **options)
                found[f"{name}, {search}"] = duration_metrics(lasting, expected) | {"nll per frame": likelihood}
        return found

    def _trivial(self, seed: int, recipe: AlignmentRecipe, expected: Tensor) -> Iterator[tuple[str, dict[str, float]]]:
        rng = generator(seed, "hard_alignment", "durations drawn again")
        again = expected + torch.from_numpy(rng.uniform(size=tuple(expected.shape)) < recipe.longer)
        yield "durations drawn again", duration_metrics(again, expected)
        mean = round(float(np.mean(recipe.base)) + recipe.longer)
        yield "one duration for all", duration_metrics(torch.full_like(expected, mean), expected)


EXPERIMENT = HardAlignment().experiment()
