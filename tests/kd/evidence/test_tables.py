"""Tables of evidence: verdicts with their three values, both corrections, and the effect that seeds can show."""

import dataclasses
import sys

import numpy as np
import pytest

from policykd.errors import ConfigError
from policykd.kd.evidence._table import corrected_over_all, detectable, draw_arms, draw_table, load_results
from policykd.kd.experiments.decisions import holm
from policykd.kd.experiments.power import smallest_effect
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


def test_the_three_verdicts_and_both_corrections():
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    assert [outcome.verdict for outcome in one.outcomes] == ["shown", "contradicted", "shown", "not shown"]
    text = draw_table([one, one])
    assert "| sk_kd | watch | 8 | down against base. | -0.0" in text
    assert "| contradicted |" in text
    assert "not shown (not required)" in text
    assert "| base | 0.5" in draw_arms([one])
    over_all = corrected_over_all([one, one])
    for outcome, together in zip(one.outcomes, over_all[1], strict=True):
        assert together >= outcome.corrected
    required = [outcome.p_value for outcome in one.outcomes[:3]]
    assert over_all[0][:3] == pytest.approx(holm([*required, *required])[:3])


def test_the_detectable_effect_counts_the_claims_that_are_corrected_together():
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    own, other = (np.array(one.values[arm]["accuracy"]) for arm in ("up", "base"))
    assert detectable(one, one.outcomes[0]) == smallest_effect((own - other).std(ddof=1), 8, comparisons=3)
    own = np.array(one.values["same"]["accuracy"])
    assert detectable(one, one.outcomes[3]) == smallest_effect((own - other).std(ddof=1), 8, comparisons=1)


def test_tables_are_the_recorded_ones(monkeypatch, recorded):
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(3))
    made = [result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0}, seeds=seeds) for seeds in (8, 6)]
    generated = [dataclasses.replace(one, config={}) for one in made]
    tables = [draw_table(made), draw_arms(made), draw_table(generated), draw_arms(generated)]
    recorded("evidence", "tables", [table.splitlines() for table in tables])


def test_results_are_read_from_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="holds no results"):
        load_results(tmp_path)
    one = result({"up": 0.05, "down": -0.05, "less": -0.05, "same": 0.0})
    write_json(tmp_path / "a.json", one.to_json())
    assert draw_table(load_results(tmp_path)) == draw_table([one])
    few = result({"up": 0.05, "down": 0.0, "less": 0.0, "same": 0.0}, seeds=4)
    with pytest.raises(ConfigError, match="at least 5 seeds, got 4"):
        draw_table([few])
