"""Losses of the generator, self-paced weights and schedules against worked values, and the experiment's arms."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.data_free import (
    NormStatistics,
    adversarial_loss,
    adversarial_weight,
    age_after,
    balance_entropy,
    certainty_loss,
    paced_loss,
    paced_weights,
    statistics_distance,
)
from policykd.kd.experiments.system import Fit
from policykd.kd.networks import MLP
from policykd.kd.systems.cudfkd import EXPERIMENT, CuDFKDRecipe, Curriculum, DataFree, mean_weight

LOSSES = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
TEACHER = torch.tensor([[4.0, 0, 0], [0, 3, 1], [1, 1, 2]], dtype=torch.float64)
STUDENT = torch.tensor([[2.0, 0, 0], [1, 0, 0], [0, 0, 2]], dtype=torch.float64)
TINY = CuDFKDRecipe(teacher=Fit((8, 6), steps=20), epochs=4, rounds=1, student_steps=2, samples=32, latent=4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hard", [1, 1, 1, 0, 0]),
        ("soft", [1, 0.666667, 0.333333, 0, 0]),
        ("log", [1, 0.894180, 0.761349, 0.461781, 0.223130]),
    ],
)
def test_worked_weights(kind, expected):
    found = paced_weights(LOSSES, 1.5, kind)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    ages = torch.stack([paced_weights(LOSSES, age, kind) for age in (0.5, 1.5, 4.0, 1e4)])
    assert bool((ages.diff(dim=0) >= 0).all())
    assert bool((ages.diff(dim=1) <= 0).all())
    torch.testing.assert_close(ages[-1], torch.ones(5, dtype=torch.float64), atol=1e-3, rtol=0)


def regularizer(v, age, kind):
    if kind == "hard":
        return -age * v
    if kind == "soft":
        return age / 2 * (v.square() - 2 * v)
    u = 1 + math.exp(-age) - v
    return torch.special.xlogy(u, u) + torch.special.xlogy(v, v) - age * v


@pytest.mark.parametrize("kind", ["hard", "soft", "log"])
def test_weights_minimize_their_objective(kind):
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    values = grid[:, None] * LOSSES + regularizer(grid, 1.5, kind)[:, None]
    torch.testing.assert_close(grid[values.argmin(0)], paced_weights(LOSSES, 1.5, kind), atol=1e-4, rtol=0)


def test_sums_of_the_regularizers_and_ends_of_the_logarithmic_weight():
    assert float(regularizer(paced_weights(LOSSES, 1.5, "hard"), 1.5, "hard").sum()) == pytest.approx(-4.5)
    assert float(regularizer(paced_weights(LOSSES, 1.5, "soft"), 1.5, "soft").sum()) == pytest.approx(
        -1.833333, abs=1e-6
    )
    ends = paced_weights(torch.tensor([0.0, 1.5], dtype=torch.float64), 1.5)
    assert ends.tolist() == pytest.approx([1.0, (1 + math.exp(-1.5)) / 2])


def test_schedules():
    ages = [age_after(400 * epoch, start=2.0, growth=1e-4) for epoch in (0, 1, 50, 249)]
    assert ages == pytest.approx([2, 2.04, 4, 11.96])
    weights = [adversarial_weight(epoch, 250, begin=0.25, end=0.75, step=0.5) for epoch in range(251)]
    raised = [epoch for epoch in range(250) if weights[epoch + 1] > weights[epoch]]
    assert (raised[0], raised[-1]) == (63, 186)
    assert (weights[0], weights[-1]) == (0.0, 62.0)
    assert adversarial_weight(0, 8, begin=0.25, end=0.75, step=0.5, start=1.0) == 1.0


def test_worked_losses_of_the_generator():
    assert float(certainty_loss(TEACHER)) == pytest.approx(0.252422, abs=1e-6)
    assert TEACHER.softmax(1).mean(0).tolist() == pytest.approx([0.406205, 0.357802, 0.235994], abs=1e-6)
    assert float(balance_entropy(TEACHER)) == pytest.approx(1.074452, abs=1e-6)
    assert float(balance_entropy(10 * torch.eye(3))) == pytest.approx(math.log(3))
    assert float(adversarial_loss(STUDENT, TEACHER)) == pytest.approx(-0.199688, abs=1e-6)
    rows = [-float(adversarial_loss(STUDENT[[k]], TEACHER[[k]])) for k in range(3)]
    assert rows == pytest.approx([0.476159, 0.0, 0.122905], abs=1e-6)  # they differ about the second row
    p, q = (TEACHER / 3).softmax(1), (STUDENT / 3).softmax(1)
    m = (p + q) / 2
    jsd = 0.5 * ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)).mean()
    assert float(adversarial_loss(STUDENT, TEACHER, kind="js")) == pytest.approx(1 - float(jsd))


def test_worked_distance_of_statistics():
    x = torch.tensor([[1.0, 2], [3, 4], [5, 0]], dtype=torch.float64)
    mean, variance = torch.tensor([2.0, 2.0]).double(), torch.tensor([1.0, 2.0]).double()
    assert float(statistics_distance(x, mean, variance)) == pytest.approx(2.795055, abs=1e-6)
    assert float(statistics_distance(x, x.mean(0), x.var(0, unbiased=False))) == 0.0
    image = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    rows = image.permute(0, 2, 3, 1).reshape(-1, 3)
    one = statistics_distance(image, torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(one, statistics_distance(rows, torch.zeros(3), torch.ones(3)))


def test_statistics_of_all_layers_of_the_last_pass():
    torch.manual_seed(0)
    network, x = MLP((3,), (5, 4), classes=2, norm=True).eval(), torch.randn(6, 3, requires_grad=True)
    watched = NormStatistics(network)
    with watched.attached():
        network(torch.randn(6, 3))
        network(x)
    network(10 * x)  # no longer watched
    first = network.hidden1[0](x)
    second = network.hidden2[0](network.hidden1(x))
    expected = sum(statistics_distance(z, torch.zeros(z.shape[1]), torch.ones(z.shape[1])) for z in (first, second))
    torch.testing.assert_close(watched.value(), expected)
    watched.value().backward()
    assert float(x.grad.abs().sum()) > 0
    assert torch.equal(network.hidden1[1].running_mean, torch.zeros(5))
    with pytest.raises(ConfigError, match="no batch normalization"):
        NormStatistics(nn.Linear(2, 2))


def test_the_paced_loss_is_plain_distillation_for_old_age_and_has_no_gradient_through_weights():
    student = STUDENT.clone().requires_grad_()
    plain = kf.kd(student, TEACHER, temperature=2.0)
    torch.testing.assert_close(paced_loss(student, TEACHER, 1e4, temperature=2.0), plain, rtol=1e-3, atol=0)
    losses = kf.kd(student, TEACHER, temperature=2.0, reduction="none")
    weights = paced_weights(losses, 1.0)
    value = paced_loss(student, TEACHER, 1.0, temperature=2.0)
    torch.testing.assert_close(value, (weights * losses).mean())
    expected = torch.autograd.grad((weights * losses).mean(), student, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(value, student)[0], expected)
    whole = paced_loss(STUDENT, TEACHER, 1.0, temperature=2.0, per_sample=False)
    torch.testing.assert_close(whole, paced_weights(losses.mean().detach()[None], 1.0)[0] * losses.mean().detach())


def test_weights_of_fixed_losses_rise_with_updates():
    values = [mean_weight(LOSSES, updates, Curriculum()) for updates in (0, 100, 500, 2000)]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_no_real_sample_reaches_the_students():
    task = DataFree(0, TINY)
    other = DataFree(0, TINY)
    other.train.x.fill_(float("nan"))
    for plan in (Curriculum(), Curriculum(age=0.0), Curriculum(statistics_weight=0.0)):
        one, same = (each.of_generator(plan)[0].state_dict().values() for each in (task, other))
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    before = [p.clone() for p in task.teacher.state_dict().values()]
    task.of_inputs(task.noise)
    assert all(torch.equal(a, b) for a, b in zip(before, task.teacher.state_dict().values(), strict=True))


def test_generated_samples_fit_the_statistics_better_than_noise():
    task = DataFree(0, replace(TINY, epochs=30))
    _, make = task.of_generator(Curriculum())
    watched, values = NormStatistics(task.teacher), []
    for x in (task.samples(make, 200), torch.rand(200, 64, generator=torch.Generator().manual_seed(0))):
        with watched.attached(), torch.no_grad():
            logits = task.teacher(x)
        values.append((float(watched.value()), float(certainty_loss(logits))))
    assert values[0][0] < 0.5 * values[1][0]
    assert F.softmax(logits, 1).shape == (200, 10)


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    assert cell["cudfkd"] != cell["no curriculum"]


def test_a_middle_part_that_ends_before_it_begins_is_refused():
    with pytest.raises(ConfigError, match="swap"):
        Curriculum(adversary_begin=0.8)
    with pytest.raises(ConfigError, match="statistics_weight"):
        Curriculum(statistics_weight=-1.0)
