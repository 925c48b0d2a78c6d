"""Settings: defaults are the presets, every space has the same size, and its first candidate is the default."""

import pytest

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd.benchmark.reference import bench_config
from policykd.kd.benchmark.settings import MOST_CANDIDATES, candidates, default_setting
from policykd.kd.registry import LOSSES
from policykd.kd.tasks import available
from policykd.plain import as_plain


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_spaces_have_equal_size_and_no_candidate_twice(name):
    space = candidates(name, MOST_CANDIDATES)
    assert len(space) == MOST_CANDIDATES == 15
    assert len({repr(setting) for setting in space}) == MOST_CANDIDATES
    assert (space[0].weight, space[0].lr_factor) == (default_setting(name).weight, 1.0)
    assert [setting.lr_factor for setting in space] == [1.0] * 5 + [0.5] * 5 + [2.0] * 5
    assert candidates(name, 4) == space[:4]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_space_is_the_recorded_one(name, recorded):
    first, *others = candidates(name, MOST_CANDIDATES)
    tuned = ("temperature", "label_smoothing")
    varied = [[one.weight, one.lr_factor, *(one.options.get(key) for key in tuned)] for one in others[:6]]
    recorded("settings", name, {"default": as_plain(first), "others": varied})


def test_reference_configurations_are_the_recorded_ones(recorded, limits):
    found = {task: as_plain(bench_config(task, ("ce", "at"), epochs=7, tune=2, seeds=3)) for task in available()}
    found["own epochs"] = {task: as_plain(bench_config(task, ("ce",))) for task in available()}
    recorded("settings", "reference", {"configurations": found, "limits": limits})


def test_logit_losses_try_temperatures_and_cross_entropy_tries_smoothing():
    assert [(s.weight, s.options["temperature"]) for s in candidates("kd", 5)] == [
        (0.9, 4.0),
        (0.9, 2.0),
        (0.9, 8.0),
        (pytest.approx(0.3), 4.0),
        (pytest.approx(2.7), 4.0),
    ]
    assert [s.options["label_smoothing"] for s in candidates("ce", 3)] == [0.0, 0.1, 0.05]
    assert {s.options["temperature"] for s in candidates("crd", 15)} == {0.1}  # a contrast's, left alone
    assert len({s.weight for s in candidates("sp", 5)}) == 5


def test_presets_exist_and_are_followed():
    unpublished = {"balanced_kl", "binary_kd", "ground_truth_mse", "modality_gram", "multi_teacher_kd"}
    unpublished |= {"bce", "mse", "gaussian_nll", "gaussian_kl"}
    assert {name for name in LOSSES if not LOSSES[name].default} == {"ce", "cwtm", "mse_logits"} | unpublished
    kd, dkd, mse = default_setting("kd"), default_setting("dkd"), default_setting("mse_logits")
    assert (kd.weight, kd.ce_weight, kd.options) == (0.9, 0.1, {"temperature": 4.0})
    assert dkd.warmup == pytest.approx(20 / 240)
    assert (mse.weight, mse.ce_weight, mse.preset) == (1.0, 1.0, "")
    for name in ("ce", "cwtm"):  # their own term is the labels'
        assert (default_setting(name).weight, default_setting(name).ce_weight) == (1.0, 0.0)
    at = default_setting("at")
    assert (at.weight, at.preset) == (10.0, "repdistiller, its weight times 0.01")
    lowered = {name: LOSSES[name].weight_factor for name in LOSSES if LOSSES[name].weight_factor != 1.0}
    assert lowered == {"ab": 0.1, "at": 0.01, "fsp": 0.01, "nst": 0.1, "rkd": 0.1}


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="tune is 16"):
        candidates("kd", 16)
    with pytest.raises(UnknownNameError, match="did you mean dkd"):
        candidates("dkdd", 1)
    with pytest.raises(UnknownNameError, match="valid: ab"):
        default_setting("nothing")
