"""The ablation: every variant is a valid merge of its own, tables say what the cells say, finished cells stay."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policykd.errors import ConfigError, UnknownNameError
from policykd.progress import Silent
from policykd.storage import write_json

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from ablation import AXES, BASE, Options, cells_of, markdown, run_cell, summary

EXPERTS = (Path("a"), Path("b"))


def test_cells_are_distinct_and_change_one_choice(tmp_path):
    cells = cells_of(Options(EXPERTS, seeds=2, out=tmp_path))
    assert len(cells) == 2 * sum(len(variants) for variants in AXES.values())
    assert len({cell.folder for cell in cells}) == len(cells)
    for cell in cells:
        fields = AXES[cell.axis][cell.variant]
        assert replace(cell.config, **{name: getattr(BASE, name) for name in fields}, seed=0) == BASE
    assert [cell.config.seed for cell in cells] == sorted(cell.config.seed for cell in cells)


def test_unknown_axes_and_single_experts_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean noise"):
        cells_of(Options(EXPERTS, axes=("noises",), out=tmp_path))
    with pytest.raises(ConfigError, match="at least two"):
        cells_of(Options(EXPERTS[:1], out=tmp_path))


def cell(seed, retention, reached):
    return {
        "axis": "loss",
        "variant": "mse",
        "seed": seed,
        "last_retention": {"x": retention, "y": 1.0},
        "last_success": {"x": 0.5, "y": 1.0},
        "best_retention": {"x": 0.9, "y": 1.0},
        "states_to_retention": {"0.95": reached, "0.98": None},
        "masked": {"x": 0.5, "y": 0.0},
        "cpu_seconds": 30.0,
    }


def test_rows_are_means_and_ranges_over_seeds():
    (row,) = summary([cell(0, 0.8, 1000), cell(1, 0.9, None)])
    assert row["least retention"] == "0.850 (0.800 to 0.900)"
    assert row["mean retention"] == "0.925"
    assert row["states to 0.95"] == "1,000 (1/2)"
    assert row["masked"] == "25.0%"
    assert markdown([row]).count("\n") == 3


def test_a_finished_cell_is_read_and_not_run(tmp_path):
    first = cells_of(Options(EXPERTS, out=tmp_path))[0]  # its experts do not exist: running it would fail
    first.folder.mkdir(parents=True)
    write_json(first.folder / "cell.json", cell(0, 0.8, None))
    assert run_cell(first, Silent()) == cell(0, 0.8, None)
