"""Intervals, corrections and gates against scipy and numbers written out."""

import math

import pytest

from policykd.errors import ConfigError
from policykd.kd.experiments import decisions, power
from policykd.kd.experiments.experiment import Comparison


def test_intervals_and_decisions():
    from scipy import stats

    values = [1.0, 2.0, 4.0, 7.0]
    for together in (1, 3):
        found = decisions.mean_interval(values, together=together)
        expected = stats.t.interval(1 - 0.05 / together, 3, 3.5, stats.sem(values))
        assert (found.low, found.high) == pytest.approx(expected)
    one = decisions.mean_interval([2.0])
    assert (one.low, one.estimate, one.high) == (2.0, 2.0, 2.0)
    assert decisions.p_value(values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert [decisions.p_value(v) for v in ([0.0, 0.0], [1.0, 1.0], [0.0], [2.0])] == [1.0, 0.0, 1.0, 0.0]
    assert decisions.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert decisions.holm([0.6, 0.7]) == [1.0, 1.0]
    for corrected, mean, verdict in ((0.05, 1.0, "not shown"), (0.049, 1.0, "shown"), (0.049, -1.0, "contradicted")):
        assert decisions.decide([mean, mean], corrected) == verdict
    point = decisions.fieller([2.0], [4.0])
    assert (point.low, point.estimate, point.high) == (0.5, 0.5, 0.5)
    for denominator, message in (([0.0, 0.0], "is 0"), ([1.0, -0.5, 0.2], "cannot be told from 0")):
        with pytest.raises(ConfigError, match=message):
            decisions.fieller([1.0] * len(denominator), denominator)


def test_gates_of_plans():
    assert [power._rounded(gate) for gate in (0.0, 0.0129, 1.29, 129.0)] == pytest.approx([0.0, 0.012, 1.2, 120.0])
    higher = Comparison("accuracy", student="kd", baseline="ce", better="higher")
    pilot = power.Pilot.of(higher, {"kd": {"accuracy": [3.0, 4.0, 5.0]}, "ce": {"accuracy": [1.0, 1.0, 1.0]}})
    assert (pilot.mean, pilot.spread, pilot.seeds) == (3.0, 1.0, 3)
    lower = Comparison("loss", student="kd", baseline="ce", better="lower")
    opposite = power.Pilot.of(lower, {"kd": {"loss": [3.0, 4.0, 5.0]}, "ce": {"loss": [1.0, 1.0, 1.0]}})
    assert opposite.mean == -3.0
    planned = power.plan(higher, pilot, 10, comparisons=2)
    assert planned.detectable == pytest.approx(power.smallest_effect(1.0, 10, comparisons=2))
    assert planned.gate == pytest.approx(math.floor((3.0 - planned.detectable) * 10) / 10)
    assert planned.needed == 5
    assert power.smallest_effect(1.0, 5, comparisons=2) < 3.0
    bad = power.plan(lower, opposite, 10, comparisons=1)
    assert (bad.gate, bad.needed) == (0.0, None)
    assert math.copysign(1.0, bad.gate) == 1.0
    assert power.smallest_effect(0.0, 5) == 0.0
    for spread in (-1.0, math.inf):
        with pytest.raises(ConfigError, match="spread is"):
            power.smallest_effect(spread, 5)
    needed = power.seeds_needed(1.0, 1.0)
    assert power.smallest_effect(1.0, needed) <= 1.0 < power.smallest_effect(1.0, needed - 1)
