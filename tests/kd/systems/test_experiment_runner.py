"""Running experiments: cells by seed, whole or not at all, resumed without being run again."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.kd.experiments.experiment import Comparison, Experiment
from policykd.kd.experiments.results import Result
from policykd.kd.experiments.runner import run_experiment
from policykd.storage import read_json


@dataclass(frozen=True)
class Config:
    log: str = ""  # a file that every run of a cell adds its seed to
    gain: float = 0.5
    breaks_at: int | None = None


def run(seed, config):
    if config.log:
        with Path(config.log).open("a") as file:
            file.write(f"{seed} ")
    if seed == config.breaks_at:
        raise KeyboardInterrupt
    drawn = float(torch.rand(()))  # from torch's global stream, as a careless system might
    return {"old": {"score": drawn}, "new": {"score": drawn + config.gain, "threads": float(torch.get_num_threads())}}


def diverging(seed, config):
    return {"old": {"score": 1.0}, "new": {"score": float("inf") if seed == 1 else 1.0}}


TOY = Experiment(
    name="toy",
    title="Toy",
    paper="None",
    claim="New is better.",
    config=Config(),
    run=run,
    comparisons=(Comparison("score", student="new", baseline="old", better="higher", gate=0.25, text="gain"),),
    seeds=6,
)


def ran(path):
    return [int(seed) for seed in path.read_text().split()] if path.exists() else []


@pytest.fixture
def logged(tmp_path):
    return Config(log=str(tmp_path / "log"))


def test_a_run_saves_cells_configuration_and_result(tmp_path, logged, limits):
    before = torch.get_rng_state()
    result = run_experiment(TOY, tmp_path / "out", config=logged)
    assert torch.equal(torch.get_rng_state(), before)
    assert ran(tmp_path / "log") == list(range(6))
    assert result.verdict == "shown"
    assert result.outcomes[0].effect.estimate == pytest.approx(0.5)
    assert len(set(result.values["old"]["score"])) == 6  # every seed has a stream of its own
    assert set(result.values["new"]["threads"]) == {1.0}
    assert limits == {"seeds": [[1, 10_000]], "first": [[0, 10**9]]}
    stored = read_json(tmp_path / "out" / "result.json")
    assert Result.from_json(stored) == result
    assert read_json(tmp_path / "out" / "config.json") == {
        "system": "toy",
        "config": {"log": logged.log, "gain": 0.5, "breaks_at": None},
    }
    cell = read_json(tmp_path / "out" / "cells" / "seed-3.json")
    assert cell["arms"]["old"]["score"] == result.values["old"]["score"][3]
    assert sorted(p.name for p in (tmp_path / "out" / "cells").iterdir()) == [f"seed-{n}.json" for n in range(6)]


def test_finished_cells_are_not_run_again_and_missing_ones_are(tmp_path, logged):
    first = run_experiment(TOY, tmp_path / "out", config=logged)
    (tmp_path / "out" / "cells" / "seed-2.json").unlink()
    (tmp_path / "log").unlink()
    second = run_experiment(TOY, tmp_path / "out", config=logged, resume=True)
    assert ran(tmp_path / "log") == [2]
    assert replace(second, seconds=0.0) == replace(first, seconds=0.0)


def test_more_seeds_add_cells_and_fewer_drop_none(tmp_path, logged):
    run_experiment(TOY, tmp_path / "out", config=logged, seeds=2)
    more = run_experiment(TOY, tmp_path / "out", config=logged, seeds=5, resume=True)
    assert ran(tmp_path / "log") == [0, 1, 2, 3, 4]
    fewer = run_experiment(TOY, tmp_path / "out", config=logged, seeds=2, resume=True)
    assert ran(tmp_path / "log") == [0, 1, 2, 3, 4]
    assert fewer.values["old"]["score"] == more.values["old"]["score"][:2]
    assert (fewer.verdict, more.verdict) == ("too few seeds", "shown")


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    whole = run_experiment(TOY, tmp_path / "whole", seeds=5)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(TOY, tmp_path / "broken", config=Config(breaks_at=3), seeds=5)
    assert not (tmp_path / "broken" / "result.json").exists()
    assert len(list((tmp_path / "broken" / "cells").iterdir())) == 3
    # the same configuration but for what broke it
    stored = tmp_path / "broken" / "config.json"
    stored.write_text(stored.read_text().replace('"breaks_at": 3', '"breaks_at": null'))
    resumed = run_experiment(TOY, tmp_path / "broken", seeds=5, resume=True)
    assert resumed.values == whole.values


class Elsewhere:
    """Runs jobs as other processes would see them: pickled, and in an order of its own."""

    def map(self, work, jobs, progress):
        jobs = [pickle.loads(pickle.dumps(job)) for job in jobs]
        return [work(job, progress) for job in reversed(jobs)]


def test_any_executor_gives_the_same_numbers(tmp_path):
    torch.manual_seed(1)
    inline = run_experiment(TOY, tmp_path / "a", seeds=5)
    torch.manual_seed(2)
    spread = run_experiment(TOY, tmp_path / "b", seeds=5, executor=Elsewhere())
    assert spread.values == inline.values
    assert spread.outcomes == inline.outcomes


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    run_experiment(TOY, tmp_path, seeds=1)
    with pytest.raises(OutputError, match="--resume"):
        run_experiment(TOY, tmp_path, seeds=1)
    with pytest.raises(ConfigError, match=r"gain: 0\.5 in the folder, 0\.75 now"):
        run_experiment(TOY, tmp_path, config=Config(gain=0.75), seeds=1, resume=True)
    with pytest.raises(ConfigError, match="system: toy in the folder, other now"):
        run_experiment(replace(TOY, name="other"), tmp_path, seeds=1, resume=True)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", OutputError, "not valid JSON"),
        ('{"seed": 1, "seconds": 1.0, "arms": {}}', OutputError, "not the cell of seed 0"),
        ('{"seed": 0, "seconds": 1.0, "arms": {"old": {"score": "high"}}}', OutputError, "delete it"),
        ('{"seed": 0, "arms": {"old": {"score": 1.0}}}', OutputError, "delete it"),
        ('{"seed": 0, "seconds": 1.0, "arms": {"old": {"score": 1.0}}}', UnknownNameError, "unknown arm of toy 'new'"),
    ],
)
def test_damaged_cells_are_named_and_not_trusted(tmp_path, content, error, message):
    run_experiment(TOY, tmp_path, seeds=1)
    (tmp_path / "cells" / "seed-0.json").write_text(content)
    with pytest.raises(error, match=message):
        run_experiment(TOY, tmp_path, seeds=1, resume=True)


def test_a_diverged_cell_stops_the_run_and_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="score of arm 'new' is inf"):
        run_experiment(replace(TOY, run=diverging), tmp_path, seeds=3)
    assert [p.name for p in (tmp_path / "cells").iterdir()] == ["seed-0.json"]


@pytest.mark.parametrize("seeds", [0, -1])
def test_a_run_needs_seeds(tmp_path, seeds):
    with pytest.raises(ConfigError, match="seeds"):
        run_experiment(TOY, tmp_path / "out", seeds=seeds)
    assert not (tmp_path / "out").exists()


def test_results_are_strict_json(tmp_path):
    run_experiment(TOY, tmp_path, seeds=5)
    json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
