"""Schedules: values at known points, validation, and the short text form."""

import math

import pytest

from policykd import schedules
from policykd.errors import UnknownNameError
from policykd.schedules import Constant, Cosine, Exponential, Linear, PlaidCode, PlaidPaper, Ramp, Step, parse


def test_values():
    assert Constant(0.3)(7) == 0.3
    assert [Linear(1, 0, over=0.5)(i, 8) for i in (0, 2, 4, 8)] == [1.0, 0.5, 0.0, 0.0]
    assert [Exponential(0.7)(i) for i in range(3)] == pytest.approx([1.0, 0.7, 0.49])
    assert Exponential(0.5, floor=0.2)(10) == 0.2
    assert [Cosine(2, 0)(i, 4) for i in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])
    assert [Ramp(0, 3000, steps=5)(i) for i in (0, 1, 5, 50)] == [0.0, 600.0, 3000.0, 3000.0]
    assert [Step(1, 0, at=1)(i) for i in (0, 1, 2)] == [1.0, 0.0, 0.0]


def test_plaid_curves():
    assert [round(PlaidCode()(i, 100), 2) for i in (0, 25, 50, 75, 100)] == [1.0, 0.6, 0.35, 0.2, 0.2]
    assert PlaidCode(forced_expert=True)(99, 100) == 1.0
    assert [PlaidPaper()(i) for i in (0, 5_000, 10_000, 20_000)] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("exponential:0.7", Exponential(0.7)),
        ("linear", Linear()),
        ("linear:1,0,over=0.5", Linear(1.0, 0.0, 0.5)),
        ("ramp:0,3000,5", Ramp(0.0, 3000.0, 5.0)),
        ("plaid-code:floor=0.1,forced_expert=true", PlaidCode(0.1, True)),
        ("plaid_paper", PlaidPaper()),
        (" 0.25 ", Constant(0.25)),
        (4, Constant(4.0)),
    ],
)
def test_parse(text, schedule):
    assert parse(text) == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linear:1,2,1,4", "at most 3 values"),
        ("linear:a", "needs a number for start"),
        ("linear:1,start=2", "start twice"),
        ("exponential:-1", "rate must be above 0"),
        ("linear:1,0,0", r"over must be in \(0, 1\]"),
        ("ramp:0,1,0", "steps must be above 0"),
        ("constant:nan", "finite"),
        ("plaid_code:2", r"floor must be in \[0, 1\]"),
    ],
)
def test_parse_errors(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exponentail:0.7", "unknown schedule 'exponentail'; did you mean exponential"),
        ("zzz", "valid: constant"),
        ("linear:begin=1", "unknown field of schedule 'linear': 'begin'"),
    ],
)
def test_unknown_names(text, words):
    with pytest.raises(UnknownNameError, match=words):
        parse(text)


def test_every_schedule_is_frozen_parsable_and_finite():
    for name in schedules.available():
        schedule = parse(name)
        assert isinstance(schedule, schedules.Schedule)
        assert hash(schedule) == hash(parse(name))
        assert all(math.isfinite(schedule(i, 10)) for i in range(12))
        with pytest.raises(ValueError, match="step must be"):
            schedule(-1, 10)


def test_fraction_needs_total():
    with pytest.raises(ValueError, match="give total"):
        Linear()(1)
