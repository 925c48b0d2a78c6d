"""Benchmarks of quick merges and of additions without the old worlds: settings of the arms, and tables from JSON."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.merge.presets import MERGE_PRESETS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import doc_tables
import merge_seconds
import old_worlds
import optimizers
from doc_figures import importing


def test_text_between_markers_is_replaced_and_nothing_else():
    page = "head\n<!-- a -->\nold\n<!-- end a -->\ntail\n"
    assert doc_tables.between(page, "a", "new") == "head\n<!-- a -->\nnew\n<!-- end a -->\ntail\n"
    for bad in ("none", page + page, "<!-- end a --> <!-- a -->"):
        with pytest.raises(OutputError, match="<!-- a --> and <!-- end a -->"):
            doc_tables.between(bad, "a", "new")
    assert doc_tables.markdown(("x", "y"), [("1", "2")]) == "| x | y |\n| --- | --- |\n| 1 | 2 |"


@pytest.mark.parametrize("name", [merge_seconds.MARKER, old_worlds.MARKER])
def test_the_page_has_a_place_for_every_table(name):
    page = (Path(__file__).parents[2] / "docs" / "merging.md").read_text()
    assert "| filled |" in doc_tables.between(page, name, "| filled |")


def test_a_cell_has_the_presets_settings_and_its_seed():
    options = merge_seconds.Options(experts=(Path("a/flat"), Path("a/gaps")), set=("rounds=9",))
    assert merge_seconds.config_of(options, 2) == replace(MERGE_PRESETS["fast"], seed=2, rounds=9)
    assert merge_seconds.command_of(options).endswith(
        "--experts a/flat a/gaps --preset fast --set rounds=9 --episodes 256"
    )
    quick = merge_seconds.config_of(replace(options, quick=True), 0)
    assert (quick.stop, quick.rounds, quick.updates_for(10**6)) == ("confirmed", 2, 5)


def test_a_row_names_the_weakest_skill_with_its_interval():
    cell = {
        "robot": "biped", "settings": "fast", "seed": 1, "seconds": 12.34, "states": 49152,
        "phase_seconds": {"collection": 3.0, "fitting": 5.0, "validation": 4.34},
        "skills": {"biped/flat": {"retention": [1.0, 0.99, 1.01]}, "biped/gaps": {"retention": [0.97, 0.95, 0.98]}},
    }  # fmt: skip
    assert merge_seconds.row_of(cell) == [
        "biped, fast", "1", "12.3", "3.0, 5.0, 4.3", "49,152", "gaps 0.970 (0.950 to 0.980)", "flat 1.000, gaps 0.970",
    ]  # fmt: skip
    assert merge_seconds.table_of([cell, cell]).count("\n") == 3


def test_optimizers_differ_in_their_steps_only():
    steps = ("optimizer", "learning_rate", "step_length")
    for config in optimizers.ARMS.values():
        assert replace(config, **{name: getattr(optimizers.BASE, name) for name in steps}) == optimizers.BASE
    cells = [{"optimizer": "Adam", "steps": 1600, "loss": loss, "seconds": 4.0 * loss} for loss in (2.0, 4.0)]
    cells.append({"optimizer": "K-FAC", "steps": 100, "loss": 0.5, "seconds": 1.0})
    assert optimizers.rows_of(cells) == [
        ("Adam", "1,600", "3.00000 (2.00000 to 4.00000)", "12.0"),
        ("K-FAC", "100", "0.50000 (0.50000 to 0.50000)", "1.0"),
    ]


def test_arms_differ_in_their_protection_only():
    plain = old_worlds.config_of("none", 3)
    for arm, changes in old_worlds.ARMS.items():
        config = old_worlds.config_of(arm, 3)
        assert config == replace(plain, **changes)
        assert (config.rounds, config.envs, config.updates, config.seed, config.start) == (4, 32, 1600, 3, "previous")
        assert (config.target_retention, config.loss) == (2.0, "forward_kl")
    assert {old_worlds.config_of(f"replay {n} %", 0).replay_share for n in (1, 10, 100)} == {0.01, 0.1, 1.0}
    assert old_worlds.config_of(None, 3).start == "random"
    with pytest.raises(UnknownNameError):
        old_worlds.config_of("replay 2 %", 0)
    for options in (old_worlds.Options(), old_worlds.Options(experts=(Path("a"),))):
        with pytest.raises(ConfigError, match="at least two experts"):
            old_worlds.main(options)
    with pytest.raises(ConfigError, match="give the experts"):
        merge_seconds.main(merge_seconds.Options())


def test_the_table_has_the_student_before_and_every_arm():
    before = {"biped/flat": {"retention": [1.0, 0.9, 1.1]}, "biped/gaps": {"retention": [0.1, 0.0, 0.2]}}
    after = {"biped/flat": {"retention": [0.5, 0.4, 0.6]}, "biped/gaps": {"retention": None}}
    cells = [
        {"arm": arm, "seed": 0, "old": ["biped/flat"], "states": 1000, "student": before, "skills": after}
        for arm in ("none", "ewc")
    ]
    assert old_worlds.table_of(cells).splitlines() == [
        "| arm | seed | states | flat | gaps (new) |",
        "| --- | --- | --- | --- | --- |",
        "| before | 0 |  | 1.000 (0.900 to 1.100) | 0.100 (0.000 to 0.200) |",
        "| none | 0 | 1,000 | 0.500 (0.400 to 0.600) | - |",
        "| ewc | 0 | 1,000 | 0.500 (0.400 to 0.600) | - |",
    ]


def test_what_a_task_lost_is_in_its_row_and_in_the_mean():
    row = {"task": "reach", "expert": 1.0, "learned": 0.9, "student": 0.88, "low": 0.7, "high": 0.95, "forgotten": 0.02}
    means = {"expert": 1.0, "learned": 0.9, "student": 0.88, "forgotten": 0.02}
    assert importing.metaworld_one_by_one({"tasks": [row], **means}) == [
        ("reach", "1.00", "0.90", "0.88 [0.70, 0.95]", "0.02"), ("mean", "1.000", "0.900", "0.880", "0.020"),
    ]  # fmt: skip
