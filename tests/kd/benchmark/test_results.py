"""Results: effects and verdicts from every seed's value, the same after a trip through JSON, in every table."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
import tyro
from scipy.stats import ttest_rel

from policykd.cli.commands.kd_bench import KdBench, _config
from policykd.errors import OutputError
from policykd.kd.benchmark.below import below_baseline
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.benchmark.settings import candidates
from policykd.kd.benchmark.table import command, interval_text, markdown, paper_table, remarks, rich_table, rows
from policykd.kd.experiments.decisions import holm
from policykd.kd.experiments.power import smallest_effect
from policykd.plain import as_plain
from policykd.report.pages.benchmark import write_bench_page
from policykd.stats import Interval
from policykd.storage import write_json

SHIFT = {"ce": 0.0, "kd": 0.03, "sp": 0.0, "at": -0.05}


@pytest.fixture
def result(tiny):
    """Six seeds of made-up values: kd better, at worse, sp the same as ce."""

    def make(seeds=6, **changes):
        rng = np.random.default_rng(0)
        config = tiny("kd", "sp", "at", **changes)
        cells = []
        for seed in range(seeds):
            common = 0.8 + rng.normal(0, 0.05)
            for method in config.methods:
                value = common + SHIFT[method] + rng.normal(0, 0.004)
                test = {name: value if m.better == "higher" else 1 - value for name, m in MEASURES.items()}
                times = {"seconds": 60.0, "seconds_prepared": 1.0, "seconds_per_epoch": 5.0}
                tried = [{"setting": as_plain(s), "val": {}, **times} for s in candidates(method, config.tune)]
                cells.append({"method": method, "seed": seed, "chosen": 0, "test": test, "candidates": tried})
        teachers = [{"val": {}, "test": {"accuracy": 0.9, "ece": 0.01, "brier": 0.1, "nll": 0.2}}] * seeds
        return BenchResult.of(config, cells, teachers, 12.0)

    return make


def test_effects_are_paired_and_verdicts_follow_the_direction_of_the_measure(result):
    found = result()
    for name in ("accuracy", "kl"):
        differences = np.subtract(found.values("kd", name), found.values("ce", name))
        effect = found.effect("kd", name)
        assert effect.estimate == pytest.approx(differences.mean())
        assert effect.low <= effect.estimate <= effect.high
        assert effect.high - effect.low < 0.02 < np.std(found.values("kd", name))  # pairing takes the seeds' spread out
        assert [found.verdict(m, name) for m in found.methods] == ["baseline", "better", "not shown", "worse"]
    assert (found.ranked()[0], found.ranked()[-1]) == ("kd", "at")
    assert found.ranked("kl") == found.ranked("accuracy")
    assert {result(seeds=3).verdict(m, "kl") for m in ("kd", "at")} == {"too few seeds"}


def test_verdicts_are_corrected_over_the_methods_and_wide_intervals_hold_together(result):
    found = result()
    tests = {m: ttest_rel(found.values(m, "kl"), found.values("ce", "kl")) for m in found.compared}
    expected = holm([tests[m].pvalue for m in found.compared])
    assert list(found.corrected("kl").values()) == pytest.approx(expected)
    for method, test in tests.items():
        plain, wide = found.effect(method, "kl"), found.effect(method, "kl", together=True)
        assert (plain.low, plain.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert (wide.low, wide.high) == pytest.approx(tuple(test.confidence_interval(1 - 0.05 / 3)))
        spread = found.differences(method, "kl").std(ddof=1)
        assert found.detectable(method, "kl") == smallest_effect(spread, 6, comparisons=3)


def test_a_difference_that_only_survives_without_correction_is_not_shown(result):
    found = result()
    weak = tuple(np.array(found.values("ce", "accuracy")) + np.array([3, 1, 2, 0, 2, 1]) / 100)
    cells = {
        "ce": found.cells["ce"],
        **{
            name: tuple(
                {**c, "test": {**c["test"], "accuracy": v}} for c, v in zip(found.cells["kd"], weak, strict=True)
            )
            for name in "abcdefgh"
        },
    }
    many, one = replace(found, cells=cells), replace(found, cells={name: cells[name] for name in ("ce", "a")})
    assert one.corrected("accuracy")["a"] < 0.05
    assert (one.verdict("a", "accuracy"), many.verdict("a", "accuracy")) == ("better", "not shown")


def test_a_trip_through_json_changes_nothing(result, tmp_path):
    found = result()
    write_json(tmp_path / "result.json", found.to_json())
    again = BenchResult.load(tmp_path)
    assert again.to_json() == found.to_json()
    assert again.effect("kd", "ece") == found.effect("kd", "ece")
    summary = json.loads((tmp_path / "result.json").read_text())["summary"]
    assert summary["kd"]["accuracy"]["values"] == list(found.values("kd", "accuracy"))
    assert summary["at"]["kl"]["verdict"] == "worse"


def test_results_that_cannot_be_read_are_refused(result, tmp_path):
    with pytest.raises(OutputError, match=r"holds no result.json"):
        BenchResult.load(tmp_path)
    content = result().to_json()
    with pytest.raises(OutputError, match="format 9"):
        BenchResult.from_json({**content, "format_version": 9})
    with pytest.raises(OutputError, match=r"not valid: .*run the benchmark again"):
        BenchResult.from_json({**content, "cells": {**content["cells"], "kd": content["cells"]["kd"][:-1]}})
    with pytest.raises(OutputError, match=r"not valid: .*run the benchmark again"):
        BenchResult.from_json({key: value for key, value in content.items() if key != "teachers"})
    content["cells"]["kd"][0]["test"]["brier"] = -1e101  # its square is infinite
    with pytest.raises(OutputError, match=r"brier of kd: -1e\+101 is beyond 1e\+100"):
        BenchResult.from_json(content)


def test_numbers_are_shown_in_their_unit():
    interval = Interval(0.01234, -0.002, 0.03)
    assert interval_text("accuracy", interval, signed=True) == "+1.23 [-0.20, +3.00]"
    assert interval_text("kl", interval) == "0.012 [-0.002, 0.030]"


def test_tables_name_every_method_and_say_what_is_not_known(result):
    found = result()
    table = [[str(cell) for cell in column.cells] for column in rich_table(found).columns]
    assert table[0] == ["teacher", "kd", *(row.method for row in rows(found)[1:])]
    assert table[3][1:] == [row.verdict for row in rows(found)]
    text = markdown(found)
    assert "| kd | response | logits | weight 0.9, CE 0.1, temperature 4.0 (preset repdistiller) |" in text
    assert "over 6 seeds of the difference to ce" in text
    assert "took 24.0 min of wall time and 2.4 min of processor time" in text
    assert (text.count("| better |"), text.count("| worse |")) == (1, 1)
    assert "corrected by Holm over 3 methods" in " ".join(remarks(found))
    assert "validation accuracy chose one" in " ".join(remarks(result(tune=3)))


def test_the_papers_table_compares_every_method_but_the_baseline(result):
    found = result()
    table = paper_table(found)
    assert [row[0] for row in table.rows] == found.ranked()
    for method, *_, effect, shown in table.rows:
        if method == "ce":
            assert (effect, shown) == (None, "")
        else:
            assert effect.estimate == pytest.approx(100 * found.effect(method, "accuracy").estimate)
            assert shown == found.verdict(method, "accuracy")


@pytest.mark.parametrize(("seeds", "tune"), [(6, 1), (3, 1), (6, 3), (1, 1)])
def test_all_that_a_result_says_is_the_recorded_text(result, seeds, tune, recorded):
    found = result(seeds, tune=tune) if seeds > 1 else result(2, tune=tune)
    content = {key: found.to_json()[key] for key in ("format_version", "summary", "seconds")}
    text = [line for line in markdown(found).splitlines() if "Python" not in line and "torch" not in line]
    columns = [[str(cell) for cell in column.cells] for column in rich_table(found).columns]
    below = below_baseline(found)
    recorded("benchmark", f"{seeds} seeds, {tune} candidates", {
        "json": content, "markdown": text, "columns": columns, "remarks": remarks(found), "command": command(found),
        "below": below, "ranked": found.ranked("kl"), "hours": [found.work_seconds, found.processor_seconds],
        "detectable": [found.detectable(method, "ece") for method in found.compared],
    })  # fmt: skip


def test_the_command_of_a_result_asks_for_the_same_configuration(result):
    found = result(tune=2)
    words = shlex.split(command(found))
    assert words[:3] == ["policykd", "kd", "bench"]
    parsed = tyro.cli(KdBench, args=words[3:], config=(tyro.conf.OmitArgPrefixes,))
    assert as_plain(_config(parsed)) == as_plain(found.config)


def test_the_page_is_self_contained_and_drawn_from_the_json_alone(result, tmp_path):
    write_json(tmp_path / "result.json", result().to_json())
    first = write_bench_page(tmp_path).read_text()
    assert write_bench_page(tmp_path).read_text() == first
    assert not [word for word in ('src="http', 'href="http', "@import", "url(http") if word in first]
    assert first.count("<svg") == 2
    assert all(f">{method}<" in first for method in SHIFT)
    for name in ("effects", "cost"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="no benchmark was finished"):
        write_bench_page(tmp_path / "plots")
