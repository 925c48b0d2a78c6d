"""The recursion of hard alignment against the sum over all alignments, and searches against exhaustive search."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError, ShapeError
from policykd.kd.hard_alignment import IMPOSSIBLE, alignment_log_likelihood, durations, search_alignments
from policykd.relaxed import binary_concrete_logit, logistic_noise

STAY = torch.logit(torch.tensor([[[0.6, 0.9], [0.5, 0.8], [0.3, 0.7]]], dtype=torch.float64))
EMISSION = torch.tensor([[[0.5, 0.1], [0.4, 0.3], [0.2, 0.6]]], dtype=torch.float64).log()


def likelihood(stay, emission, tokens=None, frames=None):
    count = len(stay)
    tokens = torch.full((count,), stay.shape[2]) if tokens is None else torch.tensor(tokens)
    frames = torch.full((count,), stay.shape[1]) if frames is None else torch.tensor(frames)
    return alignment_log_likelihood(stay, emission, tokens, frames)


def paths(frames, tokens):
    """All monotonic paths that end at the last token."""
    for moves in itertools.product((0, 1), repeat=frames):
        path = list(itertools.accumulate(moves))
        if path[-1] == tokens - 1:
            yield path


def enumerated(stay, emission):
    """The likelihood of one sequence ``(U, I)`` as the sum over all paths, without logarithms."""
    keep, total = torch.sigmoid(stay), 0.0
    for path in paths(*stay.shape):
        value, before = 1.0, 0
        for t, token in enumerate(path):
            stays = float(keep[t, before])
            value *= (stays if token == before else 1.0 - stays) * math.exp(float(emission[t, token]))
            before = token
        total += value
    return total


def test_the_worked_likelihood():
    found = likelihood(STAY, EMISSION)
    assert float(found) == pytest.approx(-3.033808, abs=1e-6)
    assert enumerated(STAY[0], EMISSION[0]) == pytest.approx(0.0252 + 0.0189 + 0.004032, abs=1e-9)


@pytest.mark.parametrize(("frames", "values"), [(1, (0.3, 0.04)), (2, (0.06, 0.0546)), (3, (0.0036, 0.048132))])
def test_the_worked_values_of_every_step(frames, values):
    for tokens, value in enumerate(values, 1):
        assert float(likelihood(STAY, EMISSION, [tokens], [frames]).exp()) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (4, 1), (5, 3), (6, 5), (7, 4)])
def test_the_recursion_is_the_sum_over_all_alignments(frames, tokens):
    rng = torch.Generator().manual_seed(frames)
    stay, emission = torch.randn(2, 2, frames, tokens, generator=rng, dtype=torch.float64)
    found = likelihood(stay, emission)
    expected = [math.log(enumerated(s, e)) for s, e in zip(stay, emission, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_padding_is_not_read():
    rng = torch.Generator().manual_seed(1)
    stay, emission = torch.randn(2, 2, 6, 4, generator=rng, dtype=torch.float64)
    found = likelihood(stay, emission, [4, 2], [6, 3])
    short = likelihood(stay[1:, :3, :2], emission[1:, :3, :2])
    torch.testing.assert_close(found[1:], short)
    torch.testing.assert_close(found[:1], likelihood(stay[:1], emission[:1]))


def test_gradients_of_emissions_are_the_worked_occupancies():
    emission = EMISSION.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(likelihood(STAY, emission).sum(), emission)
    np.testing.assert_allclose(found[0], [[0.9162, 0.0838], [0.5236, 0.4764], [0.0, 1.0]], atol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(2)
    stay, emission = (torch.randn(1, 4, 3, generator=rng, dtype=torch.float64).requires_grad_(True) for _ in range(2))
    assert torch.autograd.gradcheck(likelihood, (stay, emission))


def test_one_token_only_stays_and_too_few_frames_are_impossible():
    found = likelihood(STAY[..., :1], EMISSION[..., :1])
    torch.testing.assert_close(found, (F.logsigmoid(STAY[..., 0]) + EMISSION[..., 0]).sum(1))
    stay = torch.zeros(1, 2, 4)
    assert float(likelihood(stay, stay)) < IMPOSSIBLE / 2


def test_noise_that_freezes_gives_one_alignment():
    """At a temperature near 0 the noisy transitions are hard: the likelihood is that of a single path."""
    noise = logistic_noise((1, 3, 2), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    hard = binary_concrete_logit(STAY, noise, temperature=1e-4)
    probabilities = torch.sigmoid(hard)
    assert float((probabilities - probabilities.round()).abs().max()) < 1e-6
    assert float(likelihood(hard, torch.zeros_like(hard)).exp()) in (pytest.approx(0.0), pytest.approx(1.0))
    torch.testing.assert_close(binary_concrete_logit(STAY, 0 * noise, temperature=1.0), STAY)


@pytest.mark.parametrize(("tokens", "frames"), [([3], [3]), ([2], [4]), ([0], [3]), ([2], [0])])
def test_lengths_beyond_the_tensors_are_refused(tokens, frames):
    with pytest.raises(ShapeError, match="tokens and frames must be in"):
        likelihood(STAY, EMISSION, tokens, frames)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ShapeError, match="must both be"):
        likelihood(STAY, EMISSION[:, :2])


class Table:
    """Logits from a table ``(U, I)``; the state is the number of the frame."""

    def __init__(self, probabilities):
        self.table = torch.logit(torch.tensor(probabilities))

    def start(self, rows=1):
        return (torch.zeros(rows, 1, dtype=torch.long),)

    def logits(self, state, token):
        return self.table[state[0].clamp_max(len(self.table) - 1), token]

    def advance(self, state, token):
        return (state[0] + 1,)


GREEDY_FAILS = [[0.55, 0.9], [0.52, 0.9], [0.45, 0.9]]


def search(table, tokens, frames, rows=1, **options):
    decoder = Table(table)
    count = torch.full((rows,), tokens)
    return search_alignments(decoder, decoder.start(rows), count, most_frames=frames, least_frames=frames, **options)


def test_greedy_search_misses_what_beams_find():
    path, score = search(GREEDY_FAILS, 2, 3)
    assert path.tolist() == [[0, 0, 1]]
    assert float(score.exp()) == pytest.approx(0.1573, abs=1e-4)
    path, score = search(GREEDY_FAILS, 2, 3, width=2)
    assert path.tolist() == [[1, 1, 1]]
    assert float(score.exp()) == pytest.approx(0.3645, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_beams_as_paths_are_exhaustive(seed):
    frames, tokens = 6, 3
    table = torch.rand(frames, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()

    def score(path):
        before, value = 0, 1.0
        for t, token in enumerate(path):
            value *= table[t][before] if token == before else 1.0 - table[t][before]
            before = token
        return value

    best = max(paths(frames, tokens), key=score)
    path, found = search(table, tokens, frames, width=2**frames)
    assert path.tolist() == [best]
    assert float(found.exp()) == pytest.approx(score(best), rel=1e-5)


def test_a_search_ends_at_the_last_token_and_pays_if_it_does_not():
    decoder = Table([[0.1, 0.5, 0.5]])
    path, score = search_alignments(decoder, decoder.start(), torch.tensor([3]), most_frames=5)
    assert path.tolist() == [[1, 1, 1, 1, 1]]  # a tie of staying and moving is a stay
    decoder = Table([[0.1, 0.1, 0.5]])
    path, score = search_alignments(decoder, decoder.start(), torch.tensor([3]), most_frames=5)
    assert path.tolist() == [[1, 2, -1, -1, -1]]
    assert float(score.exp()) == pytest.approx(0.81)
    slow = Table([[0.9, 0.9, 0.9]])
    path, score = search_alignments(slow, slow.start(), torch.tensor([3]), most_frames=4)
    assert path.tolist() == [[0, 0, 0, 0]]
    assert float(score) < -9000


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("logit", [-2.0, 0.0, 2.0])
def test_random_decisions_are_bernoulli_at_every_temperature(logit, temperature):
    rng, rows = torch.Generator().manual_seed(0), 20_000
    table = [[float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64))), 0.5]]
    path, _ = search(
        table, 2, 1, rows=rows, noise=lambda shape: logistic_noise(shape, generator=rng), temperature=temperature
    )
    assert float((path[:, 0] == 0).double().mean()) == pytest.approx(
        float(torch.sigmoid(torch.tensor(logit))), abs=0.015
    )


def test_constant_probabilities_give_geometric_durations():
    rng, rows, stay = torch.Generator().manual_seed(1), 4000, 0.75
    decoder = Table([[stay, stay]])
    path, _ = search_alignments(
        decoder,
        decoder.start(rows),
        torch.full((rows,), 2),
        most_frames=100,
        noise=lambda shape: logistic_noise(shape, generator=rng),
    )
    lasting = durations(path, 2)[:, 0].double() + 1  # the move may come before the first frame
    assert float(lasting.mean()) == pytest.approx(1 / (1 - stay), rel=0.05)
    assert float((lasting == 1).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_durations_count_frames():
    assert durations(torch.tensor([[0, 0, 1, 3, -1], [1, 1, 1, 2, 3]]), 4).tolist() == [[2, 1, 0, 1], [0, 3, 1, 1]]


@pytest.mark.parametrize("options", [{"width": 0}, {"temperature": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        search(GREEDY_FAILS, 2, 3, **options)
