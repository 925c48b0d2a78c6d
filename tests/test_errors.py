"""Errors say what was wrong, what is valid and what was probably meant, also after a trip between processes."""

import pickle

import pytest

from policykd.errors import ConfigError, UnknownNameError, check_range


def test_unknown_name_lists_the_choices_and_the_close_ones():
    error = UnknownNameError("terrain", "stepps", ["flat", "steps", "gaps"])
    assert str(error) == "unknown terrain 'stepps'; did you mean steps? (valid: flat, gaps, steps)"
    assert "did you mean" not in str(UnknownNameError("terrain", "xyz", ["flat"]))


def test_errors_survive_pickling():
    error = UnknownNameError("terrain", "stepps", ["steps"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_range_names_field_value_and_range(value):
    with pytest.raises(ConfigError, match=r"share is .* m; it must be in \[0.0, 1.0\] m"):
        check_range("share", value, 0.0, 1.0, "m")
