"""Overlapping parts, permuted weights and the mixed loss against worked values, and the arms of the experiment."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.averaged import averaging_after
from policykd.kd.experiments.system import Fit
from policykd.kd.stochastic_teachers import (
    PUBLISHED_WEIGHTS,
    PermutedWeights,
    mixed_teachers_kd,
    random_parts,
    without_one_fold,
)
from policykd.kd.systems.ros_kd import EXPERIMENT, RoSKDCell, RoSKDRecipe, mixed
from policykd.kd.training.averaging import Averaging, WeightAverage
from policykd.kd.training.batches import Batch

TINY = RoSKDRecipe(
    teacher=Fit((8,), epochs=2, batch_size=256), student=Fit((6,), epochs=3, batch_size=256), average_start=1
)
STUDENT = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
TEACHERS = torch.tensor([[[3.0, 0.0]], [[2.0, 1.0]], [[1.0, 1.0]], [[0.0, 2.0]]], dtype=torch.float64)


def test_every_sample_is_in_all_parts_but_one():
    parts = without_one_fold(12, 4, 0)
    assert [len(part) for part in parts] == [9, 9, 9, 9]
    assert all(len(np.intersect1d(a, b)) == 6 and len(np.union1d(a, b)) == 12 for a, b in combinations(parts, 2))
    assert (np.bincount(np.concatenate(parts), minlength=12) == 3).all()
    assert not np.array_equal(parts[0], without_one_fold(12, 4, 1)[0])


def test_random_parts_overlap_by_the_square_of_their_share():
    parts = random_parts(4000, 3, 0.75, 0)
    assert [len(part) for part in parts] == [3000] * 3
    shared = [len(np.intersect1d(a, b)) / 4000 for a, b in combinations(parts, 2)]
    assert shared == pytest.approx([0.5625] * 3, abs=0.03)
    assert len(np.unique(parts[0])) == 3000


def value(weights, **options):
    return float(mixed_teachers_kd(STUDENT, TEACHERS, torch.tensor(weights, dtype=torch.float64), **options))


def test_worked_values():
    assert value(PUBLISHED_WEIGHTS) == pytest.approx(0.556883, abs=1e-6)
    assert value(PUBLISHED_WEIGHTS[::-1]) == pytest.approx(0.561321, abs=1e-6)
    hard = float(F.cross_entropy(STUDENT, torch.tensor([0])))
    assert hard == pytest.approx(0.474077, abs=1e-6)
    assert 0.9 * value(PUBLISHED_WEIGHTS) + 0.1 * hard == pytest.approx(0.548602, abs=1e-6)


def test_all_orders_together_weigh_teachers_equally():
    mean = np.mean([value(order) for order in permutations(PUBLISHED_WEIGHTS)])
    assert mean == pytest.approx(0.402968, abs=1e-6)
    assert value([0.25] * 4) == pytest.approx(mean)


def test_one_teacher_is_plain_distillation_and_equal_teachers_give_zero():
    one = mixed_teachers_kd(STUDENT, TEACHERS[:1], torch.ones(1), temperature=3.0)
    torch.testing.assert_close(one, kf.kd(STUDENT, TEACHERS[0], temperature=3.0))
    same = STUDENT.expand(4, 1, 2)
    assert float(mixed_teachers_kd(STUDENT, same, torch.tensor(PUBLISHED_WEIGHTS))) == pytest.approx(0.0, abs=1e-6)


def test_several_labels_add_the_divergences_of_single_decisions():
    student, teacher, t = torch.tensor([[0.5, -1.0]]), torch.tensor([[[2.0, 0.3]]]), 3.0
    q, p = torch.sigmoid(student / t), torch.sigmoid(teacher[0] / t)
    expected = t**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()
    found = mixed_teachers_kd(student, teacher, torch.ones(1), temperature=t, multilabel=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_orders_depend_on_seed_and_step_alone():
    weights = PermutedWeights(seed=3)
    orders = [weights.at(step) for step in range(40)]
    resumed = PermutedWeights(seed=3)
    assert all(torch.equal(resumed.at(step), orders[step]) for step in range(20, 40))
    assert all(sorted(order.tolist()) == sorted(orders[0].tolist()) for order in orders)
    firsts = np.bincount([int(order.argmax()) for order in orders], minlength=4)
    assert (firsts > 0).all()
    assert any(
        not torch.equal(a, b) for a, b in zip(orders, (PermutedWeights(seed=4).at(s) for s in range(40)), strict=True)
    )


@pytest.mark.parametrize("weights", [(), (0.5, 0.4), (1.5, -0.5)])
def test_weights_sum_to_one(weights):
    with pytest.raises(ConfigError, match="must not be negative and must sum to 1"):
        PermutedWeights(weights, seed=0)


def test_averages_begin_after_their_start():
    point = torch.nn.Linear(1, 2, bias=False)
    average = WeightAverage(Averaging("swa", start=1))
    after = averaging_after(average, point)
    for epoch, weight in enumerate([(9.0, 9.0), (1.0, 2.0), (3.0, 0.0), (5.0, 4.0)]):
        with torch.no_grad():
            point.weight.copy_(torch.tensor(weight)[:, None])
        after(epoch)
        if epoch == 2:
            assert average.values["weight"].flatten().tolist() == [2.0, 1.0]
    assert average.values["weight"].flatten().tolist() == [3.0, 2.0]


def test_a_step_adds_the_noisy_labels_and_the_teachers_in_the_drawn_order():
    cell = RoSKDCell(0, TINY)
    student, rows = cell.network("student", TINY.student), torch.tensor([5, 2, 9])
    batch = Batch(cell.train.x[rows], cell.train.y[rows], rows, (3,))
    loss = mixed(cell, cell.of_parts)
    logits = student(batch.x)
    for step in range(2):
        soft = mixed_teachers_kd(logits, cell.of_parts[:, rows], PermutedWeights(seed=0).at(step))
        torch.testing.assert_close(loss(student, batch, 0), 0.9 * soft + 0.1 * F.cross_entropy(logits, batch.targets))


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    assert cell["ce, averaged"] != cell["ce"]
    without = EXPERIMENT.run(0, replace(TINY, epsilon=0.0))
    assert all(own["fgsm accuracy"] == own["pgd accuracy"] == own["accuracy"] for own in without.values())
    assert [without[arm]["accuracy"] for arm in cell] == [own["accuracy"] for own in cell.values()]


@pytest.mark.parametrize(
    "change", [{"weights": (1.0,)}, {"average_start": 150}, {"epsilon": 1.5}, {"label_noise": 1.1}]
)
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        RoSKDRecipe(**change)
