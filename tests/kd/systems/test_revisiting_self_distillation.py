"""Flatness measures against matrices that are known, and rounds of kernel self-distillation."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.system import Fit
from policykd.kd.kernel_self_distillation import limit_factors, step_factors
from policykd.kd.networks import MLP
from policykd.kd.systems.revisiting_self_distillation import EXPERIMENT, self_distillation_rounds
from policykd.kd.systems.revisiting_self_distillation.flatness import (
    hessian_vector_product,
    hutchinson_trace,
    measure_flatness,
    rademacher,
    sam_sharpness,
    top_eigenvalue,
)
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, seeded, train_classifier
from policykd.seeding import integer_seed

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


def test_sharpness_at_a_zero_gradient_is_the_quadratic_bound():
    loss, parameters = quadratic([0.0, 0.0, 0.0])
    assert sam_sharpness(loss, parameters, radius=0.3) == pytest.approx(0.5 * 0.3**2 * 4.029706, rel=1e-5)


def test_kernel_rounds():
    d = np.array([10.0, 1.0, 0.1])
    shrinkage = d / (d + 1)
    rounds = step_factors(shrinkage, [0.0, 0.0, 0.0])
    np.testing.assert_allclose(rounds[1], [0.909091, 0.5, 0.090909], atol=5.1e-7)
    np.testing.assert_allclose(rounds[2], [0.826446, 0.25, 0.008264], atol=5.1e-7)
    np.testing.assert_allclose(rounds[3], [0.751315, 0.125, 0.000751], atol=5.1e-7)
    np.testing.assert_allclose(limit_factors(d, 1.0, 0.4), [0.8, 0.285714, 0.038462], atol=5.1e-7)
    np.testing.assert_allclose(limit_factors(d, 1.0, 0.4), d / (d + 2.5), atol=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_copy_of_the_teacher_has_no_loss_and_no_gradient(temperature):
    loss, network = small_network()
    del loss
    x = torch.randn(6, 4, dtype=torch.float64)
    value = kf.kd(network(x), network(x), temperature=temperature)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-14)
    for parameter in network.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-14)


def test_bad_input_is_refused():
    loss, parameters = quadratic([1.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match="no parameters"):
        hessian_vector_product(loss, [])
    with pytest.raises(ConfigError, match="radius is 0"):
        sam_sharpness(loss, parameters, radius=0.0)
    with pytest.raises(ConfigError, match="start from zero"):
        top_eigenvalue(lambda v: v, torch.zeros(3))


SETTING = TrainConfig(epochs=3, batch_size=8, seed=5, optimizer=OptimizerConfig("adam", lr=1e-2, weight_decay=0.0))


def rows(count=24):
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randn(count, 4, generator=draw), torch.arange(count) % 3)


def test_rounds_start_from_new_weights_and_without_the_teacher_repeat_the_training():
    make = partial(MLP, (4,), (5,), classes=3)
    networks = self_distillation_rounds(make, rows(), SETTING, rounds=2, temperature=4.0, kd_weight=0.0)
    assert len(networks) == 3
    for number, network in enumerate(networks):
        alone = replace(SETTING, seed=integer_seed(5, "order of round", number))
        again = train_classifier(seeded(make, 5, "round", number), rows(), alone)
        for a, b in zip(network.parameters(), again.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    starts = [seeded(make, 5, "round", number).fc.weight for number in range(3)]
    assert not torch.equal(starts[0], starts[1])
    taught = self_distillation_rounds(make, rows(), SETTING, rounds=1, temperature=4.0, kd_weight=1.0)
    torch.testing.assert_close(taught[0].fc.weight, networks[0].fc.weight)
    assert not torch.equal(taught[1].fc.weight, networks[1].fc.weight)


def test_a_round_without_labels_reads_none():
    make, data = partial(MLP, (4,), (5,), classes=3), rows()
    first = self_distillation_rounds(make, data, SETTING, rounds=1, temperature=4.0, kd_weight=1.0)
    # the student of round 1 depends on the labels through its teacher only
    other = Split(data.x, (data.y + 1) % 3)
    order = replace(SETTING, seed=integer_seed(5, "order of round", 1))
    student = distil(
        seeded(make, 5, "round", 1),
        predict(first[0], data)[0],
        other,
        order,
        temperature=4.0,
        kd_weight=1.0,
        ce_weight=0.0,
    )
    torch.testing.assert_close(student.fc.weight, first[1].fc.weight)


def test_flatness_figures_against_the_full_hessian():
    network, data = MLP((4,), (5,), classes=3), rows()
    before = [p.clone() for p in network.parameters()]
    draw = torch.Generator().manual_seed(0)
    figures = measure_flatness(network, data, probes=300, radius=0.05, generator=draw)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    assert network.fc.weight.dtype == torch.float32
    double = MLP((4,), (5,), classes=3).double()
    double.load_state_dict(network.state_dict())
    loss = lambda: F.cross_entropy(double(data.x.double()), data.y)  # noqa: E731
    hessian = full_hessian(loss, list(double.parameters()))
    assert figures["hessian trace"] == pytest.approx(float(hessian.trace()), rel=0.1)
    assert figures["largest eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=0.02)
    assert figures["training loss"] == pytest.approx(loss().item())


def test_kernel_rounds_on_digits_show_the_known_accuracies():
    short = {"wide": Fit((128,), epochs=1), "flat": Fit((64,), epochs=1)}
    config = replace(EXPERIMENT.config, **short, probes=2)
    cells = [EXPERIMENT.run(seed, config) for seed in range(2)]
    EXPERIMENT.check_cell(cells[0])
    known = {
        "small": (0.848, 0.955, 0.914 - 0.848),
        "middle": (0.952, 0.926, 0.006),
        "large": (0.958, 0.876, 0.946 - 0.958),
    }
    for name, (first, last, gain) in known.items():
        mean = {
            metric: np.mean([cell[f"kernel, {name} ridge"][metric] for cell in cells])
            for metric in ("accuracy", "accuracy last round", "gain of round 1")
        }
        assert mean["accuracy"] == pytest.approx(first, abs=0.02)
        assert mean["accuracy last round"] == pytest.approx(last, abs=0.02)
        assert mean["gain of round 1"] == pytest.approx(gain, abs=0.015)


def test_rounds_are_checked():
    with pytest.raises(ConfigError, match="rounds is 0"):
        self_distillation_rounds(MLP, rows(), SETTING, rounds=0, temperature=1.0, kd_weight=0.5)
    with pytest.raises(ConfigError, match="early_rounds"):
        replace(EXPERIMENT.config, early_rounds=9)
    with pytest.raises(ConfigError, match="flat_rounds"):
        replace(EXPERIMENT.config, flat_rounds=2)  # the comparisons read three rounds
