"""Progress where there is no terminal: a line a minute, with what is left, and none in between."""

import io

import pytest
from rich.console import Console

from policykd.cli import output
from policykd.cli.output import Bars


class Clock:
    """Time that tests set."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(output, "time", found)
    return found


def test_a_line_a_minute_tells_what_is_left(clock):
    text = io.StringIO()
    bars = Bars(Console(file=text, width=200))
    bars.begin("train biped/flat", 2_000_000, "steps")
    for now, done in ((130.0, 300_000), (159.9, 400_000), (160.0, 500_000), (200.0, 600_000), (220.0, 1_000_000)):
        clock.now = now
        bars.update("train biped/flat", done, train_success=0.5, other=3)
    clock.now = 7300.0
    bars.update("train biped/flat", 1_500_000)
    bars.end("train biped/flat", "done")
    assert text.getvalue().splitlines() == [
        "train biped/flat: 500,000 of 2,000,000 steps after 60 s, about 3 min left  success 0.5",
        "train biped/flat: 1,000,000 of 2,000,000 steps after 2 min, about 2 min left  success 0.5",
        "train biped/flat: 1,500,000 of 2,000,000 steps after 2 h 0 min, about 40 min left",
        "train biped/flat: done",
    ]


def test_activities_have_their_own_minutes(clock):
    text = io.StringIO()
    bars = Bars(Console(file=text, width=200), every=10.0)
    bars.begin("a", 10, "clips")
    clock.now = 105.0
    bars.begin("b", 10, "clips")
    clock.now = 110.0
    for name in ("a", "b"):
        bars.update(name, 0)
    assert text.getvalue().splitlines() == ["a: 0 of 10 clips after 10 s"]


def test_a_terminal_gets_bars_and_no_lines(clock):
    text = io.StringIO()
    bars = Bars(Console(file=text, width=200, force_terminal=True), every=0.0)
    bars.begin("a", 10, "clips")
    bars.update("a", 5)
    bars.end("a")
    assert "after" not in text.getvalue()
