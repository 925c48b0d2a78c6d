"""Comparisons, verdicts and results, against cases that can be worked out by hand."""

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import ttest_rel

import policykd.kd.systems as systems
from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.kd.experiments.experiment import Comparison, Experiment
from policykd.kd.experiments.results import LEAST_SEEDS, Result, judge
from policykd.kd.experiments.summary import effect_text, gate_text, markdown, p_text, write_summary
from policykd.storage import read_json

BASE = (0.5, 0.75, 0.125, 1.0, 0.25, 0.375)  # binary fractions: differences of these are exact


def comparison(**changes):
    options = {"student": "a", "baseline": "b", "better": "higher", "text": "a against b"} | changes
    return Comparison("m", **options)


def verdict(of_student, of_baseline, **changes):
    return judge([comparison(**changes)], {"a": {"m": tuple(of_student)}, "b": {"m": tuple(of_baseline)}})[0]


def shifted(by):
    return [value + by for value in BASE]


@pytest.mark.parametrize(
    ("by", "better", "gate", "expected"),
    [
        (0.25, "higher", 0.125, "shown"),
        (0.25, "higher", 0.25, "not shown"),  # an interval that touches its gate
        (0.25, "higher", 0.5, "contradicted"),  # wholly on the wrong side of its gate
        (0.25, "lower", 0.5, "shown"),
        (-0.25, "lower", -0.125, "shown"),
        (-0.25, "lower", -0.25, "not shown"),
        (-0.25, "higher", -0.5, "shown"),  # not worse by half a unit
        (0.0, "higher", 0.0, "not shown"),  # equal arms show nothing
        (0.0, "lower", 0.0, "not shown"),
    ],
)
def test_a_constant_difference_is_a_point_beside_its_gate(by, better, gate, expected):
    outcome = verdict(shifted(by), BASE, better=better, gate=gate)
    assert (outcome.effect.low, outcome.effect.estimate, outcome.effect.high) == (by, by, by)
    assert outcome.verdict == expected


@pytest.mark.parametrize(
    ("factor", "gate", "better", "expected"),
    [
        (0.5, 0.75, "lower", "shown"),
        (0.5, 0.5, "lower", "not shown"),
        (2.0, 1.5, "higher", "shown"),
        (2.0, 2.5, "higher", "contradicted"),
    ],
)
def test_a_constant_ratio_is_a_point_beside_its_gate(factor, gate, better, expected):
    outcome = verdict([factor * v for v in BASE], BASE, statistic="ratio", gate=gate, better=better)
    assert outcome.effect.estimate == outcome.effect.low == outcome.effect.high == factor
    assert outcome.verdict == expected


def test_without_a_baseline_the_value_itself_is_held_against_the_gate():
    assert verdict(BASE, BASE, baseline=None).effect.estimate == np.mean(BASE)
    assert verdict([0.75] * 6, BASE, baseline=None, gate=0.5).verdict == "shown"
    assert verdict([0.0] * 6, BASE, baseline=None, gate=0.01, better="lower").verdict == "shown"
    assert verdict([0.0] * 6, BASE, baseline=None).verdict == "not shown"


def test_one_contrary_seed_among_six_is_not_shown():
    """Differences 1, 1, 1, 1, 1, -6: the mean is -1/6, and resamples fall on both sides of 0."""
    outcome = verdict([v + d for v, d in zip(BASE, (1, 1, 1, 1, 1, -6), strict=True)], BASE)
    assert outcome.effect.estimate == pytest.approx(-1 / 6)
    assert outcome.effect.low < 0 < outcome.effect.high
    assert outcome.verdict == "not shown"


def test_seeds_are_paired():
    """The difference is shown although the arms' spreads overlap; it is not once the pairs are broken."""
    student = [value + 0.05 + 0.001 * n for n, value in enumerate(BASE)]
    assert verdict(student, BASE).verdict == "shown"
    assert verdict(student[1:] + student[:1], BASE).verdict == "not shown"
    effect = verdict(student, BASE).effect
    expected = ttest_rel(student, BASE).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("seeds", range(1, LEAST_SEEDS))
def test_few_seeds_decide_nothing(seeds):
    assert verdict([1.0] * seeds, [0.0] * seeds).verdict == "too few seeds"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"better": "more"}, "better is"),
        ({"statistic": "odds"}, "statistic is"),
        ({"gate": float("nan")}, "finite"),
        ({"statistic": "ratio", "gate": 0.0}, "above 0"),
        ({"statistic": "ratio", "gate": 1.0, "baseline": None}, "baseline"),
        ({"baseline": "a"}, "with itself"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        comparison(**changes)


def test_a_ratio_to_nothing_names_metric_and_arms():
    with pytest.raises(ConfigError, match="m of a and b"):
        verdict(BASE, [0.0] * 6, statistic="ratio", gate=1.0)


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (3, 4)
    rate: float = 0.1


def experiment(*comparisons, **changes):
    fields = {"name": "toy", "title": "Toy", "paper": "None", "claim": "a | b", "config": Config()}
    return Experiment(**fields | {"run": None, "comparisons": comparisons or (comparison(),)} | changes)


def cells(by=0.25, seeds=6):
    return {seed: {"a": {"m": BASE[seed] + by, "n": 1.0}, "b": {"m": BASE[seed]}} for seed in range(seeds)}


def test_the_verdict_needs_every_required_comparison_and_no_other():
    good, bad = comparison(), comparison(gate=1.0)
    optional = dataclasses.replace(bad, required=False)
    verdicts = [
        Result.of(experiment(*chosen), Config(), cells()).verdict for chosen in ((good,), (good, bad), (good, optional))
    ]
    assert verdicts == ["shown", "contradicted", "shown"]
    assert Result.of(experiment(good), Config(), cells(seeds=2)).verdict == "too few seeds"


def test_values_keep_the_order_of_the_seeds():
    shuffled = dict(reversed(cells().items()))
    result = Result.of(experiment(), Config(), shuffled)
    assert result.seeds == tuple(range(6))
    assert result.values["b"]["m"] == BASE


def test_cells_with_other_arms_or_metrics_are_not_mixed():
    other = cells()
    other[3] = {"a": {"m": 1.0}, "b": {"m": 1.0}}
    with pytest.raises(ConfigError, match="seeds 0 and 3"):
        Result.of(experiment(), Config(), other)
    with pytest.raises(ConfigError, match="no cell"):
        Result.of(experiment(), Config(), {})


def test_results_survive_json():
    optional = comparison(required=False, statistic="ratio", gate=0.5, better="lower")
    result = Result.of(experiment(comparison(), optional, notes=("a note",)), Config(), cells(), 1.5)
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    again = Result.from_json(content)
    assert again == result
    assert again.outcomes == result.outcomes
    assert content["verdict"] == "shown"
    assert content["comparisons"][0]["effect"] == {"estimate": 0.25, "low": 0.25, "high": 0.25, "confidence": 0.95}
    assert content["config"] == {"widths": [3, 4], "rate": 0.1}
    assert content["values"]["b"]["m"] == list(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"values": None},
        {"values": {"a": {"m": ["x"]}}},
        {"comparisons": [{"metric": "m"}]},
        {"seeds": None},
        {"notes": [1]},
        {"seconds": float("nan")},
    ],
)
def test_garbled_results_are_refused(change):
    content = Result.of(experiment(), Config(), cells()).to_json()
    with pytest.raises(OutputError):
        Result.from_json({**content, **change})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "not a name"}, "named as its module"),
        ({"config": {"rate": 1}}, "must be a dataclass"),
        ({"comparisons": (comparison(required=False),)}, "required"),
        ({"comparisons": (comparison(text=""),)}, "the claim about m of a and b needs a sentence"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_experiments_that_decide_nothing_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment(**changes)


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ({"a": {"m": float("nan")}, "b": {"m": 1.0}}, ConfigError, "m of arm 'a' is nan"),
        ({"a": {"m": 1.0}}, UnknownNameError, "unknown arm of toy 'b'"),
        ({"a": {"m": 1.0}, "b": {"n": 1.0}}, UnknownNameError, "metric of toy, arm 'b'"),
    ],
)
def test_cells_that_cannot_decide_are_refused(cell, error, message):
    with pytest.raises(error, match=message):
        experiment().check_cell(cell)


def test_summary_of_two_systems(tmp_path):
    ratio = comparison(statistic="ratio", gate=3.0, better="lower", text="a over b")
    results = [
        Result.of(experiment(comparison(gate=0.125), ratio), Config(), cells()),
        Result.of(experiment(comparison(), name="other"), Config(), cells(-0.25)),
    ]
    write_summary(results, tmp_path)
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines == markdown(results).splitlines()
    assert lines[2].startswith("| toy | a \\| b | a against b: +0.25 [+0.25, +0.25]<br>a over b: 1.5 [")
    assert lines[2].endswith("| shown (6 seeds) |")
    assert lines[3] == "| other | a \\| b | a against b: -0.25 [-0.25, -0.25] contradicted | contradicted (6 seeds) |"
    stored = read_json(tmp_path / "summary.json")["systems"]
    assert [(row["system"], row["verdict"]) for row in stored] == [("toy", "shown"), ("other", "contradicted")]


def test_texts_of_a_result_are_the_recorded_ones(tmp_path, recorded):
    claims = [comparison(gate=0.125), comparison(statistic="ratio", gate=3.0, better="lower", text="a | b")]
    claims += [comparison(required=False, gate=1.0), comparison(better="lower", gate=-1 / 3, text="third")]
    results = [Result.of(experiment(*claims, notes=("n",)), Config(), cells(0.3, seeds), 7.5) for seeds in (1, 5, 6)]
    write_summary(results, tmp_path)
    texts = [[effect_text(one), gate_text(one), p_text(one), one.verdict] for r in results for one in r.outcomes]
    stored = [{k: v for k, v in one.to_json().items() if k != "environment"} for one in results]
    recorded("experiments", "results", {"texts": texts, "stored": stored, "lines": markdown(results).splitlines()})


def test_a_value_without_baseline_has_no_sign_and_the_gate_says_its_side():
    outcome = verdict(shifted(0.0), BASE, baseline=None, gate=0.25)
    assert effect_text(outcome).startswith("0.5 [")
    assert gate_text(outcome) == "> 0.25"


def test_every_module_with_an_experiment_is_registered():
    found = []
    for info in pkgutil.iter_modules(systems.__path__):
        module = importlib.import_module(f"{systems.__name__}.{info.name}")
        if hasattr(module, "EXPERIMENT"):
            found.append(info.name)
            assert module.EXPERIMENT.name == info.name
    assert list(systems.SYSTEMS) == sorted(found)


@pytest.mark.parametrize("name", systems.SYSTEMS.names())
def test_every_experiment_has_a_frozen_configuration_and_says_what_it_claims(name):
    found = systems.SYSTEMS[name]
    assert found.config.__dataclass_params__.frozen
    assert found.claim
    assert found.title
    assert found.paper
    assert all(c.text for c in found.comparisons)


def test_unknown_systems_name_close_ones():
    with pytest.raises(UnknownNameError, match="did you mean hinton_kd"):
        systems.SYSTEMS["hinton"]


def test_names_load_no_torch():
    code = "import sys; from policykd.kd.systems import SYSTEMS; print(SYSTEMS.names(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
