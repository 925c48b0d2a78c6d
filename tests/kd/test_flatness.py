"""Flatness measures against matrices that are known."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.flatness import (
    hessian_vector_product,
    hutchinson_trace,
    measure_flatness,
    rademacher,
    sam_sharpness,
    top_eigenvalue,
)
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split

A = torch.tensor([[4, 0.3, 0], [0.3, 1, 0], [0, 0, 0.5]], dtype=torch.float64)


def quadratic(at):
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return (lambda: 0.5 * x @ A @ x), [x]


def softmax_regression(labels=(0, 1, 1)):
    weight = torch.eye(2, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    return (lambda: F.cross_entropy(x @ weight.T, torch.tensor(labels))), [weight]


def small_network():
    torch.manual_seed(0)
    network = MLP((4,), (5,), classes=3).double()
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3
    return (lambda: F.cross_entropy(network(x), y)), network


def full_hessian(loss, parameters):
    size = sum(p.numel() for p in parameters)
    product = hessian_vector_product(loss, parameters)
    return torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])


def test_hutchinson_over_all_signs_is_the_trace():
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    trace, _ = hutchinson_trace(lambda v: A @ v, signs)
    assert trace == pytest.approx(5.5, abs=1e-12)


def test_power_iteration_finds_the_largest_eigenvalue():
    np.testing.assert_allclose(torch.linalg.eigvalsh(A), [0.5, 0.970294, 4.029706], atol=5.1e-7)
    product = hessian_vector_product(*quadratic([0.3, -1.0, 2.0]))
    value, vector = top_eigenvalue(product, torch.ones(3, dtype=torch.float64), tolerance=1e-14)
    assert value == pytest.approx(4.029706, abs=5.1e-7)
    torch.testing.assert_close(A @ vector, value * vector, rtol=1e-6, atol=1e-6)
    assert top_eigenvalue(lambda v: 0 * v, torch.ones(3))[0] == 0.0


@pytest.mark.parametrize("labels", [(0, 1, 1), (1, 0, 0)])
def test_softmax_regression(labels):
    loss, parameters = softmax_regression(labels)
    hessian = full_hessian(loss, parameters)
    assert float(hessian.trace()) == pytest.approx(0.595483, abs=5.1e-7)
    product = hessian_vector_product(loss, parameters)
    start = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert top_eigenvalue(product, start, tolerance=1e-14)[0] == pytest.approx(0.464408, abs=5.1e-7)


def test_trace_formula_of_softmax_regression():
    loss, parameters = softmax_regression()
    x = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    expected = ((1 - x.softmax(1).square().sum(1)) * x.square().sum(1)).mean()
    torch.testing.assert_close(full_hessian(loss, parameters).trace(), expected)


def test_products_against_the_hessian_of_a_network():
    loss, network = small_network()
    parameters = list(network.parameters())
    hessian = full_hessian(loss, parameters)
    torch.testing.assert_close(hessian, hessian.T)
    names = [name for name, _ in network.named_parameters()]
    torch.manual_seed(0)
    MLP((4,), (5,), classes=3)
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3

    def of(flat):
        parts = flat.split([p.numel() for p in parameters])
        values = {n: v.view(p.shape) for n, v, p in zip(names, parts, parameters, strict=True)}
        return F.cross_entropy(torch.func.functional_call(network, values, (x,)), y)

    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(of, flat))
    trace, error = hutchinson_trace(
        hessian_vector_product(loss, parameters), rademacher(400, parameters, torch.Generator().manual_seed(1))
    )
    assert abs(trace - float(hessian.trace())) < 4 * error


def test_sharpness_is_the_rise_along_the_gradient_and_leaves_the_weights():
    loss, network = small_network()
    before = [p.clone() for p in network.parameters()]
    rise = sam_sharpness(loss, network.parameters(), radius=0.05)
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    gradient = torch.autograd.grad(loss(), list(network.parameters()))
    norm = torch.cat([g.flatten() for g in gradient]).norm()
    base = loss().item()
    with torch.no_grad():
        for parameter, g in zip(network.parameters(), gradient, strict=True):
            parameter.add_(0.05 * g / norm)
    assert rise == pytest.approx(loss().item() - base)
    assert rise == pytest.approx(0.05 * norm.item(), rel=0.1)


def test_a_weight_that_the_loss_does_not_use_changes_nothing():
    loss, parameters = quadratic([1.0, 0.5, 0.0])
    unused = torch.nn.Parameter(torch.ones(2))
    rise = sam_sharpness(loss, parameters, radius=0.1)
    assert sam_sharpness(loss, [*parameters, unused], radius=0.1) == pytest.approx(rise, rel=1e-6)


def test_sharpness_at_a_zero_gradient_is_the_quadratic_bound():
    loss, parameters = quadratic([0.0, 0.0, 0.0])
    assert sam_sharpness(loss, parameters, radius=0.3) == pytest.approx(0.5 * 0.3**2 * 4.029706, rel=1e-5)


def test_bad_input_is_refused():
    loss, parameters = quadratic([1.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match="no parameters"):
        hessian_vector_product(loss, [])
    with pytest.raises(ConfigError, match="radius is 0"):
        sam_sharpness(loss, parameters, radius=0.0)
    with pytest.raises(ConfigError, match="start from zero"):
        top_eigenvalue(lambda v: v, torch.zeros(3))


def rows(count=24):
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randn(count, 4, generator=draw), torch.arange(count) % 3)


def test_flatness_figures_against_the_full_hessian():
    torch.manual_seed(0)
    network, data = MLP((4,), (5,), classes=3), rows()
    before = [p.clone() for p in network.parameters()]
    draw = torch.Generator().manual_seed(0)
    figures = measure_flatness(network, data, probes=3000, radius=0.05, generator=draw)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    assert network.fc.weight.dtype == torch.float32
    double = MLP((4,), (5,), classes=3).double()
    double.load_state_dict(network.state_dict())
    loss = lambda: F.cross_entropy(double(data.x.double()), data.y)  # noqa: E731
    hessian = full_hessian(loss, list(double.parameters()))
    assert figures["hessian trace"] == pytest.approx(float(hessian.trace()), rel=0.1)
    assert figures["largest eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=0.02)
    assert figures["training loss"] == pytest.approx(loss().item())
