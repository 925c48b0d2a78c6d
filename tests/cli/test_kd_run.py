"""``policykd kd run``: tables, summary, resuming, and what it says to bad input."""

from dataclasses import dataclass

import pytest

from policykd.cli.main import main
from policykd.errors import check_range
from policykd.kd import systems
from policykd.kd.experiments.experiment import Comparison, Experiment
from policykd.names import Registry
from policykd.storage import read_json


@dataclass(frozen=True)
class Config:
    gain: float = 0.5

    def __post_init__(self):
        check_range("gain", self.gain, 0, 1)
        if self.gain == 0.125:
            raise ValueError("an eighth is too small")  # as configurations of torch's world do


def run(seed, config):
    return {"old": {"score": float(seed)}, "new": {"score": seed + config.gain}}


def toy(name):
    gain = Comparison("score", student="new", baseline="old", better="higher", gate=0.25, text="gain [of new]")
    return Experiment(
        name=name,
        title=name.title(),
        paper="Nobody [2020]",
        claim="New beats old.",
        config=Config(),
        run=run,
        comparisons=(gain,),
        notes=("Only a toy [sic].",),
        seeds=5,
    )


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    registry = Registry("system")
    for name in ("toy", "trinket"):
        registry.register(name, toy(name))
    monkeypatch.setattr(systems, "SYSTEMS", registry)
    monkeypatch.chdir(tmp_path)


def call(*arguments):
    return main(["kd", "run", *arguments, "--workers", "1"])


def test_one_system_prints_arms_comparisons_verdict_and_notes(tmp_path, capsys):
    assert call("toy") == 0
    printed = capsys.readouterr().out
    assert "effect [95 % interval]" in printed
    for text in (
        "Nobody [2020]",
        "New beats old.",
        "2.5 ± 1.6",
        "gain [of new]",
        "+0.5 [+0.5, +0.5]",
        "> 0.25",
        "verdict: shown over 5 seeds",
        "note: Only a toy [sic].",
    ):
        assert text in printed
    assert read_json(tmp_path / "results" / "kd" / "toy" / "result.json")["verdict"] == "shown"
    assert not (tmp_path / "results" / "kd" / "summary.md").exists()


def test_settings_and_seeds_reach_the_run(tmp_path, capsys):
    assert call("toy", "--seeds", "2", "--set", "gain=0.25", "--out", "here") == 0
    stored = read_json(tmp_path / "here" / "toy" / "result.json")
    assert stored["config"] == {"gain": 0.25}
    assert stored["seeds"] == [0, 1]
    assert "too few seeds" in capsys.readouterr().out


def test_all_systems_give_one_summary(tmp_path, capsys):
    assert call("all", "--out", "all") == 0
    lines = (tmp_path / "all" / "summary.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| toy", "| trinket"]
    assert len(read_json(tmp_path / "all" / "summary.json")["systems"]) == 2
    assert "summary.md" in capsys.readouterr().out


def test_a_run_goes_on_only_when_asked(capsys):
    assert call("toy", "--seeds", "1") == 0
    assert call("toy") == 2
    assert "--resume" in " ".join(capsys.readouterr().err.split())
    assert call("toy", "--resume") == 0
    assert "verdict: shown over 5 seeds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a system to run, or all (valid: toy, trinket)"),
        (["trinkets"], "did you mean trinket"),
        (["toy", "--seeds", "0"], "seeds is 0"),
        (["toy", "--set", "gains=1"], "did you mean gain"),
        (["toy", "--set", "gain=2"], "it must be in [0, 1]"),
        (["toy", "--set", "gain=0.125"], "--set gain=0.125: an eighth is too small"),
        (["all", "--set", "gain=1"], "name only that system"),
        (["toy", "--out", "/proc/nowhere"], "cannot write"),
    ],
)
def test_bad_input_is_named_with_the_way_out(arguments, message, capsys):
    assert call(*arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error:")
    assert message in error


def test_bad_worker_numbers_are_refused(capsys):
    assert main(["kd", "run", "toy", "--workers", "0"]) == 2
    assert "workers is 0" in capsys.readouterr().err
