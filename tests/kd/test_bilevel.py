"""Gradients through descents against finite differences, one graph, and what a linear model allows to work out."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from policykd.kd.networks import MLP
from policykd.kd.training.bilevel import descend, look_ahead_gradient, unrolled_gradient


def square(parameters, inputs, step):
    return 0.5 * (inputs["x"] @ parameters["w"] - inputs["y"]).square().sum()


def one_point(start, eta=0.1, c=1.0, goal=(2.0, 1.0)):
    """Return the point that takes a linear model from (0.5, -1) to its goal in one step, applied to another start."""
    w0, goal = torch.tensor([0.5, -1.0]), torch.tensor(goal)
    d = goal - w0
    inputs = {"x": c * d, "y": 1 / (eta * c) + c * d @ w0}
    found = descend(square, {"w": torch.tensor(start)}, inputs, torch.tensor([eta]))
    return inputs, found["w"].tolist()


def test_one_point_is_enough_for_a_linear_model_and_its_own_start_alone():
    inputs, reached = one_point((0.5, -1.0))
    assert inputs["x"].tolist() == [1.5, 2.0]
    assert float(inputs["y"]) == pytest.approx(8.75)
    assert reached == pytest.approx([2.0, 1.0])
    assert one_point((0.0, 0.0))[1] == pytest.approx([1.3125, 1.75])


def test_fewer_points_than_dimensions_keep_a_part_of_the_start():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, generator=generator), torch.randn(2, generator=generator)
    normal = torch.linalg.cross(x[0], x[1])
    for start in (torch.randn(3, generator=generator), torch.randn(3, generator=generator)):
        reached = descend(square, {"w": start}, {"x": x, "y": y}, torch.full((7,), 0.05))["w"]
        assert float(reached @ normal) == pytest.approx(float(start @ normal), rel=1e-4)


def problem(steps=3):
    torch.manual_seed(0)
    network = MLP((4,), (6,), classes=3).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    real, y = torch.randn(9, 4, generator=generator, dtype=torch.float64), torch.arange(9) % 3
    labels = torch.tensor([0, 1, 2, 0, 1])

    def inner(parameters, inputs, step):
        return F.cross_entropy(functional_call(network, parameters, (inputs["x"][step % 2],)), labels)

    def outer(parameters):
        return F.cross_entropy(functional_call(network, parameters, (real,)), y)

    start = {name: value.detach() for name, value in network.named_parameters()}
    return inner, outer, start, {"x": x}, torch.linspace(0.5, 0.9, steps, dtype=torch.float64)


def after(inner, outer, start, inputs, rates):
    return outer(descend(inner, start, inputs, rates))


def test_gradients_equal_finite_differences_and_those_of_one_graph():
    inner, outer, start, inputs, rates = problem()
    value, of_inputs, of_rates = unrolled_gradient(inner, outer, start, inputs, rates)
    x, eta = inputs["x"].clone().requires_grad_(), rates.clone().requires_grad_()
    graph = after(inner, outer, start, {"x": x}, eta)
    by_graph = torch.autograd.grad(graph, (x, eta))
    torch.testing.assert_close(value, graph.detach())
    torch.testing.assert_close(of_inputs["x"], by_graph[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(of_rates, by_graph[1], rtol=1e-9, atol=1e-12)
    for place in [(0, 0, 0), (0, 3, 2), (1, 4, 3)]:
        shift = torch.zeros_like(inputs["x"])
        shift[place] = 1e-5
        up, down = (float(after(inner, outer, start, {"x": inputs["x"] + s}, rates)) for s in (shift, -shift))
        assert float(of_inputs["x"][place]) == pytest.approx((up - down) / 2e-5, rel=1e-5)
    for place in range(3):
        shift = torch.zeros_like(rates)
        shift[place] = 1e-5
        up, down = (float(after(inner, outer, start, inputs, rates + s)) for s in (shift, -shift))
        assert float(of_rates[place]) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_without_steps_or_rates_the_data_have_no_gradient():
    inner, outer, start, inputs, rates = problem()
    value, of_inputs, of_rates = unrolled_gradient(inner, outer, start, inputs, rates[:0])
    assert float(value) == float(outer(start))
    assert of_rates.shape == (0,)
    assert float(of_inputs["x"].abs().max()) == 0.0
    assert float(unrolled_gradient(inner, outer, start, inputs, 0 * rates)[1]["x"].abs().max()) == 0.0


def test_the_order_within_a_block_is_free_and_that_of_blocks_is_not():
    inner, outer, start, inputs, rates = problem(2)
    labels_kept = torch.tensor([3, 1, 2, 0, 4])  # rows 0 and 3 have one label
    same = {"x": inputs["x"][:, labels_kept]}
    value = after(inner, outer, start, inputs, rates)
    torch.testing.assert_close(after(inner, outer, start, same, rates), value)
    swapped = after(inner, outer, start, {"x": inputs["x"].flip(0)}, rates)
    assert float(swapped) != pytest.approx(float(value), rel=1e-6)


def test_looking_ahead_equals_finite_differences():
    _, outer, start, inputs, _ = problem()
    labels = torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(0)
    network = MLP((4,), (6,), classes=3).double()

    def inner(parameters, weights):
        logits = functional_call(network, parameters, (inputs["x"][0],))
        return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()

    def ahead(weights):
        given = {name: value.clone().requires_grad_() for name, value in start.items()}
        gradients = torch.autograd.grad(inner(given, weights), list(given.values()))
        return float(outer({n: v - 0.7 * g for (n, v), g in zip(start.items(), gradients, strict=True)}))

    weights = torch.linspace(0.1, 1.5, 5, dtype=torch.float64)
    found = look_ahead_gradient(inner, outer, start, weights, 0.7)
    for place in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[place] = 1e-5
        difference = (ahead(weights + shift) - ahead(weights - shift)) / 2e-5
        assert float(found[place]) == pytest.approx(difference, rel=1e-6)
