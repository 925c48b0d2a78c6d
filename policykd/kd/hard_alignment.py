"""Monotonic hard alignment between tokens and frames: its exact likelihood, and greedy, random and beam search.

Arithmetic on logits of transitions and log-likelihoods of emissions; networks come from elsewhere. Yasuda, Wang,
Yamagishi, Initial Investigation of an Encoder-Decoder End-to-End TTS Framework Using Marginalization of Monotonic Hard
Latent Alignments (arXiv 1908.11535), and Effect of Choice of Probability Distribution, Randomness, and Search Methods
for Alignment Modeling (ICASSP 2020, arXiv 1910.12383).

An alignment starts before the first frame at token 0 and, at every frame, stays or moves on by one. The logit of frame
t and token i is that of staying at i, ``P(stay) = sigmoid(l)``; it may depend on earlier frames, not on the alignment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ShapeError, check_range
from policykd.numerics import check_temperature

IMPOSSIBLE = -1e9
"""Log-probability of what cannot happen; finite, so that gradients stay finite."""

State = tuple[Tensor, ...]


class Decoder(Protocol):
    """What a search asks; every tensor begins with sequences and hypotheses ``(N, W)``."""

    def logits(self, state: State, token: Tensor) -> Tensor:
        """Return the logits of staying ``(N, W)`` at the tokens ``(N, W)``, for the next frame."""
        ...

    def advance(self, state: State, token: Tensor) -> State:
        """Return the state after the next frame was made at the tokens ``(N, W)``."""
        ...


def alignment_log_likelihood(stay: Tensor, emission: Tensor, tokens: Tensor, frames: Tensor) -> Tensor:
    """Return the log-likelihood ``(B,)`` of frames, summed over all alignments that end at the last token.

    ``f_t(i) = log p(y_t | i) + log(f_{t-1}(i) P(stay at i) + f_{t-1}(i - 1) P(move on from i - 1))``; its gradient with
    respect to the emissions are the probabilities that a frame belongs to a token.

    Args:
        stay: Logits of staying ``(B, U, I)``.
        emission: Log-likelihood of every frame at every token ``(B, U, I)``.
        tokens: Number of tokens of every sequence ``(B,)``; the rest of I is padding.
        frames: Number of frames ``(B,)``; the rest of U is padding.

    Raises:
        ShapeError: Shapes differ, or a sequence is longer than its tensor.
    """
    if stay.dim() != 3 or stay.shape != emission.shape:
        raise ShapeError(f"stay {tuple(stay.shape)} and emission {tuple(emission.shape)} must both be (B, U, I)")
    if (
        int(tokens.max()) > stay.shape[2]
        or int(frames.max()) > stay.shape[1]
        or int(min(tokens.min(), frames.min())) < 1
    ):
        raise ShapeError(f"tokens and frames must be in [1, {stay.shape[2]}] and [1, {stay.shape[1]}]")
    log_stay, log_move = F.logsigmoid(stay), F.logsigmoid(-stay)
    start = torch.full_like(stay[:, 0], IMPOSSIBLE)
    start[:, 0] = 0.0
    blocked = torch.full_like(stay[:, 0, :1], IMPOSSIBLE)
    value, steps = start, []
    for t in range(stay.shape[1]):
        moved = torch.cat([blocked, (value + log_move[:, t])[:, :-1]], 1)
        value = emission[:, t] + torch.logaddexp(value + log_stay[:, t], moved)
        steps.append(value)
    rows = torch.arange(len(stay))
    return torch.stack(steps, 1)[rows, frames - 1, tokens - 1]


def search_alignments(
    decoder: Decoder,
    state: State,
    tokens: Tensor,
    *,
    most_frames: int,
    least_frames: int = 1,
    width: int = 1,
    noise: Callable[[tuple[int, ...]], Tensor] | None = None,
    temperature: float = 1.0,
    penalty: float = 1e4,
) -> tuple[Tensor, Tensor]:
    """Search an alignment for every sequence: greedy with one hypothesis, else by beams; random with noise.

    A hypothesis ends when it has reached the last token and the least number of frames; it then keeps its score.

    Args:
        decoder: Gives logits and states.
        state: State before the first frame; tensors ``(N, 1, ...)``.
        tokens: Number of tokens of every sequence ``(N,)``.
        most_frames: Frames after which the search ends.
        least_frames: Frames before which no hypothesis ends.
        width: Hypotheses per sequence W.
        noise: ``shape -> logistic noise``, drawn again for every frame; decisions and scores use ``(l + L) / tau``.
        temperature: tau.
        penalty: Taken from the score of hypotheses that did not end.

    Returns:
        The token of every frame ``(N, most_frames)``, -1 after the end, and the scores ``(N,)``: summed log-probability
        of the transitions.

    Raises:
        ConfigError: An option is out of range.
    """
    check_range("width", width, 1, 10_000)
    check_range("least_frames", least_frames, 0, most_frames)
    check_temperature(temperature)
    shape = (len(tokens), width)
    token, done = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    score = torch.full(shape, IMPOSSIBLE)
    score[:, 0] = 0.0
    paths, last = torch.full((*shape, most_frames), -1), tokens[:, None] - 1
    state = tuple(part.expand(shape + tuple(part.shape[2:])) for part in state)
    for frame in range(most_frames):
        logit = decoder.logits(state, token)
        if noise is not None:
            logit = (logit + noise(shape)) / temperature
        stay = torch.where(done, 0.0, F.logsigmoid(logit))
        move = torch.where(done | (token >= last), IMPOSSIBLE, F.logsigmoid(-logit))
        score, best = (score[..., None] + torch.stack([stay, move], -1)).flatten(1).topk(width, 1)
        token, done, paths = (_chosen(part, best // 2) for part in (token, done, paths))
        state = tuple(_chosen(part, best // 2) for part in state)
        token = torch.minimum(token + best % 2, last)  # an impossible move stays where it is, at its score
        paths[:, :, frame] = torch.where(done, -1, token)
        state = decoder.advance(state, token)
        done = done | ((token == last) & (frame + 1 >= least_frames))
        if bool(done.all()):
            break
    score, best = (score - penalty * ~done).max(1)
    return paths[torch.arange(len(paths)), best], score


def durations(paths: Tensor, tokens: int) -> Tensor:
    """Return how many frames of a path ``(N, U)`` belong to each of the tokens ``(N, tokens)``; -1 counts for none."""
    return torch.stack([(paths == token).sum(1) for token in range(tokens)], 1)


def _chosen(values: Tensor, parents: Tensor) -> Tensor:
    """Return the rows of the chosen parents ``(N, W)`` from values ``(N, W, ...)``."""
    return values[torch.arange(len(values))[:, None], parents]
