"""Attacks against worked values on a linear classifier, whose gradient is known, and the bounds that they keep."""

import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.attacks import fgsm, input_gradient, pgd
from policykd.kd.networks import MLP


def logistic(weights):
    """Return a classifier of two classes whose margin is the product with the weights."""
    layer = nn.Linear(len(weights), 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros(len(weights)), torch.tensor(weights)]))
    return layer


def test_fgsm_lowers_the_margin_by_the_sum_of_the_weights():
    network, x = logistic([1.0, -2.0]), torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    moved = fgsm(network, x, torch.tensor([1]), epsilon=0.1)
    torch.testing.assert_close(moved, torch.tensor([[0.9, 0.3]], dtype=torch.float64))
    with torch.no_grad():
        margins = [float(network(z)[0, 1] - network(z)[0, 0]) for z in (x, moved)]
    assert margins == pytest.approx([0.6, 0.3])


def network_and_data():
    torch.manual_seed(0)
    network = MLP((6,), (8,), classes=3, dropout=0.5)
    generator = torch.Generator().manual_seed(1)
    return network, torch.rand(5, 6, generator=generator), torch.tensor([0, 1, 2, 0, 1])


def test_the_gradient_is_that_of_the_network_without_dropout_and_leaves_no_trace():
    network, x, y = network_and_data()
    network.train()
    first, second = input_gradient(network, x, y), input_gradient(network, x, y)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    shift = torch.zeros_like(x)
    shift[2, 3] = 1e-3
    network.eval().double()
    losses = [
        nn.functional.cross_entropy(network(x.double() + s), y, reduction="sum")
        for s in (shift.double(), -shift.double())
    ]
    assert (losses[0] - losses[1]).item() / 2e-3 == pytest.approx(float(first[2, 3]), rel=1e-3)


@pytest.mark.parametrize("drawn", [False, True])
def test_pgd_stays_within_epsilon_and_the_valid_range_and_raises_the_loss(drawn):
    network, x, y = network_and_data()
    network.eval()
    generator = torch.Generator().manual_seed(3) if drawn else None
    moved = pgd(network, x, y, epsilon=0.2, step=0.05, steps=8, generator=generator)
    assert float((moved - x).abs().max()) <= 0.2 + 1e-6
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 1.0
    clean, attacked = (nn.functional.cross_entropy(network(z), y) for z in (x, moved))
    assert attacked > clean
    assert attacked >= nn.functional.cross_entropy(network(fgsm(network, x, y, epsilon=0.05)), y)


def test_one_long_step_of_pgd_is_fgsm_and_none_without_epsilon():
    network, x, y = network_and_data()
    once = pgd(network, x, y, epsilon=0.1, step=0.3, steps=1)
    torch.testing.assert_close(once, fgsm(network, x, y, epsilon=0.1))
    torch.testing.assert_close(pgd(network, x, y, epsilon=0.0, step=0.3, steps=3), x)


@pytest.mark.parametrize("options", [{"epsilon": -0.1}, {"epsilon": 0.1, "valid": (1.0, 0.0)}])
def test_wrong_options_are_refused(options):
    network, x, y = network_and_data()
    with pytest.raises(ConfigError):
        fgsm(network, x, y, **options)
    with pytest.raises(ConfigError):
        pgd(network, x, y, step=0.1, steps=1, **options)
    with pytest.raises(ConfigError, match="steps"):
        pgd(network, x, y, epsilon=0.1, step=0.1, steps=0)
