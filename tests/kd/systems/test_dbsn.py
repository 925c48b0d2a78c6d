"""DBSN: gates and their divergence against worked values, the cell against a literal one, and the experiment."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from policykd.errors import ConfigError
from policykd.kd.systems.dbsn import (
    EXPERIMENT,
    DBSNRecipe,
    GatedCell,
    Structure,
    gate_divergence,
    log_mean_exp,
    predict,
    train,
    uncertainty,
)
from policykd.kd.tasks.base import Split
from policykd.relaxed import concrete_log_sample, gumbel_noise

THETA = torch.tensor([[0.05, 0.05, 0.5, 0.4]], dtype=torch.float64).log()
TINY = replace(EXPERIMENT.config, train_epochs=2, nodes=3, width=5, draws=3, samples=60, batch=20)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(weights, temperature, scale, count=100_000):
    noise = gumbel_noise((count, *weights.shape), generator=rng(), dtype=torch.float64)
    return concrete_log_sample(weights, noise, temperature=temperature, noise_scale=scale)


@pytest.mark.parametrize("temperature", [0.8, 1.5])
@pytest.mark.parametrize(
    ("weights", "scale", "expected"),
    [(torch.zeros(1, 4).double(), 0.5, 0.8189), (THETA, 1.0, 1.7338), (THETA, 0.5, 2.7583)],
)
def test_the_divergence_has_the_worked_mean_at_every_temperature(weights, scale, expected, temperature):
    value = gate_divergence(drawn(weights, temperature, scale), weights, temperature=temperature, noise_scale=scale)
    assert float(value / 100_000) == pytest.approx(expected, abs=0.015)


def test_the_divergence_is_a_sum_over_edges_and_torchs():
    once = drawn(THETA, 1.5, 0.5, 1)[0]
    found = gate_divergence(once, THETA, temperature=1.5, noise_scale=0.5)
    own = ExpRelaxedCategorical(torch.tensor(3.0).double(), logits=2 * THETA).log_prob(once)
    prior = ExpRelaxedCategorical(torch.tensor(1.5).double(), logits=torch.zeros(1, 4).double()).log_prob(once)
    torch.testing.assert_close(found, (own - prior).sum())
    twice = gate_divergence(once.repeat(2, 1), THETA.repeat(2, 1), temperature=1.5, noise_scale=0.5)
    torch.testing.assert_close(twice, 2 * found)


def test_a_posterior_that_is_the_prior_diverges_nowhere():
    value = drawn(torch.zeros(6, 4).double(), 1.2, 1.0, 1)[0]
    assert float(gate_divergence(value, torch.zeros(6, 4).double(), temperature=1.2, noise_scale=1.0)) == 0.0


@pytest.mark.parametrize(("heat", "expected"), [(1.0, (0.05, 0.05, 0.5, 0.4)), (1.5, (0.0940, 0.0940, 0.4362, 0.3759))])
def test_without_noise_gates_are_a_softmax(heat, expected):
    gates = Structure(THETA, learned=True, noisy=False, heat=heat).draw(rng()).exp()
    np.testing.assert_allclose(gates[0], expected, atol=1e-4)
    small = Structure(THETA.float(), learned=True, noisy=True, scale=1e-6, heat=heat).draw(rng()).exp()
    np.testing.assert_allclose(small[0], expected, atol=1e-4)


def test_the_strongest_gate_follows_the_scaled_weights():
    shares = torch.bincount(drawn(THETA, 1.0, 0.5)[:, 0].argmax(1), minlength=4) / 100_000
    np.testing.assert_allclose(shares, (THETA[0] / 0.5).softmax(0), atol=0.006)


def test_the_cell_is_a_literal_sum_over_edges():
    torch.manual_seed(0)
    cell = GatedCell(3, 4).eval()
    x, gates = torch.rand(6, 64), torch.rand(3, 4)
    stem = cell.stem(x)
    f1, f2, f3 = cell.split(stem).chunk(3, 1)

    def edge(number, before):
        _, keep, relu, tanh = gates[number]
        return (
            keep * cell.identity[number](before) + relu * cell.relu[number](before) + tanh * cell.tanh[number](before)
        )

    second = f2 + edge(0, f1)
    third = f3 + edge(1, f1) + edge(2, second)
    torch.testing.assert_close(cell(x, gates), cell.head(torch.cat([stem, f1, second, third], 1)))


def test_equal_operations_give_gates_no_gradient():
    """Gates of one edge sum to one: if all four operations gave the same, their weights could not matter."""
    weights = torch.randn(1, 4, generator=rng(), dtype=torch.float64).requires_grad_(True)
    gates = Structure(weights, learned=True, noisy=True).draw(rng()).exp()
    (gradient,) = torch.autograd.grad((gates * 1.7).sum() ** 2, weights)
    assert float(gradient.abs().max()) < 1e-12


def test_means_of_members():
    one = torch.log_softmax(torch.randn(5, 3, generator=rng(), dtype=torch.float64), 1)
    torch.testing.assert_close(log_mean_exp(torch.stack([one, one, one])), one)
    other = torch.log_softmax(torch.randn(5, 3, generator=rng(1), dtype=torch.float64), 1)
    mean = log_mean_exp(torch.stack([one, other]))
    torch.testing.assert_close(mean.exp(), (one.exp() + other.exp()) / 2)
    entropies = [-(part.exp() * part).sum(1) for part in (mean, one, other)]
    assert bool((entropies[0] >= (entropies[1] + entropies[2]) / 2 - 1e-12).all())


def data(count=60):
    y = torch.arange(count) % 10
    return Split(torch.rand(count, 64, generator=rng()) + torch.eye(64)[y], y)


@pytest.mark.parametrize("learned", [True, False])
def test_training_moves_learned_gates_only_and_ends_at_the_schedule(learned):
    network, structure = GatedCell(3, 5), Structure(torch.zeros(3, 4), learned=learned, noisy=True)
    train(network, structure, data(), TINY, 0)
    assert bool((structure.weights == 0).all()) != learned
    assert structure.heat == 1.0
    assert structure.scale == 0.99


def test_draws_are_averaged_and_batch_statistics_stay():
    network, structure = GatedCell(3, 5), Structure(torch.zeros(3, 4), learned=False, noisy=True)
    network(data().x, torch.full((3, 4), 0.25))  # gives the batch normalization its statistics
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = predict(network, structure, data().x, draws=2, rng=rng(7))
    again = rng(7)
    each = [torch.log_softmax(network(data().x, structure.draw(again).exp()), 1) for _ in range(2)]
    torch.testing.assert_close(found, log_mean_exp(torch.stack(each)).detach())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_uncertainty_of_sure_and_unsure_predictions():
    sure = torch.log_softmax(20 * torch.eye(4), 1).double()
    found = uncertainty(sure, torch.tensor([0, 1, 2, 0]), torch.zeros(3, 4).double() - np.log(4))
    assert found["error"] == 0.25
    assert found["auroc of noise"] == 1.0
    assert found["entropy of noise"] == pytest.approx(np.log(4))
    assert found["entropy"] < 1e-3


@pytest.mark.parametrize("change", [{"shares": (0.5, 0.4)}, {"batch": 401}, {"lowest_scale": 0.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        DBSNRecipe(**change)


def test_a_small_cell_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert len({arm["nll"] for arm in cell.values()}) == 6
