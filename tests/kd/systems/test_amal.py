"""Weights of samples against worked values, the general gradient and finite differences, and the experiment's arms."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from policykd.errors import ConfigError
from policykd.kd.adaptive_mixing import FLOOR, MixingWeights, logits_ahead, loss_gradients, mixing_gradient
from policykd.kd.experiments.system import Fit, plain_kd
from policykd.kd.systems.amal import EXPERIMENT, Adaptive, AMALCell, AMALRecipe, fixed_mix, weighted_losses
from policykd.kd.training.batches import Batch
from policykd.kd.training.bilevel import look_ahead_gradient

TINY = AMALRecipe(
    teacher=Fit((8,), epochs=1), student=Fit((6,), epochs=5, batch_size=200), refine_every=2, fixed=(0.5, 0.0)
)


def toy():
    """Return gradients, features and held-out values of the card's two rows, in float64."""
    logits, teacher = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([[2.0, 0.0]] * 2, dtype=torch.float64)
    gradients = loss_gradients(logits, torch.tensor([0, 1]), teacher[None])
    ones = torch.ones(2, 1, dtype=torch.float64)
    return gradients, ones, torch.zeros(1, 2, dtype=torch.float64), ones[:1], torch.tensor([0])


def test_worked_values():
    gradients, features, held_logits, held_features, target = toy()
    assert gradients[:, 0].tolist() == [[-0.5, 0.5], [0.5, -0.5]]
    assert gradients[0, 1].tolist() == pytest.approx([-0.489837, 0.489837], abs=1e-6)
    weights = torch.tensor([[0.1, 0.9]] * 2, dtype=torch.float64)
    ahead = logits_ahead(weights, gradients, features, held_logits, held_features, step=0.05)
    assert ahead[0].tolist() == pytest.approx([0.088171, -0.088171], abs=1e-6)
    assert float(F.cross_entropy(ahead, target)) == pytest.approx(0.608858, abs=1e-6)
    slope = mixing_gradient(weights, gradients, features, held_logits, held_features, target, step=0.05)
    assert slope.flatten().tolist() == pytest.approx([-0.045603, -0.044676, 0.045603, -0.044676], abs=1e-6)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(5.0, [0.328014, 1.123380, 1e-7, 1.123380]), (1500.0, [2 - 1e-7, 2 - 1e-7, 1e-7, 2 - 1e-7])],
)
def test_a_wrong_label_loses_its_weight(rate, expected):
    gradients, *rest = toy()
    mixing = MixingWeights(2, 1)
    mixing.values = mixing.values.double()
    mixing.refine(torch.arange(2), gradients, *rest, step=0.05, rate=rate, updates=1)
    assert mixing.values.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def problem(teachers=2):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layer = nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(draw(3, 4))
    features, held, taught = draw(6, 4), draw(5, 4), draw(teachers, 6, 3)
    return layer, features, torch.arange(6) % 3, taught, held, torch.arange(5) % 3, draw(6, teachers + 1).abs()


def test_the_closed_form_equals_the_gradient_through_a_step_of_the_last_layer():
    layer, features, target, taught, held, held_target, weights = problem()
    rate, batch = 0.7, 6

    def inner(parameters, given):
        logits = functional_call(layer, parameters, (features,))
        return weighted_losses(logits, target, taught, given, 4.0)

    def outer(parameters):
        return F.cross_entropy(functional_call(layer, parameters, (held,)), held_target)

    expected = look_ahead_gradient(inner, outer, dict(layer.named_parameters()), weights, rate)
    gradients = loss_gradients(layer(features), target, taught).detach()
    found = mixing_gradient(weights, gradients, features, layer(held).detach(), held, held_target, step=rate / batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_gradients_at_the_logits_are_those_of_the_losses():
    _, _, target, taught, *_ = problem()
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found = loss_gradients(logits, target, taught, temperature=3.0).detach()
    for column in range(3):
        weights = torch.zeros(6, 3, dtype=torch.float64)
        weights[:, column] = 6.0  # the loss is a mean over six rows
        value = weighted_losses(logits, target, taught, weights, 3.0)
        torch.testing.assert_close(found[:, column], torch.autograd.grad(value, logits)[0])


def test_permuting_teachers_permutes_the_columns():
    layer, features, target, taught, held, held_target, _ = problem()
    found = []
    for teachers in (taught, taught.flip(0)):
        mixing = MixingWeights(6, 2)
        gradients = loss_gradients(layer(features), target, teachers).detach().float()
        held_logits = layer(held).detach().float()
        rest = (features.float(), held_logits, held.float(), held_target)
        mixing.refine(torch.arange(6), gradients, *rest, step=0.1, rate=3.0)
        found.append(mixing.values)
    torch.testing.assert_close(found[0][:, [0, 2, 1]], found[1])


def test_weights_stay_in_their_range_and_other_rows_do_not_change():
    layer, features, target, taught, held, held_target, _ = problem()
    mixing, rows = MixingWeights(6, 2), torch.tensor([4, 1])
    before = mixing.values.clone()
    gradients = loss_gradients(layer(features), target, taught).detach().float()[rows]
    rest = (features.float()[rows], layer(held).detach().float(), held.float(), held_target)
    mixing.refine(rows, gradients, *rest, step=0.1, rate=1e4)
    moved = mixing.values[rows]
    assert bool(((moved - FLOOR).abs() < 1e-6).logical_or((moved - 2 + FLOOR).abs() < 1e-6).all())
    kept = torch.tensor([0, 2, 3, 5])
    assert torch.equal(mixing.values[kept], before[kept])


def test_held_out_data_that_are_fitted_change_nothing():
    gradients, features, _, held_features, target = toy()
    mixing = MixingWeights(2, 1)
    fitted = torch.tensor([[1e4, -1e4]])
    mixing.refine(
        torch.arange(2), gradients.float(), features.float(), fitted, held_features.float(), target, step=0.1, rate=99.0
    )
    assert mixing.values.flatten().tolist() == pytest.approx([0.1, 0.9, 0.1, 0.9])


def test_a_constant_mix_is_plain_distillation():
    cell = AMALCell(0, replace(TINY, ce_weight=0.3, kd_weight=0.7))
    student, rows = cell.network("student", TINY.student), torch.tensor([3, 8, 1])
    batch = Batch(cell.train.x[rows], cell.train.y[rows], rows, (3,))
    mixed = fixed_mix(cell, cell.taught[1][None], 0.3)(student, batch, 0)
    torch.testing.assert_close(mixed, plain_kd(cell.taught[1], cell.recipe)(student, batch, 0))


def test_weights_are_refined_between_epochs_and_leave_the_student_alone():
    cell = AMALCell(0, TINY)
    student, rows = cell.network("student", TINY.student).train(), torch.arange(5)
    batch, adaptive = Batch(cell.train.x[rows], cell.train.y[rows], rows, (5,)), Adaptive(cell, cell.taught[1][None])
    before = [p.clone() for p in student.parameters()]
    changed = []
    for epoch in (0, 1, 2, 2, 3, 4):
        old = adaptive.mixing.values.clone()
        adaptive(student, batch, epoch)
        changed.append(not torch.equal(old, adaptive.mixing.values))
    assert changed == [False, False, True, False, False, True]
    assert student.training
    assert all(torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    assert cell["best fixed mix"] in (cell["fixed mix 0.5"], cell["fixed mix 0"])


@pytest.mark.parametrize("change", [{"start": 1.1}, {"fixed": (1.2,)}, {"kappa": 0.0}, {"shares": (0.5, 0.5)}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError):
        AMALRecipe(**change)
