"""The configuration says what is wrong before anything runs."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd.benchmark.config import load_task, make_network
from policykd.kd.benchmark.placements import placement_of
from policykd.kd.benchmark.reference import bench_config
from policykd.kd.registry import LOSSES
from policykd.kd.tasks import available


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (("digit",), {}, UnknownNameError, "unknown task 'digit'; did you mean digits"),
        (("digits", ("ce", "kdd")), {}, UnknownNameError, "unknown loss 'kdd'; did you mean"),
        (("digits", ("ce", "kd")), {"baseline": "cee"}, UnknownNameError, "did you mean ce"),
        (("digits", ("kd",)), {}, ConfigError, "baseline 'ce' is not among the methods"),
        (("digits", ("ce",)), {"seeds": 1}, ConfigError, "seeds is 1: fewer than two show no spread"),
        (("digits", ("ce",)), {"tune": 0}, ConfigError, r"tune is 0; it must be in \[1, 15\]"),
        (("digits", ("ce",)), {"epochs": 0}, ConfigError, "epochs is 0"),
    ],
)
def test_refusals(arguments, options, error, words):
    with pytest.raises(error, match=words):
        bench_config(*arguments, **options)


def test_task_options_are_checked_when_the_task_is_loaded():
    with pytest.raises(UnknownNameError, match="option of task textures: 'sid'"):
        load_task(bench_config("textures", ("ce",), task_options={"sid": 8}), 0)
    with pytest.raises(UnknownNameError, match="'seed'"):
        load_task(bench_config("textures", ("ce",), task_options={"seed": 8}), 0)
    with pytest.raises(ConfigError, match="task textures: similarity must be in"):
        load_task(bench_config("textures", ("ce",), task_options={"similarity": 2.0}), 0)
    with pytest.raises(ConfigError, match="root"):
        load_task(bench_config("cifar10", ("ce",)), 0)


def test_seeds_belong_to_the_protocol(tiny):
    config = tiny()
    with pytest.raises(ConfigError, match=r"train\.seed is 3"):
        replace(config, train=replace(config.train, seed=3))


def test_networks_by_name(tiny):
    task = load_task(tiny(), 0)
    with pytest.raises(ConfigError, match="not 'resnet8'"):
        make_network("resnet8", task.student, task)
    with pytest.raises(ConfigError, match="depth 6 n"):
        make_network("resnet9:1,1,1,1", task.student, task)
    series = load_task(bench_config("timeseries", ("ce",), task_options={"train": 12, "val": 6, "test": 6}), 0)
    with pytest.raises(ConfigError, match="takes images"):
        make_network("resnet8:1,1,1,1", series.student, series)
    assert make_network("task", series.student, series).fc.out_features == 6


def test_all_is_every_loss_that_a_benchmark_can_place_on_the_tasks_that_ship():
    placed = tuple(name for name in LOSSES if not placement_of(name).unavailable)
    assert set(LOSSES) - set(placed) >= {"sskd", "bce", "mse", "gaussian_nll", "gaussian_kl"}
    assert bench_config("digits").methods == placed
    small = {"train": 10, "val": 10, "test": 10}
    textures = bench_config("textures", task_options=small)
    assert textures.methods == placed
    assert dict(textures.task_options) == {"side": 16, **small}
    assert {"digits", "textures"} <= set(available())


def test_seeds_split_data_differently_and_a_seed_always_alike():
    config = bench_config("digits", ("ce",))
    first, again, other = (load_task(config, seed).test.x for seed in (0, 0, 1))
    assert bool((first == again).all())
    assert first.shape != other.shape or not bool((first == other).all())
