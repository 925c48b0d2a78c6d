"""What is written into cells; whole tables are tested where commands print them."""

from policykd.evaluation.table import format_interval
from policykd.stats import Interval


def test_intervals_are_written_where_something_is_known_of_the_spread():
    assert format_interval(Interval(0.926, 0.851, 0.968), 2) == "0.93 (0.85\N{EN DASH}0.97)"
    assert format_interval(Interval(0.926, 0.926, 0.926), 2) == "0.93"
    assert format_interval(None, 2) == "-"
