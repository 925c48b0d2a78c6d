"""Strips of pictures: every picture is in its place, with its label."""

import numpy as np
import pytest

from policykd.errors import ConfigError
from policykd.report.plots.samples import samples_figure
from policykd.report.plots.style import svg_text


def test_pictures_follow_one_another_in_their_rows():
    rows = {"first": np.arange(24.0).reshape(2, 3, 4), "second": np.ones((3, 2, 2))}
    figure = samples_figure(rows, ["a", "b", "c"], upward=True)
    first, second = figure.axes
    drawn = first.images[0].get_array()
    assert drawn.shape == (3, 9)
    np.testing.assert_array_equal(drawn[:, :4], rows["first"][0])
    np.testing.assert_array_equal(drawn[:, 5:], rows["first"][1])
    assert np.ma.getmaskarray(drawn)[:, 4].all() or np.isnan(np.asarray(drawn)[:, 4]).all()
    assert [text.get_text() for text in second.get_xticklabels()] == ["a", "b", "c"]
    assert list(first.get_xticks()) == []
    assert first.images[0].origin == "lower"
    text = svg_text(figure)
    assert "first" in text
    assert text == svg_text(samples_figure(rows, ["a", "b", "c"], upward=True))


@pytest.mark.parametrize("rows", [{}, {"flat": np.zeros((3, 4))}, {"none": np.zeros((0, 2, 2))}])
def test_rows_that_cannot_be_drawn_are_refused(rows):
    with pytest.raises(ConfigError):
        samples_figure(rows)
