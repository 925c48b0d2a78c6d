"""Every series augmentation: shape, type, determinism, its own identity, and the effect that its docstring states."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd.data.series_augmentations import (
    SERIES_AUGMENTATIONS,
    Chain,
    ChannelDrop,
    Jitter,
    MagnitudeWarp,
    OneOf,
    Permutation,
    RelativeNoise,
    Removal,
    Rotation,
    Scaling,
    Shift,
    SignFlip,
    TimeWarp,
    WindowSlice,
    interpolate,
)

IDENTITY = {
    "jitter": {"deviation": 0.0},
    "scaling": {"deviation": 0.0},
    "rotation": {"angle": 0.0},
    "permutation": None,
    "time_warp": {"deviation": 0.0},
    "magnitude_warp": {"deviation": 0.0},
    "window_slice": {"share": 1.0},
    "channel_drop": {"share": 0.0},
    "sign_flip": {"share": 0.0},
    "removal": {"share": 0.0},
    "shift": {"share": 0.0},
    "relative_noise": {"share": 0.0},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def series(dtype=torch.float32):
    return torch.randn(5, 6, 40, generator=seeded(9)).to(dtype)


def test_the_registry_is_complete_and_names_close_matches():
    assert set(SERIES_AUGMENTATIONS) == set(IDENTITY)
    with pytest.raises(UnknownNameError, match="did you mean jitter"):
        SERIES_AUGMENTATIONS["jiter"]


@pytest.mark.parametrize("options", [{}, {"knots": 1}, {"deviation": 0.7}, {"share": 0.4}, {"angle": 100.0}], ids=str)
@pytest.mark.parametrize("name", IDENTITY)
def test_changed_series_are_the_recorded_ones(name, options, recorded, limits):
    kind = SERIES_AUGMENTATIONS[name]
    if set(options) <= {field.name for field in dataclasses.fields(kind)}:
        short = torch.randn(3, 3, 2, generator=seeded(8))
        changed = [kind(**options)(x, seeded(4)) for x in (series(), short) if name != "permutation" or len(x) > 3]
        recorded("augmentations", f"{name} {options}", {"changed": changed, "limits": limits})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", IDENTITY)
def test_shape_type_and_draws(name, dtype):
    change, x = SERIES_AUGMENTATIONS[name](), series(dtype)
    before = x.clone()
    first, again, other = change(x, seeded()), change(x, seeded()), change(x, seeded(1))
    assert first.shape == x.shape
    assert first.dtype == dtype
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
    if IDENTITY[name] is not None:
        torch.testing.assert_close(SERIES_AUGMENTATIONS[name](**IDENTITY[name])(x, seeded()), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", IDENTITY)
def test_wrong_series_are_refused(name):
    for x in (torch.zeros(3, 6), torch.zeros(3, 6, 8, dtype=torch.int64), torch.zeros(3, 6, 1)):
        with pytest.raises(ValueError, match="series must be floating-point"):
            SERIES_AUGMENTATIONS[name]()(x, seeded())


def test_jitter_and_scaling_have_the_stated_deviation():
    x = torch.ones(200, 4, 100)
    noise = Jitter(0.3)(x, seeded()) - x
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    factors = Scaling(0.2)(x, seeded())
    assert torch.equal(factors, factors[:, :, :1].expand_as(factors))
    assert float(factors[:, :, 0].std()) == pytest.approx(0.2, rel=0.1)


def test_rotation_keeps_lengths_and_angles_of_every_triple():
    x, turned = series(torch.float64), Rotation(180.0)(series(torch.float64), seeded())
    for part in (slice(0, 3), slice(3, 6)):
        gram, gram_turned = (torch.einsum("bct,bcs->bts", y[:, part], y[:, part]) for y in (x, turned))
        torch.testing.assert_close(gram_turned, gram, rtol=1e-5, atol=1e-5)
    triple = torch.linalg.lstsq(x[0, :3].T, turned[0, :3].T).solution
    assert float(torch.linalg.det(triple)) == pytest.approx(1.0, abs=1e-4)  # a rotation, not a reflection
    angle = math.acos((float(triple.trace()) - 1) / 2)
    small = Rotation(5.0)(x, seeded())
    triple = torch.linalg.lstsq(x[0, :3].T, small[0, :3].T).solution
    assert math.acos(min(1.0, (float(triple.trace()) - 1) / 2)) <= math.radians(5.0) + 1e-3 < angle
    with pytest.raises(ValueError, match="triples"):
        Rotation()(torch.zeros(2, 4, 8), seeded())


def test_permutation_keeps_the_steps_and_makes_at_most_as_many_jumps_as_cuts():
    ramp = torch.arange(40.0).expand(6, 2, 40)
    mixed = Permutation(5)(ramp, seeded())
    assert torch.equal(mixed.sort(2).values, ramp)
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    jumps = (mixed[:, 0].diff() != 1).sum(1)
    assert int(jumps.max()) <= 4
    assert int(jumps.min()) >= 1
    with pytest.raises(ConfigError, match="at most the number of steps"):
        Permutation(41)(ramp, seeded())


def test_time_warp_is_monotonic_and_keeps_both_ends():
    ramp = torch.arange(40.0).expand(20, 1, 40)
    warped = TimeWarp(0.5)(ramp, seeded())[:, 0]
    assert bool((warped.diff() > 0).all())
    torch.testing.assert_close(warped[:, 0], torch.zeros(20))
    torch.testing.assert_close(warped[:, -1], torch.full((20,), 39.0))
    assert float((warped - ramp[:, 0]).abs().max()) > 1.0


def test_magnitude_warp_is_smooth():
    curve = MagnitudeWarp(0.2, knots=2)(torch.ones(50, 3, 90), seeded())
    assert float(curve.std()) > 0.1
    assert float(curve.diff(dim=2).abs().max()) < 0.1 * float(curve.max() - curve.min())


def test_window_slice_shows_a_window():
    ramp = torch.arange(40.0).expand(30, 1, 40)
    cut = WindowSlice(0.5)(ramp, seeded())[:, 0]
    torch.testing.assert_close(cut[:, -1] - cut[:, 0], torch.full((30,), 19.5))
    assert float(cut.min()) >= 0
    assert float(cut.max()) <= 39
    assert float(cut[:, 0].std()) > 2


def test_channel_drop_keeps_one_channel():
    dropped = ChannelDrop(0.9)(torch.ones(300, 4, 8), seeded())
    kept = (dropped != 0).all(2)
    assert torch.equal(kept, (dropped != 0).any(2))
    assert bool(kept.any(1).all())
    assert float(kept.float().mean()) == pytest.approx(0.1 + 0.9**4 / 4, abs=0.04)


def test_sign_flip_flips_whole_samples():
    flipped = SignFlip(0.3)(torch.ones(2000, 2, 4), seeded())
    signs = flipped[:, 0, 0]
    assert torch.equal(flipped, signs[:, None, None].expand_as(flipped))
    assert float((signs < 0).float().mean()) == pytest.approx(0.3, abs=0.04)


def test_interpolation_equals_numpy():
    x, places = series(torch.float64), torch.rand(5, 17, generator=seeded(), dtype=torch.float64) * 39
    got = interpolate(x, places)
    for b in range(5):
        for c in range(6):
            np.testing.assert_allclose(got[b, c], np.interp(places[b], np.arange(40), x[b, c]), atol=1e-12)


def test_a_chain_applies_its_parts_in_order():
    x, parts = series(), (Scaling(0.5), Jitter(0.1))
    shared = seeded()
    expected = parts[1](parts[0](x, shared), shared)
    assert torch.equal(Chain(parts)(x, seeded()), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Jitter, {"deviation": -1.0}),
        (Permutation, {"pieces": 1}),
        (WindowSlice, {"share": 0.0}),
        (ChannelDrop, {"share": 1.0}),
    ],
)
def test_impossible_options_are_refused(kind, options):
    with pytest.raises(ConfigError, match="must be in"):
        kind(**options)


COUNT = torch.arange(1.0, 11.0).expand(4000, 1, -1)


def test_removal_sets_one_block_to_zero_of_every_length_and_place():
    found = Removal(0.5)(COUNT, seeded())
    zero = found[:, 0] == 0
    assert torch.equal(found[:, 0][~zero], COUNT[:, 0][~zero])
    lengths, edges = zero.sum(1), (zero[:, 1:] != zero[:, :-1]).sum(1)
    assert lengths.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert bool((edges <= 2).all())
    whole = Removal(0.5)(torch.ones(50, 3, 10), seeded(1))
    assert torch.equal(whole[:, 0], whole[:, 2])  # the same block in all channels
    four = (lengths == 4) & (zero.int().argmax(1) == 3)
    assert found[four][0, 0].tolist() == [1, 2, 3, 0, 0, 0, 0, 8, 9, 10]


def test_shift_rolls_by_every_step_up_to_its_longest():
    found = Shift(0.5)(COUNT, seeded())
    by = found[:, 0].argmin(1)
    assert by.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert found[by == 2][0, 0].tolist() == [9, 10, 1, 2, 3, 4, 5, 6, 7, 8]
    assert torch.equal(found.sort(2).values, COUNT)
    by = Shift(1.0)(COUNT, seeded(1))[:, 0].argmin(1)
    assert torch.bincount(by).argmax() == 0  # a shift by the whole length is none, too


def test_the_order_of_shift_and_removal_places_the_gap():
    class Cut:
        def __call__(self, x, generator):
            return x.masked_fill((torch.arange(10) >= 3) & (torch.arange(10) < 7), 0.0)

    class Two:
        def __call__(self, x, generator):
            return x.roll(2, 2)

    one = COUNT[:1]
    assert Chain((Two(), Cut()))(one, seeded())[0, 0].tolist() == [9, 10, 1, 0, 0, 0, 0, 6, 7, 8]
    assert Chain((Cut(), Two()))(one, seeded())[0, 0].tolist() == [9, 10, 1, 2, 3, 0, 0, 0, 0, 8]


def test_relative_noise_follows_the_deviation_of_its_channel():
    x = torch.randn(200, 2, 500, generator=seeded(3)) * torch.tensor([1.0, 10.0])[:, None]
    noise = RelativeNoise(0.2)(x, seeded()) - x
    np.testing.assert_allclose(noise.std((0, 2)), [0.2, 2.0], rtol=0.02)
    assert float(noise[:, 0].mean().abs()) < 3 * 0.2 / math.sqrt(200 * 500)


def test_one_of_draws_for_every_sample():
    parts = (lambda x, _: x + 1.0, lambda x, _: x + 2.0)
    found = OneOf(parts)(torch.zeros(500, 2, 8), seeded())
    assert sorted(found[:, 0, 0].unique().tolist()) == [1.0, 2.0]
    assert torch.equal(found, found[:, :1, :1].expand_as(found))
    assert 200 < int((found[:, 0, 0] == 1).sum()) < 300
