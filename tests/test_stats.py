import numpy as np
import pytest
from scipy import stats as scipy_stats

from policykd.errors import ConfigError, UnknownNameError
from policykd.stats import (
    Interval,
    bootstrap,
    few_seeds,
    format_interval,
    iqm,
    nested_ratio,
    paired_difference,
    paired_ratio,
    probability_of_improvement,
    proportion,
    stratified_bootstrap,
)

RNG = np.random.default_rng(1)
SKEWED = RNG.lognormal(0.0, 0.8, 40)
SCIPY_STATISTIC = {"mean": np.mean, "iqm": lambda x, axis=-1: scipy_stats.trim_mean(x, 0.25, axis=axis)}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 64, 65])
def test_iqm_is_scipys_trimmed_mean(n):
    values = np.random.default_rng(n).normal(size=(3, n, 2))
    for axis in (0, 1, -1):
        assert iqm(values, axis) == pytest.approx(scipy_stats.trim_mean(values, 0.25, axis=axis), rel=1e-12)


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_is_scipys(statistic, method):
    """Both draw the same indices from the same seed, so the ends agree far below the resampling noise."""
    ours = bootstrap(SKEWED, statistic=statistic, method=method, resamples=4000, seed=3)
    theirs = scipy_stats.bootstrap(
        (SKEWED,), SCIPY_STATISTIC[statistic], method=method, n_resamples=4000, rng=np.random.default_rng(3)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-3)
    assert ours.estimate == pytest.approx(SCIPY_STATISTIC[statistic](SKEWED))


def test_bca_follows_skew():
    plain, corrected = (bootstrap(SKEWED, method=method, resamples=4000) for method in ("percentile", "bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_chunks_do_not_change_the_result(monkeypatch):
    whole = bootstrap(SKEWED, seed=5)
    for chunk in (1000, 1):  # and where not even one sample fits
        monkeypatch.setattr("policykd.stats._CHUNK", chunk)
        assert bootstrap(SKEWED, seed=5) == whole


def coverage(interval, truth, draw, repeats=600):
    rng = np.random.default_rng(0)
    found = [interval(draw(rng), seed) for seed in range(repeats)]
    return np.mean([i.low <= truth <= i.high for i in found])


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_coverage_of_nominal_95_percent(statistic, method):
    observed = coverage(
        lambda x, seed: bootstrap(x, statistic=statistic, method=method, resamples=400, seed=seed),
        truth=2.0,
        draw=lambda rng: rng.normal(2.0, 1.0, 40),
    )
    assert 0.91 <= observed <= 0.98


def test_coverage_of_the_stratified_bootstrap():
    observed = coverage(
        lambda x, seed: stratified_bootstrap(x, resamples=300, seed=seed),
        truth=0.0,
        draw=lambda rng: rng.normal(size=(20, 4)),
        repeats=300,
    )
    assert 0.90 <= observed <= 0.985


def _pair(rng):
    case = rng.gamma(4.0, 1.0, 48)  # what both share
    return 0.9 * case + rng.normal(0, 0.2, 48), case


def test_coverage_of_paired_ratio_and_difference():
    ratio = coverage(lambda x, seed: paired_ratio(*x, resamples=400, seed=seed), 0.9, _pair)
    difference = coverage(lambda x, seed: paired_difference(*x, resamples=400, seed=seed), -0.4, _pair)
    assert 0.91 <= ratio <= 0.98
    assert 0.91 <= difference <= 0.98


def test_pairing_narrows_the_interval():
    first, second = _pair(np.random.default_rng(2))
    paired = paired_ratio(first, second)
    broken = paired_ratio(np.random.default_rng(3).permutation(first), second)
    assert paired.estimate == pytest.approx(broken.estimate)
    assert paired.high - paired.low < 0.3 * (broken.high - broken.low)


def test_a_ratio_that_no_float_can_hold_is_refused():
    assert paired_ratio([1e300, 1e300], [1e-8, 1e-8]).high == pytest.approx(1e308)
    with pytest.raises(ConfigError, match="larger than a float can hold"):
        paired_ratio([1e300, 1e300], [1e-9, 1e-9])


def test_ratio_of_a_policy_to_itself_is_exactly_one():
    interval = paired_ratio(SKEWED, SKEWED)
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((1.0, 1.0, 1.0))


def test_strata_stay_apart():
    """Tasks of very different level: without strata the interval would be as wide as the levels are apart."""
    scores = np.stack([RNG.normal(0, 0.01, 10), RNG.normal(100, 0.01, 10)], axis=1)
    interval = stratified_bootstrap(scores, statistic="mean")
    assert interval.high - interval.low < 0.05
    assert interval.low < scores.mean() < interval.high


def test_tasks_are_resampled_on_their_own():
    """Equal columns, drawn on their own, average out; drawn row by row they would not."""
    column = RNG.normal(size=30)
    one = stratified_bootstrap(column[:, None], statistic="mean", resamples=4000)
    two = stratified_bootstrap(np.stack([column, column], axis=1), statistic="mean", resamples=4000)
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(0.5**0.5, abs=0.05)


def test_probability_of_improvement():
    low, high = np.zeros((5, 2)), np.ones((7, 2))
    assert probability_of_improvement(high, low).estimate == 1.0
    assert probability_of_improvement(low, high).estimate == 0.0
    assert probability_of_improvement(low, low).estimate == 0.5
    x, y = RNG.normal(0.5, 1, (9, 3)), RNG.normal(0, 1, (8, 3))
    expected = np.mean(
        [scipy_stats.mannwhitneyu(x[:, t], y[:, t]).statistic / (x.shape[0] * y.shape[0]) for t in range(3)]
    )
    interval = probability_of_improvement(x, y)
    assert interval.estimate == pytest.approx(expected)
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_intervals_of_success_rates_are_those_of_scipy(n, confidence):
    for k in range(n + 1):
        interval = proportion([True] * k + [False] * (n - k), confidence=confidence)
        expected = scipy_stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-12)
        assert (interval.estimate, interval.confidence) == (k / n, confidence)


def test_proportion_never_claims_certainty():
    interval = proportion([True] * 64)
    assert interval.estimate == 1.0
    assert interval.low == pytest.approx(0.9434, abs=1e-4)
    assert interval.high == pytest.approx(1.0)
    assert proportion([True, False] * 50).low == pytest.approx(0.4038, abs=1e-4)


def test_equal_values_and_single_values_give_a_point():
    for values in ([3.0], [3.0] * 10):
        interval = bootstrap(values)
        assert (interval.low, interval.high) == (3.0, 3.0)


def test_seed_decides():
    assert bootstrap(SKEWED, seed=1) == bootstrap(SKEWED, seed=1) != bootstrap(SKEWED, seed=2)


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, float("nan")], [float("inf")]])
def test_bad_values(values):
    with pytest.raises(ConfigError, match="finite"):
        bootstrap(values)


def test_bad_options():
    with pytest.raises(ConfigError, match="confidence"):
        bootstrap([1.0, 2.0], confidence=95)
    with pytest.raises(ConfigError, match="resamples"):
        bootstrap([1.0, 2.0], resamples=1)
    with pytest.raises(UnknownNameError, match=r"median.*mean"):
        bootstrap([1.0, 2.0], statistic="median")
    with pytest.raises(UnknownNameError, match="bca"):
        bootstrap([1.0, 2.0], method="basic")
    with pytest.raises(ConfigError, match="equal lengths"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="positive mean"):
        paired_ratio([1.0, 1.0], [0.0, 0.0])
    with pytest.raises(ConfigError, match="unbounded"):
        paired_ratio([1.0, 1.0], [0.0, 1.0])
    with pytest.raises(ConfigError, match="3 and 2 tasks"):
        probability_of_improvement(np.ones((2, 3)), np.ones((2, 2)))


def test_few_seeds_are_warned_about_and_enough_are_not():
    assert "only 1 seed" in few_seeds(1)
    assert "only 4 seeds" in few_seeds(4)
    assert few_seeds(5) == few_seeds(12) == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "0.93 (0.85\N{EN DASH}0.97)"),
        ({"style": "{low} to {high}"}, "0.85 to 0.97"),
        ({"signed": True, "style": "{estimate} [{low}, {high}]"}, "+0.93 [+0.85, +0.97]"),
        ({"significant": True, "scale": 100.0}, "93 (85\N{EN DASH}97)"),
    ],
)
def test_an_interval_is_written_in_the_style_of_its_table(options, text):
    assert format_interval(Interval(0.926, 0.851, 0.968), 2, **options) == text


def test_an_interval_without_spread_is_its_estimate():
    point = Interval(0.926, 0.926, 0.926)
    assert format_interval(point, 2) == "0.93"
    assert format_interval(point, 2, always=True) == "0.93 (0.93\N{EN DASH}0.93)"
    assert format_interval(None, 2) == "-"


def test_nested_ratios_of_one_run_and_task_are_a_paired_ratio():
    rng = np.random.default_rng(4)
    expert = rng.uniform(0.5, 1.0, 40)
    student = expert * rng.uniform(0.6, 1.1, 40)
    nested = nested_ratio(student[None, None], expert[None, None], resamples=10_000)
    paired = paired_ratio(student, expert, resamples=10_000, seed=1)
    assert nested.estimate == paired.estimate == student.mean() / expert.mean()
    assert (nested.low, nested.high) == pytest.approx((paired.low, paired.high), abs=0.003)


def test_nested_ratios_of_equal_cases_resample_the_runs_alone():
    ratios = np.array([[0.5, 0.9], [0.7, 1.1], [0.95, 0.95], [0.6, 0.6]])
    first = np.repeat((ratios * [2.0, 3.0])[:, :, None], 5, axis=2)
    second = np.broadcast_to(np.array([2.0, 3.0])[None, :, None], first.shape)
    nested = nested_ratio(first, second, resamples=10_000)
    runs = stratified_bootstrap(ratios.mean(axis=1)[:, None], statistic="mean", resamples=10_000, seed=1)
    assert nested.estimate == pytest.approx(ratios.mean())
    assert (nested.low, nested.high) == pytest.approx((runs.low, runs.high), abs=0.005)


def test_nested_ratios_vary_with_runs_and_cases_at_once():
    """The variance of independent parts adds up: that of the runs' mean, and that of the cases' mean."""
    rng = np.random.default_rng(6)
    runs, cases = rng.normal(0.0, 0.05, (12, 1, 1)), rng.normal(0.0, 0.4, (12, 2, 30))
    values = 1.0 + runs + cases
    found = nested_ratio(values, np.ones_like(values), confidence=0.6827, resamples=10_000)
    spread = (found.high - found.low) / 2
    expected = np.sqrt(values.mean(axis=(1, 2)).var() / 12 + values.var(axis=2).mean() / (12 * 2 * 30))
    assert spread == pytest.approx(expected, rel=0.03)
    wide = nested_ratio(values, np.ones_like(values), confidence=0.95, resamples=10_000)
    assert (wide.high - wide.low) / 2 == pytest.approx(1.96 * expected, rel=0.03)
    assert wide.confidence == 0.95


def test_nested_ratios_are_repeatable_and_do_not_depend_on_the_chunks(monkeypatch):
    values = np.random.default_rng(0).uniform(0.5, 1.0, (2, 2, 2, 8))
    first = nested_ratio(*values, resamples=150, seed=3)
    assert nested_ratio(*values, resamples=150, seed=3) == first != nested_ratio(*values, resamples=150, seed=4)
    monkeypatch.setattr("policykd.stats._CHUNK", 32 * 70)  # two whole chunks, and one of 10
    assert nested_ratio(*values, resamples=150, seed=3).estimate == first.estimate


def test_nested_ratios_refuse_what_has_no_ratio():
    ones = np.ones((2, 2, 3))
    with pytest.raises(ConfigError, match=r"same runs, tasks and cases; got \(2, 2, 3\) and \(2, 2, 2\)"):
        nested_ratio(ones, ones[:, :, :2])
    with pytest.raises(ConfigError, match="3 axes"):
        nested_ratio(ones[0], ones[0])
    for bad in (ones * 0, ones - 2 * (np.arange(3) == 1)):
        with pytest.raises(ConfigError, match="positive mean for every run and task"):
            nested_ratio(ones, bad)
    with pytest.raises(ConfigError, match="0 in nearly every case"):
        nested_ratio(ones, ones * (np.arange(3) == 1))
