"""Decisions and plans, against SciPy's tests, simulations and definitions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from policykd.errors import ConfigError
from policykd.kd.experiments.decisions import contrast, effect_of, fieller, holm, p_value
from policykd.kd.experiments.experiment import with_gates
from policykd.kd.experiments.power import Pilot, plan, seeds_needed, smallest_effect
from policykd.kd.experiments.results import Result, judge
from policykd.kd.experiments.system import higher, lower

RNG = np.random.default_rng(0)


def result(effects, claims, seeds=10, spread=0.01):
    base = RNG.normal(0.5, 0.05, seeds)
    values = {arm: {"m": tuple(base + by + RNG.normal(0, spread, seeds))} for arm, by in effects.items()}
    values["base"] = {"m": tuple(base)}
    claims = tuple(one.says("A sentence.") for one in claims)
    return Result("toy", "Toy", "Paper", "Claim.", {}, tuple(range(seeds)), values, claims)


def test_an_effect_on_the_wrong_side_of_its_gate_contradicts_the_claim():
    """The case that used to be called undecided: a gate of +0.04 and an interval of about [-0.02, +0.01]."""
    found = result({"a": -0.005}, [higher("m", "a", "base", by=0.04)], spread=0.02)
    outcome = found.outcomes[0]
    assert outcome.effect.high < 0.04
    assert (outcome.verdict, found.verdict) == ("contradicted", "contradicted")
    assert result({"a": -0.005}, [higher("m", "a", "base", by=-0.005)], spread=0.02).verdict == "not shown"
    assert result({"a": 0.05}, [lower("m", "a", "base")]).verdict == "contradicted"


def test_one_contradicted_claim_contradicts_the_system_and_an_optional_one_does_not():
    good, bad = higher("m", "a", "base"), lower("m", "a", "base", by=-0.01)
    assert result({"a": 0.05}, [good, bad]).verdict == "contradicted"
    assert result({"a": 0.05}, [good, replace(bad, required=False)]).verdict == "shown"
    assert result({"a": 0.05, "b": 0.0}, [good, bad, higher("m", "b", "base")]).verdict == "contradicted"


def test_p_values_are_those_of_a_paired_t_test_against_the_gate():
    found = result({"a": 0.01}, [higher("m", "a", "base", by=0.02), lower("m", "a", "base", by=0.02)])
    own, other = (np.array(found.values[arm]["m"]) for arm in ("a", "base"))
    for outcome in found.outcomes:
        assert outcome.p_value == pytest.approx(ttest_1samp(own - other, 0.02).pvalue)
    rises, falls = (contrast(one, found.values) for one in found.comparisons)
    assert rises == pytest.approx(-falls)
    assert rises == pytest.approx(own - other - 0.02)


def test_required_claims_of_a_system_are_corrected_together_and_optional_ones_apart():
    claims = [higher("m", "a", "base"), higher("m", "b", "base"), higher("m", "c", "base", required=False)]
    found = result({"a": 0.006, "b": 0.004, "c": 0.006}, claims)
    first, second, third = found.outcomes
    assert [first.corrected, second.corrected] == pytest.approx(holm([first.p_value, second.p_value]))
    assert third.corrected == third.p_value
    alone = judge(found.comparisons[1:2], found.values)[0]
    assert alone.corrected <= second.corrected


def test_correction_can_change_a_verdict():
    base, gains = np.zeros(8), np.array([3, 1, 2, -1, 2, 1, 0, 2.0])
    values = {"a": {"m": base + gains}, "base": {"m": base}}
    claims = [higher("m", "a", "base").says("x.")] * 40
    single, many = judge(claims[:1], values)[0], judge(claims, values)[0]
    assert 0.05 / 40 < single.p_value < 0.05
    assert (single.verdict, many.verdict) == ("shown", "not shown")


def test_holm_equals_the_definition():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    p = RNG.uniform(0, 0.2, 6)
    order = sorted(range(6), key=lambda k: p[k])
    for rank, k in enumerate(order):
        expected = min(1.0, max((6 - r) * p[order[r]] for r in range(rank + 1)))
        assert holm(list(p))[k] == pytest.approx(expected)


def test_the_interval_of_a_ratio_excludes_its_gate_where_the_test_rejects():
    own, other = RNG.normal(0.8, 0.1, 12), RNG.normal(1.0, 0.2, 12)
    interval = fieller(own, other)
    assert interval.low < own.mean() / other.mean() < interval.high
    for end in (interval.low, interval.high):
        claim = higher("m", "a", "b", statistic="ratio", by=end)
        values = {"a": {"m": own}, "b": {"m": other}}
        assert p_value(contrast(claim, values)) == pytest.approx(0.05)
        assert effect_of(claim, values) == interval
    with pytest.raises(ConfigError, match="cannot be told from 0"):
        fieller(own, RNG.normal(0.0, 1.0, 12))


def test_intervals_of_ratios_cover_the_truth():
    covered = []
    for _ in range(2000):
        shared = RNG.normal(0, 0.2, 10)
        interval = fieller(1.0 + shared + RNG.normal(0, 0.1, 10), 2.0 + shared + RNG.normal(0, 0.1, 10))
        covered.append(interval.low < 0.5 < interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("seeds", "comparisons"), [(5, 1), (10, 1), (10, 4)])
def test_the_smallest_effect_is_shown_with_the_stated_power(seeds, comparisons):
    spread = 0.02
    effect = smallest_effect(spread, seeds, comparisons=comparisons)
    draws = RNG.normal(effect, spread, (20_000, seeds))
    tests = ttest_1samp(draws, 0.0, axis=1)
    shown = (tests.pvalue < 0.05 / comparisons) & (tests.statistic > 0)
    assert shown.mean() == pytest.approx(0.8, abs=0.01)


def test_as_many_seeds_as_needed_show_the_effect():
    needed = seeds_needed(0.01, 0.02, comparisons=3)
    assert smallest_effect(0.02, needed, comparisons=3) <= 0.01 < smallest_effect(0.02, needed - 1, comparisons=3)
    assert seeds_needed(1.0, 0.01) == 5
    assert seeds_needed(0.0, 0.01) is None


def test_gates_follow_from_the_pilot_alone():
    claims = [
        higher("m", "a", "base"),
        lower("m", "b", "base"),
        higher("m", "c", "base", by=0.3),
        higher("m", "c", "base", by=-0.01),
    ]
    found = result({"a": 0.05, "b": -0.05, "c": -0.02}, claims, seeds=6)
    plans = [plan(one, Pilot.of(one, found.values), 10, comparisons=4) for one in claims]
    assert plans[0].gate > 0 > plans[1].gate
    assert (plans[2].gate, plans[2].needed) == (0.0, None)  # the pilot is on the other side
    assert plans[3].gate == -0.01  # a tolerance stays
    for one in plans[:2]:
        effects = contrast(replace(one.comparison, gate=0.0), found.values)
        assert (one.pilot.mean, one.pilot.spread) == pytest.approx((effects.mean(), effects.std(ddof=1)))
        assert one.detectable == pytest.approx(smallest_effect(one.pilot.spread, 10, comparisons=4))
        assert abs(one.gate) <= one.pilot.mean - one.detectable < abs(one.gate) * 1.1
    with pytest.raises(ConfigError, match="m is a ratio"):
        Pilot.of(higher("m", "a", "base", statistic="ratio", by=1.0), found.values)


def test_a_planned_gate_is_passed_with_the_stated_power_if_the_pilot_is_right():
    pilot = Pilot(0.05, 0.02, 10)
    planned = plan(higher("m", "a", "base"), pilot, 10, comparisons=3)
    tests = ttest_1samp(RNG.normal(pilot.mean, pilot.spread, (20_000, 10)), planned.gate, axis=1)
    shown = (tests.pvalue < 0.05 / 3) & (tests.statistic > 0)
    assert 0.79 < shown.mean() < 0.83  # rounding the gate down makes it a little easier


def test_gates_are_given_to_required_claims_in_their_order():
    claims = (higher("m", "a", "b"), higher("m", "a", "c", required=False), lower("m", "a", "d"))
    assert [one.gate for one in with_gates(claims, (0.1, -0.2))] == [0.1, 0.0, -0.2]
    assert with_gates(claims, ()) == claims
    with pytest.raises(ConfigError, match="gates has 1 values; there are 2 required comparisons"):
        with_gates(claims, (0.1,))


def test_arguments_out_of_range_are_refused():
    for options in ({"seeds": 1}, {"comparisons": 0}, {"power": 0.2}, {"spread": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            smallest_effect(**{"spread": 0.1, "seeds": 5} | options)


def test_independent_arms_would_need_larger_effects():
    """Pairing is what makes few seeds enough: the unpaired test of the same values is far weaker."""
    found = result({"a": 0.02}, [higher("m", "a", "base")])
    own, other = (np.array(found.values[arm]["m"]) for arm in ("a", "base"))
    assert found.outcomes[0].p_value < 0.1 * ttest_ind(own, other).pvalue
