"""Tables of evidence: Holm's correction, verdicts with their three values, and the effect that seeds can show."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from policykd.errors import ConfigError
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.evidence._table import (
    Row,
    decide_rows,
    detectable,
    draw_arms,
    draw_losses,
    draw_table,
    holm,
    load_results,
)
from policykd.kd.experiments.results import Result
from policykd.kd.experiments.system import higher, lower
from policykd.storage import write_json

RNG = np.random.default_rng(0)


def result(effects, seeds=8, spread=0.01):
    base = RNG.normal(0.5, 0.05, seeds)
    arms = {name: {"accuracy": tuple(base + effect + RNG.normal(0, spread, seeds))} for name, effect in effects.items()}
    claims = tuple(
        (higher if sign == "+" else lower)("accuracy", name, "base", required=required).says(f"{name} against base.")
        for name, sign, required in (("up", "+", True), ("down", "+", True), ("less", "-", True), ("same", "+", False))
    )
    arms["base"] = {"accuracy": tuple(base)}
    config = {"data": "data/watch.npz"}
    return Result("sk_kd", "Title", "Paper", "Claim.", config, tuple(range(seeds)), arms, claims, ("A note.",))


def test_holm_equals_the_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    p = RNG.uniform(0, 0.2, 6)
    corrected = holm(list(p))
    order = sorted(range(6), key=lambda k: p[k])
    for rank, k in enumerate(order):
        assert corrected[k] == pytest.approx(min(1.0, max((6 - r) * p[order[r]] for r in range(rank + 1))))


def test_rows_have_the_p_value_and_interval_of_a_paired_t_test():
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    for comparison in one.comparisons:
        row = Row.of(one, comparison)
        test = ttest_1samp(row.differences, 0.0)
        assert row.p_value == pytest.approx(test.pvalue)
        low, high = test.confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx((low, high))
    assert Row.of(one, one.comparisons[2]).differences.mean() > 0  # the claimed side is positive


def test_the_three_verdicts():
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    verdicts = [verdict for _, _, verdict in decide_rows([one])]
    assert verdicts == ["shown", "contradicted", "shown", "not shown"]
    text = draw_table([one])
    assert "| sk_kd | watch | 8 | down against base. | -0.0" in text
    assert "| contradicted |" in text
    assert "not shown (not required)" in text
    assert "| base | 0.5" in draw_arms([one])


def test_more_comparisons_need_stronger_evidence():
    weak = [result({"up": 0.009, "down": 0.0, "less": 0.0, "same": 0.0}, spread=0.008) for _ in range(6)]
    rows = decide_rows(weak)
    assert any(row.p_value < 0.05 <= corrected for row, corrected, _ in rows)
    assert all(corrected >= row.p_value for row, corrected, _ in rows)


def test_the_detectable_effect_is_found_with_the_stated_power():
    rng, seeds = np.random.default_rng(3), 8
    spread = 0.02
    effect = detectable(spread * np.sqrt((seeds - 1) / seeds) * np.array([1, -1] * (seeds // 2)))
    found = np.mean([ttest_1samp(rng.normal(effect, spread, seeds), 0).pvalue < 0.05 for _ in range(3000)])
    assert found == pytest.approx(0.8, abs=0.05)


def test_results_are_read_from_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="holds no results"):
        load_results(tmp_path)
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    write_json(tmp_path / "a.json", one.to_json())
    assert draw_table(load_results(tmp_path)) == draw_table([one])
    few = result({"up": 0.05, "down": 0.0, "less": 0.0, "same": 0.0}, seeds=4)
    with pytest.raises(ConfigError, match="at least 5 seeds, got 4"):
        draw_table([few])


def test_losses_are_compared_with_the_baseline_and_corrected_together():
    base = RNG.normal(0.6, 0.02, 8)
    values = {"ce": base, "kd": base + 0.05 + RNG.normal(0, 0.003, 8), "at": base + RNG.normal(0, 0.02, 8)}
    values["ft"] = base - 0.05 + RNG.normal(0, 0.003, 8)
    cells = {
        name: tuple(
            {"test": {m: float(v) if m == "accuracy" else 1.0 for m in MEASURES}, "candidates": []} for v in own
        )
        for name, own in values.items()
    }
    teachers = tuple({"test": {"accuracy": 0.9}} for _ in range(8))
    text = draw_losses(BenchResult({"baseline": "ce"}, cells, teachers))
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()[2:]}
    assert [rows[name].rstrip(" |").split(" | ")[-1] for name in ("kd", "at", "ft")] == ["better", "not shown", "worse"]
    assert list(rows) == sorted(values, key=lambda name: -values[name].mean())
    shown = 100 * (values["kd"] - base).mean()
    assert f"{shown:+.2f} [" in rows["kd"]
    few = BenchResult({"baseline": "ce"}, {k: v[:4] for k, v in cells.items()}, teachers[:4])
    with pytest.raises(ConfigError, match="at least 5 seeds, got 4"):
        draw_losses(few)
