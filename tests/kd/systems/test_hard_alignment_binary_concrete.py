"""The aligned model: its sequences, its states in training and in search, and the experiment."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.hard_alignment import alignment_log_likelihood
from policykd.kd.systems.hard_alignment_binary_concrete import (
    EXPERIMENT,
    AlignedModel,
    AlignmentRecipe,
    Sequences,
    draw_sequences,
    duration_metrics,
    negative_log_likelihood,
)
from policykd.seeding import generator

TINY = replace(EXPERIMENT.config, train_steps=3, batch=4, test=6, width=4, state=6, most_frames=30)


def test_sequences_last_as_their_symbols_do_and_repeat_none():
    recipe = replace(TINY, noise=1e-6, longer=0.0)
    data = draw_sequences(50, recipe, generator(0, "t"))
    assert data.symbols.shape == (50, 5)
    assert all(len(set(row.tolist())) == 5 for row in data.symbols)
    base = torch.tensor(recipe.base)[data.symbols]
    assert torch.equal(data.frames, base.sum(1))
    first = 2 * math.pi * data.symbols[:, 0] / 6
    torch.testing.assert_close(data.y[:, 0], torch.stack([first.cos(), first.sin()], 1).float(), atol=1e-4, rtol=0)
    longer = draw_sequences(2000, replace(recipe, longer=0.15), generator(0, "t"))
    extra = (longer.frames - torch.tensor(recipe.base)[longer.symbols].sum(1)).double() / 5
    assert float(extra.mean()) == pytest.approx(0.15, abs=0.01)


def test_emissions_are_gaussian_densities():
    model = AlignedModel(TINY)
    data = draw_sequences(2, TINY, generator(1, "t"))
    _, emission = model(data)
    assert emission.shape == (2, data.y.shape[1], 5)
    before = torch.cat([torch.zeros(2, 1, 2), data.y[:, :-1]], 1)
    hidden = model.from_state(model.decoder(model.pre(before))[0])
    mean = model.mean(torch.tanh(model.encode(data.symbols)[0, 3] + hidden[0, 2]))
    expected = torch.distributions.Normal(mean, TINY.sigma).log_prob(data.y[0, 2]).sum()
    torch.testing.assert_close(emission[0, 2, 3], expected)


def test_a_search_asks_the_same_network_as_the_training():
    """Fed with the frames that the search made, the training's logits are those that the search read."""
    model, symbols = AlignedModel(TINY), torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    state, said, frames = model.begin(symbols), [], []
    tokens = [torch.tensor([[0], [0]]), torch.tensor([[1], [0]]), torch.tensor([[1], [1]])]
    with torch.no_grad():
        for token in tokens:
            said.append(model.logits(state, token))
            frames.append(model.mean(model._joint(state, token)))
            state = model.advance(state, token)
        data = Sequences(symbols, torch.cat(frames, 1), torch.tensor([3, 3]))
        stay, _ = model(data)
    for t, token in enumerate(tokens):
        torch.testing.assert_close(said[t], stay[:, t].gather(1, token))


def test_without_noise_the_loss_is_the_exact_likelihood_per_frame():
    model, data = AlignedModel(TINY), draw_sequences(3, TINY, generator(2, "t"))
    stay, emission = model(data)
    exact = alignment_log_likelihood(stay, emission, torch.full((3,), 5), data.frames)
    found = negative_log_likelihood(model, data, None, 0.5)
    torch.testing.assert_close(found, -exact.sum() / data.frames.sum())
    at_one = negative_log_likelihood(model, data, torch.zeros_like(stay), 1.0)
    torch.testing.assert_close(at_one, found)
    assert float(negative_log_likelihood(model, data, torch.ones_like(stay), 1.0).detach()) != pytest.approx(
        float(found.detach()), rel=1e-3
    )


def test_metrics_leave_the_last_symbol_out():
    found = duration_metrics(torch.tensor([[2, 5, 0], [3, 2, 9]]), torch.tensor([[2, 3, 3], [2, 2, 3]]))
    assert found == {"duration error": 0.75, "off by 2": 0.25}


@pytest.mark.parametrize("change", [{"base": ()}, {"base": (0, 2)}, {"length": 7}, {"sigma": 0.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        AlignmentRecipe(**change)


def test_a_small_cell_repeats_and_has_all_arms():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert len(cell) == 8
    assert np.isclose(cell["durations drawn again"]["off by 2"], 0.0)
    assert cell["Bernoulli, greedy"]["nll per frame"] != cell["Concrete, greedy"]["nll per frame"]
