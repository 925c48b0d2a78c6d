"""Patches, boxes and the softened divergence against worked values and invariants, and the experiment's arms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.data.patches import PatchConfig, change_colors, draw_crops, make_patches, read_patches
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.single_image_kd import EXPERIMENT, SingleImageCell, SingleImageRecipe, as_digits, photograph
from policykd.kd.training.cutmix import Box, cut_box, cutmix, draw_box

TINY = SingleImageRecipe(teacher=Fit((12,), steps=20), student=Fit((6,), epochs=1, batch_size=50), patches=100)


@pytest.mark.parametrize(
    ("temperature", "plain", "scaled"), [(1, 0.657555, 0.657555), (4, 0.078421, 1.254735), (8, 0.020513, 1.312809)]
)
def test_worked_divergences(temperature, plain, scaled):
    student, teacher = torch.zeros(1, 3).double(), torch.tensor([[2.0, 0.0, -2.0]]).double()
    found = float(kf.kd(student, teacher, temperature=temperature, scale_t2=False))
    assert found == pytest.approx(plain, abs=1e-6)
    assert float(kf.kd(student, teacher, temperature=temperature)) == pytest.approx(scaled, abs=2e-6)
    limit = float(kf.kd(student, teacher, temperature=1e3))
    assert limit == pytest.approx(float(teacher.var(unbiased=False)) / 2, rel=1e-3)


def test_worked_boxes():
    assert cut_box(32, 0.75, (16, 16)) == Box(8, 8, 24, 24)
    assert cut_box(32, 0.75, (0, 0)) == Box(0, 0, 8, 8)
    assert 1 - 8 * 8 / 32**2 == 0.9375
    box = cut_box(32, 1.0, (5, 7))
    x = torch.randn(4, 1, 32, 32)
    assert torch.equal(cutmix(x, box), x)


def test_every_pixel_is_its_own_or_the_partners():
    x = torch.arange(5 * 2 * 6 * 6).float().reshape(5, 2, 6, 6)
    before, box = x.clone(), Box(1, 2, 4, 6)
    mixed = cutmix(x, box)
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[1:4, 2:6] = True
    assert torch.equal(mixed[..., ~inside], x[..., ~inside])
    assert torch.equal(mixed[..., inside], x.flip(0)[..., inside])
    assert torch.equal(x, before)
    assert torch.equal(mixed.flatten().sort().values, x.flatten().sort().values)
    drawn = [draw_box(6, np.random.default_rng(seed)) for seed in range(30)]
    assert all(0 <= b.top <= b.bottom <= 6 and 0 <= b.left <= b.right <= 6 for b in drawn)
    assert len(set(drawn)) > 3


def test_crops_have_areas_in_their_range_and_are_inside():
    crops = draw_crops(1920, 2560, 4000, PatchConfig(), seed=0)
    area = crops.size.prod(1)
    assert 960**2 / 500 <= area.min() < 1.05 * 960**2 / 500 + 3000
    assert area.max() <= 960**2
    assert math.sqrt(960**2 / 500) == pytest.approx(42.93, abs=0.01)
    assert np.quantile(area, 0.5) == pytest.approx(960**2 * (1 + 1 / 500) / 2, rel=0.15)
    low, high = crops.center - crops.size / 2, crops.center + crops.size / 2
    assert (low >= 0).all()
    assert (high <= [2560, 1920]).all()
    ratio = crops.size[:, 0] / crops.size[:, 1]
    assert 3 / 4 <= ratio.min() < 0.78
    assert 1.28 < ratio.max() <= 4 / 3


def test_rotated_patches_show_no_black_and_sheared_ones_may():
    picture = torch.ones(3, 200, 300)
    turned = make_patches(picture, 300, PatchConfig(side=16, shear=0.0, jitter=0.0, aspect=1.0), seed=0)
    assert turned.shape == (300, 3, 16, 16)
    assert float(turned.min()) > 0.99
    sheared = make_patches(picture, 300, PatchConfig(side=16, shear=60.0, jitter=0.0), seed=0)
    assert float(sheared.min()) < 0.5


def test_a_patch_without_a_turn_is_the_middle_of_its_crop():
    ramp = torch.arange(64).float().expand(1, 64, 64)
    crops = draw_crops(64, 64, 20, PatchConfig(side=4, rotation=0.0, shear=0.0), seed=1)
    found = read_patches(ramp, crops, 4)
    for patch, center, size in zip(found, crops.center, crops.size, strict=True):
        places = center[0] + (np.array([-3, -1, 1, 3]) / 4) * size[0] / 2 / math.sqrt(2) - 0.5
        np.testing.assert_allclose(patch[0, 2].numpy(), places, atol=0.3)


def test_equal_seeds_give_equal_patches_and_workers_differ():
    picture, config = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), PatchConfig(side=8)
    one = make_patches(picture, 12, config, seed=0)
    assert torch.equal(one, make_patches(picture, 12, config, seed=0))
    assert not torch.equal(one, make_patches(picture, 12, config, seed=1))
    parts = [draw_crops(64, 64, 5, config, 0, worker).center for worker in (0, 1)]
    assert not np.allclose(*parts)
    with pytest.raises(ConfigError, match=r"must be \(C, H, W\)"):
        read_patches(picture[0], draw_crops(64, 64, 2, config, 0), 8)


def test_colors_change_in_some_patches_and_stay_in_range():
    patches = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = change_colors(patches, PatchConfig(jitter=0.5), 0)
    share = float((changed != patches).flatten(1).any(1).double().mean())
    assert 0.35 < share < 0.65
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert torch.equal(change_colors(patches, PatchConfig(jitter=0.0), 0), patches)
    torch.testing.assert_close(change_colors(patches, PatchConfig(strength=0.0), 0), patches)


def test_patches_become_like_digits():
    patches = make_patches(photograph("china"), 50, PatchConfig(side=8), seed=0)
    digits = as_digits(patches, 0)
    assert digits.shape == (50, 64)
    assert float(digits.min()) == 0.0
    assert float(digits.max()) == pytest.approx(1.0)


def test_the_teacher_stays_and_no_real_input_reaches_the_student():
    cell, other = SingleImageCell(0, TINY), SingleImageCell(0, TINY)
    before = [value.clone() for value in cell.teacher.state_dict().values()]
    one = cell.student(cell.inputs("china"), mixed=True)
    assert all(torch.equal(a, b) for a, b in zip(before, cell.teacher.state_dict().values(), strict=True))
    assert other.teacher is not None
    other.train.x.fill_(float("nan"))
    same = other.student(other.inputs("china"), mixed=True)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell


@pytest.mark.parametrize("change", [{"side": 0}, {"zoom": 0.5}, {"aspect": 0.9}, {"jitter": 1.1}])
def test_patches_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        PatchConfig(**change)
