"""Executors of Ray and submitit: order, progress, errors of jobs, and jobs whose worker is killed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from policykd.cli.main import main
from policykd.errors import ConfigError, MissingDependencyError, OutputError, UnknownNameError
from policykd.executor import Inline, Processes
from policykd.executors import make_executor
from remote_jobs import die, die_once, fail, square

PRESENT = {name: importlib.util.find_spec(name) is not None for name in ("ray", "submitit")}
KINDS = [
    pytest.param("ray", marks=pytest.mark.skipif(not PRESENT["ray"], reason="needs ray")),
    pytest.param("local", marks=pytest.mark.skipif(not PRESENT["submitit"], reason="needs submitit")),
]


class Notes:
    """Progress that takes notes."""

    def __init__(self):
        self.notes = []

    def begin(self, name, total, unit):
        self.notes.append(("begin", name, total, unit))

    def update(self, name, done, **figures):
        self.notes.append(("update", name, done, figures))

    def end(self, name, message=""):
        self.notes.append(("end", name, message))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let workers import the jobs, which are in a module next to this one."""
    monkeypatch.setenv("PYTHONPATH", ":".join(str(path) for path in (Path(__file__).parent, *filter(None, sys.path))))
    if PRESENT["submitit"]:  # seconds that submitit waits for the result of a job that has ended
        monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_in_order_and_progress_arrives(kind, tmp_path):
    told, notes = [], Notes()
    results = make_executor(kind, 2, tmp_path).map(square, [0, 1, 2], notes, told.append)
    assert results == [0, 1, 4]
    assert sorted(told) == [0, 1, 4]
    for job in range(3):
        own = [note for note in notes.notes if note[1] == f"job {job}"]
        assert own == [
            ("begin", f"job {job}", 1, "squares"),
            ("update", f"job {job}", 1, {"square": job * job}),
            ("end", f"job {job}", "done"),
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_a_job_is_raised_as_itself(kind, tmp_path):
    with pytest.raises(ConfigError, match="job 1 is wrong"):
        make_executor(kind, 2, tmp_path).map(fail, [0, 1, 2], Notes())


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_whose_worker_is_killed_is_started_again(kind, tmp_path):
    jobs = [str(tmp_path / f"mark{i}") for i in range(2)]
    assert make_executor(kind, 2, tmp_path).map(die_once, jobs, Notes()) == ["second attempt"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_always_dies_ends_the_run(kind, tmp_path):
    with pytest.raises(OutputError, match="job 0 ended 4 times without a result"):
        make_executor(kind, 1, tmp_path).map(die, [str(tmp_path / "marks")], Notes())
    assert (tmp_path / "marks").read_text() == "xxxx"


@pytest.mark.parametrize("kind", KINDS)
def test_a_benchmark_is_the_same_wherever_it_runs(kind, tmp_path):
    sizes = [f"{name}={size}" for name, size in (("train", 40), ("val", 20), ("test", 20), ("side", 8))]
    command = ["kd", "bench", "--task", "textures", "--methods", "ce,kd", "--seeds", "2", "--epochs", "1"]
    small = ("student=resnet8:2,2,2,2", "teacher=resnet8:2,2,4,4", "teacher_train.epochs=1")
    command += ["--task-option", *sizes, "--set", *small]
    values = []
    for name in ("inline", kind):
        assert main([*command, "--executor", name, "--workers", "2", "--out", str(tmp_path / name)]) == 0
        cells = json.loads((tmp_path / name / "result.json").read_text())["cells"]
        tests = [cell["test"] for method in ("ce", "kd") for cell in cells[method]]
        values.append([{name: value for name, value in test.items() if "seconds" not in name} for test in tests])
    assert values[0] == values[1]


def test_names_and_extras(tmp_path, monkeypatch):
    assert isinstance(make_executor("processes", 1, tmp_path), Inline)
    assert isinstance(make_executor("processes", 2, tmp_path), Processes)
    assert isinstance(make_executor("inline", 2, tmp_path), Inline)
    with pytest.raises(UnknownNameError, match="ray, slurm"):
        make_executor("rya", 1, tmp_path)
    for package, kind in (("ray", "ray:auto"), ("submitit", "slurm")):
        monkeypatch.setitem(sys.modules, package, None)
        extra = kind.partition(":")[0]
        with pytest.raises(MissingDependencyError, match=rf"policykd\[{extra}\]"):
            make_executor(kind, 1, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_workers_are_refused(kind, tmp_path):
    with pytest.raises(ConfigError, match="workers"):
        make_executor(kind, 0, tmp_path)
