"""Runs: paired to the bit whatever runs beside, resumable, and never mixed with another configuration.

That other processes give the same values is in test_add_a_loss.py, whose run needs them anyway.
"""

import json
from dataclasses import replace

import pytest

from policykd.errors import ConfigError, OutputError
from policykd.kd.benchmark import runner
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.benchmark.runner import run_benchmark
from policykd.kd.benchmark.seed_context import load_seed_context, teacher_path


@pytest.fixture(autouse=True)
def fresh_scenes():
    load_seed_context.cache_clear()


def figures(result, method):
    """All that does not depend on the clock."""
    told = [{k: v for k, v in cell["test"].items() if k != "seconds_per_epoch"} for cell in result.cells[method]]
    return told, [[c["val"] for c in cell["candidates"]] for cell in result.cells[method]]


class Watcher:
    def __init__(self):
        self.ends, self.updates = [], []

    def begin(self, name, total, unit):
        pass

    def update(self, name, done, **figures):
        self.updates.append((name, done))

    def end(self, name, message=""):
        self.ends.append(name)


@pytest.fixture
def ran(monkeypatch):
    """Names of the cells and teachers that were run."""
    names = []
    for name in ("run_cell", "run_teacher"):
        work = getattr(runner, name)

        def noted(job, progress, work=work):
            names.append((getattr(job, "method", "teacher"), job.seed))
            work(job, progress)

        monkeypatch.setattr(runner, name, noted)
    return names


def test_a_run_leaves_everything_and_cross_entropy_does_not_feel_who_runs_beside_it(tiny, tmp_path, recorded):
    watcher = Watcher()
    alone = run_benchmark(tiny("ce"), tmp_path / "alone")
    beside = run_benchmark(tiny("sp", "ft", "kd"), tmp_path / "beside", progress=watcher)
    assert figures(alone, "ce") == figures(beside, "ce")
    assert figures(beside, "kd") != figures(beside, "ce")
    recorded("benchmark", "a run", [{m: figures(beside, m) for m in beside.methods}, beside.teachers], relative=0.02)
    assert alone.teachers == beside.teachers
    assert watcher.ends == ["teachers", "cells"]
    assert watcher.updates[-1] == ("cells", 8)
    files = {path.relative_to(tmp_path / "alone").as_posix() for path in (tmp_path / "alone").rglob("*.*")}
    assert files == {
        ".lock",
        "config.json",
        "result.json",
        *(f"cells/ce-seed{seed}.json" for seed in (0, 1)),
        *(f"teachers/seed-{seed}.safetensors" for seed in (0, 1)),
    }
    assert BenchResult.load(tmp_path / "alone").to_json() == alone.to_json()


def test_resume_runs_what_is_missing_and_nothing_else(tiny, tmp_path, ran):
    whole = run_benchmark(tiny("kd"), tmp_path)
    assert sorted(ran) == [("ce", 0), ("ce", 1), ("kd", 0), ("kd", 1), ("teacher", 0), ("teacher", 1)]
    ran.clear()
    (tmp_path / "cells" / "kd-seed1.json").unlink()
    again = run_benchmark(tiny("kd"), tmp_path, resume=True)
    assert ran == [("kd", 1)]
    assert figures(again, "kd") == figures(whole, "kd")
    ran.clear()
    more = run_benchmark(replace(tiny("kd", "sp"), seeds=3, baseline="kd"), tmp_path, resume=True)
    assert set(ran) == {("teacher", 2), ("ce", 2), ("kd", 2), *(("sp", seed) for seed in range(3))}
    assert (more.seeds, more.baseline, more.methods) == (3, "kd", ("ce", "kd", "sp"))


def test_an_interrupted_run_continues_to_the_same_result(tiny, tmp_path, monkeypatch):
    whole = run_benchmark(tiny("kd"), tmp_path / "whole")
    work, calls = runner.run_cell, []

    def interrupted(job, progress):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        work(job, progress)

    monkeypatch.setattr(runner, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(tiny("kd"), tmp_path / "cut")
    assert not (tmp_path / "cut" / "result.json").exists()
    monkeypatch.setattr(runner, "run_cell", work)
    assert figures(run_benchmark(tiny("kd"), tmp_path / "cut", resume=True), "kd") == figures(whole, "kd")


def test_another_configuration_in_the_folder_is_refused_by_field(tiny, tmp_path):
    config = tiny()
    run_benchmark(config, tmp_path)
    with pytest.raises(OutputError, match="already holds a run; continue it with --resume"):
        run_benchmark(config, tmp_path)
    slower = replace(config, train=replace(config.train, optimizer=replace(config.train.optimizer, lr=0.01)))
    with pytest.raises(ConfigError, match=r"train.optimizer.lr: 0.05 in the folder, 0.01 now"):
        run_benchmark(slower, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="tune: 1 in the folder, 2 now"):
        run_benchmark(replace(config, tune=2), tmp_path, resume=True)


def test_damaged_files_are_named(tiny, tmp_path):
    config, cell = tiny(), tmp_path / "cells" / "kd-seed0.json"
    run_benchmark(config, tmp_path)
    good = cell.read_text()
    for bad in ("{", json.dumps({**json.loads(good), "seed": 4}), json.dumps({"method": "kd", "seed": 0})):
        cell.write_text(bad)
        with pytest.raises(OutputError, match=r"kd-seed0.json.*delete it"):
            run_benchmark(config, tmp_path, resume=True)
    cell.unlink()
    load_seed_context.cache_clear()
    teacher_path(tmp_path, 0).write_bytes(b"nothing")
    with pytest.raises(OutputError, match=r"seed-0.safetensors.*delete"):
        run_benchmark(config, tmp_path, resume=True)


def test_a_method_that_cannot_run_is_refused_before_anything_is_written(tiny, tmp_path):
    from policykd.kd.benchmark.reference import bench_config

    options = {"train": 12, "val": 6, "test": 6, "length": 16}
    with pytest.raises(ConfigError, match=r"method fitnet cannot run on task timeseries: .*leave it out"):
        run_benchmark(bench_config("timeseries", ("ce", "fitnet"), task_options=options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tree", [[1, 2], {"seed": 4}, {}])
def test_a_file_that_is_not_the_teacher_of_the_seed_is_named(tmp_path, tree):
    from policykd.kd.benchmark.seed_context import _read_teacher
    from policykd.kd.training import checkpoint

    path = teacher_path(tmp_path, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, tree)
    with pytest.raises(OutputError, match="is not the teacher of seed 3"):
        _read_teacher(tmp_path, 3)
    checkpoint.save(path, {"seed": 3, "weights": {}})
    assert _read_teacher(tmp_path, 3)["weights"] == {}
