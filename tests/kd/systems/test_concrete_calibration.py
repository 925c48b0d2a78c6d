"""Simplex temperature scaling: worked values of its density and mean, mixtures, kept decisions, the experiment."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import RelaxedOneHotCategorical

from policykd.errors import ConfigError
from policykd.kd.calibration import fit_temperature
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.concrete_calibration import (
    EXPERIMENT,
    Branch,
    CalibrationCell,
    CalibrationRecipe,
    mean_probabilities,
    mixtures,
    simplex_loss,
)
from policykd.kd.tasks.base import Split
from policykd.relaxed import concrete_log_sample, gumbel_noise
from policykd.seeding import generator

LOGITS = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
TINY = replace(
    EXPERIMENT.config,
    teacher=Fit((9, 7), steps=20, batch_size=400),
    student=Fit((5,), steps=6, batch_size=8),
    betas=(0.2, 1.0),
    draws=5,
)


def test_the_loss_is_the_worked_density_and_torchs():
    heat, target = torch.tensor([0.8]).double(), torch.tensor([[0.6, 0.3, 0.1]]).double()
    found = float(simplex_loss(LOGITS, heat, target))
    assert found == pytest.approx(-0.875947, abs=1e-6)
    assert found + math.log(2) == pytest.approx(-0.182800, abs=1e-6)
    theirs = RelaxedOneHotCategorical(torch.tensor(0.8).double(), logits=LOGITS)
    assert found == pytest.approx(-float(theirs.log_prob(target)), rel=1e-10)
    assert float(simplex_loss(LOGITS + 3.0, heat, target)) == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize(
    ("heat", "means"),
    [(0.25, (0.6547, 0.2507, 0.0945)), (1.0, (0.5690, 0.2891, 0.1418)), (4.0, (0.4161, 0.3270, 0.2568))],
)
def test_means_have_the_worked_values_the_order_of_the_logits_and_shrink(heat, means):
    found = mean_probabilities(LOGITS.expand(20_000, -1), heat, draws=20, seed=1).mean(0)
    np.testing.assert_allclose(found, means, atol=0.003)
    assert found.argsort(descending=True).tolist() == [0, 1, 2]
    assert float(found[0]) < float(LOGITS.softmax(1)[0, 0])


@pytest.mark.parametrize("odds", [3.0, 10.0])
def test_two_classes_at_temperature_one_have_a_closed_mean(odds):
    logits = torch.tensor([[math.log(odds), 0.0]]).double()
    found = mean_probabilities(logits.expand(20_000, -1), 1.0, draws=20, seed=0).mean(0)
    expected = odds / (odds - 1) - odds * math.log(odds) / (odds - 1) ** 2
    assert float(found[0]) == pytest.approx(expected, abs=0.003)


def one_hot_images(per_class=3):
    labels = torch.arange(10).repeat(per_class)
    return Split(torch.eye(10)[labels], labels)


def test_mixtures_hold_one_sample_of_every_class_with_their_weights():
    x, weights = mixtures(one_hot_images(), 400, 0.7, generator(0, "t"))
    torch.testing.assert_close(x, weights)  # every class is its own axis
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(weights.mean(0), 0.1, atol=0.03)


@pytest.mark.parametrize(("beta", "largest"), [(1e7, 0.1), (1e-3, 1.0)])
def test_weights_between_equal_and_one_hot(beta, largest):
    _, weights = mixtures(one_hot_images(), 50, beta, generator(0, "t"))
    np.testing.assert_allclose(weights.amax(1).median(), largest, atol=2e-3)
    assert float(weights.min()) > 0


def test_calibration_changes_neither_the_classifier_nor_its_decisions():
    cell = CalibrationCell(0, TINY)
    before = {name: value.clone() for name, value in cell.teacher.state_dict().items()}
    decided = cell.said(cell.test)[1].argmax(1)
    branch = cell.branch(0.5, (5,))
    for name, value in cell.teacher.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in cell.teacher.parameters() if not p.requires_grad)
    accuracy = float((decided == cell.test.y).double().mean())
    assert cell.figures(cell.with_branch(branch, cell.test), cell.test)["accuracy"] == accuracy
    assert torch.equal(cell.said(cell.test)[1].argmax(1), decided)


def test_a_branch_learns_a_known_temperature():
    """Targets that are drawn from the distribution at temperature 2 lead to that temperature."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 4, generator=rng)
    target = concrete_log_sample(logits, gumbel_noise((4000, 4), generator=rng), temperature=2.0).exp()
    branch = Branch(4, ())
    optimizer = torch.optim.Adam(branch.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        simplex_loss(logits, branch(logits), target).backward()
        optimizer.step()
    assert float(branch(logits[:1]).detach()) == pytest.approx(2.0, rel=0.05)


def test_every_branch_starts_positive():
    assert float(Branch(3, ())(torch.zeros(2, 3))[0]) == pytest.approx(1.0, abs=1e-4)
    assert bool((Branch(3, (4,))(torch.randn(6, 3)) > 0).all())


@pytest.mark.parametrize(
    ("change", "match"),
    [({"betas": ()}, "betas"), ({"betas": (0.0,)}, "betas"), ({"student": Fit((4,), epochs=1)}, "steps")],
)
def test_configurations_out_of_range_are_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        CalibrationRecipe(**change)


def test_a_small_cell_repeats_and_all_arms_decide_alike():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert len({arm["accuracy"] for arm in cell.values()}) == 1
    assert len({arm["ece"] for arm in cell.values()}) == 4


def test_temperature_scaling_divides_the_logits_by_what_fits_the_validation_data():
    cell = CalibrationCell(0, TINY)
    heat = fit_temperature(cell.said(cell.validation)[1], cell.validation.y)
    logits = cell.said(cell.test)[1]
    arms = cell.calibrated()
    torch.testing.assert_close(arms["temperature scaling"](cell.test), (logits / heat).softmax(1))
    torch.testing.assert_close(arms["not calibrated"](cell.test), logits.softmax(1))
    assert abs(float(heat) - 1.0) > 0.05, "the control: dividing by the temperature is not multiplying with it"
