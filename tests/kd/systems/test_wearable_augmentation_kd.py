"""Augmentation in distillation: worked values of the loss, windows of both worlds, pairing of arms, the experiment."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.data.series_augmentations import Chain, Shift
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.wearable_augmentation_kd import (
    CYCLES,
    EXPERIMENT,
    WearableCell,
    WearableRecipe,
    augmented_loss,
    draw_windows,
)
from policykd.kd.training.batches import Batch

TINY = replace(
    EXPERIMENT.config,
    teacher=Fit((6,), epochs=1),
    student=Fit((4,), steps=3, batch_size=10),
    teacher_samples=60,
    student_samples=20,
    test_samples=30,
    length=16,
)


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.given, self.seen = torch.tensor([logits]), []

    def forward(self, x):
        self.seen.append(x.clone())
        return self.given.expand(len(x), -1)


def batch(count=1, steps=16):
    x = torch.arange(float(count * steps)).reshape(count, 1, steps)
    return Batch(x, torch.full((count,), 2), torch.arange(count), (count,))


@pytest.mark.parametrize(
    ("kd_weight", "expected"), [(0.7, 0.389857), (0.99, 0.382504), (0.0, 0.407606), (1.0, 0.382250)]
)
def test_the_worked_loss(kd_weight, expected):
    recipe = WearableRecipe(kd_weight=kd_weight, ce_weight=1.0 - kd_weight, temperature=4.0)
    loss = augmented_loss(Fixed([2.0, 1.0, 4.0]), None, recipe, 0)
    assert float(loss(Fixed([1.0, 2.0, 3.0]), batch(), 0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", TINY.augmentations)
def test_a_teacher_that_is_the_student_sees_the_same_window_and_costs_nothing(name):
    recipe = replace(TINY, kd_weight=1.0, ce_weight=0.0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    loss = augmented_loss(network, recipe.augmentations[name], recipe, 5)
    assert float(loss(network, batch(6), 0).detach()) == pytest.approx(0.0, abs=1e-6)


def test_both_networks_see_one_augmented_batch_and_equal_seeds_equal_ones():
    seen = []
    for _ in range(2):
        student, teacher = Fixed([1.0, 0.0, 0.0]), Fixed([0.0, 1.0, 0.0])
        augmented_loss(teacher, Shift(1.0), TINY, 3)(student, batch(5), 0)
        assert torch.equal(student.seen[0], teacher.seen[0])
        seen.append(student.seen[0])
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], batch(5).x)


def test_mixtures_shift_first():
    for name, count in (("mix1", 2), ("mix2", 3)):
        mixture = TINY.augmentations[name]
        assert isinstance(mixture, Chain)
        assert isinstance(mixture.parts[0], Shift)
        assert len(mixture.parts) == count


def test_waves_have_the_speed_of_their_class_and_any_phase():
    recipe = replace(EXPERIMENT.config, disturbance=0.0)
    data = draw_windows(400, "moving", recipe, np.random.default_rng(0))
    spectrum = torch.fft.rfft(data.x[:, 0]).abs()
    assert torch.equal(spectrum.argmax(1), torch.tensor(CYCLES)[data.y])
    first = torch.fft.rfft(data.x[:, 0]).angle()[torch.arange(400), torch.tensor(CYCLES)[data.y]]
    counts = torch.histc(first, 4, -np.pi, np.pi)
    assert float(counts.min()) > 60


def test_bumps_are_at_the_place_of_their_class():
    recipe = replace(EXPERIMENT.config, disturbance=0.0)
    data = draw_windows(200, "fixed", recipe, np.random.default_rng(0))
    assert torch.equal(data.x[:, 0].argmax(1) // 16, data.y)
    assert sorted(data.y.unique().tolist()) == [0, 1, 2, 3]


def test_students_get_the_teachers_first_windows():
    cell = WearableCell(0, TINY, "fixed")
    assert len(cell.few) == 20
    assert torch.equal(cell.few.x, cell.train.x[:20])
    assert not torch.equal(WearableCell(0, TINY, "moving").train.x, cell.train.x)


@pytest.mark.parametrize("change", [{"removal": 1.1}, {"shift": -0.1}, {"noise": -1.0}, {"length": 8}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        WearableRecipe(**change)


def test_a_small_cell_repeats_and_has_all_arms():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert len(cell) == 2 * (3 + 7 + 2)
