"""Figures of curricula; the page itself is tested where a curriculum is run."""

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from policykd.errors import ConfigError
from policykd.evaluation.matrix import SkillMatrix
from policykd.report.plots.matrix import interval_plot, lineage_figure, matrix_heat_map
from policykd.report.plots.style import svg_text
from policykd.stats import Interval

MATRIX = SkillMatrix(
    ("flat", "gaps"),
    ("biped/flat", "biped/gaps"),
    ((0.8, 0.2), (0.76, 0.48)),
    ((1.0, 0.1), (0.97, 0.92)),
    (0.8, 0.5),
    (0.1, 0.1),
    (0, 1),
)


@pytest.mark.parametrize("suffix", ["", "+imitate"])
def test_labels_below_heat_maps_do_not_run_into_one_another(suffix):
    skills = tuple(f"biped/{name}{suffix}" for name in ("flat", "incline", "steps", "slopes", "gaps"))
    row = (1.0,) * 5
    figure = matrix_heat_map(SkillMatrix(("all",), skills, (row,), (row,), row, (0.0,) * 5, (0,) * 5))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        labels = axes.get_xticklabels()
        boxes = [label.get_window_extent() for label in labels]
        apart = all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert apart or all(label.get_rotation() > 30 for label in labels)
    assert apart == (not suffix)


def test_heat_map_shows_every_cell():
    text = svg_text(matrix_heat_map(MATRIX))
    for shown in ("1.000", "0.400", "0.950", "0.960", "0.97", "0.92", "after flat", "after gaps"):
        assert shown in text


def test_interval_plot_names_skills_and_methods():
    groups = {"biped/flat": {"plaid": Interval(0.9, 0.8, 1.0), "tl-only": Interval(0.5, 0.4, 0.6)}}
    text = svg_text(interval_plot(groups, "normalized reward"))
    for shown in ("biped/flat", "plaid", "tl-only", "normalized reward"):
        assert shown in text
    with pytest.raises(ConfigError, match="no interval"):
        interval_plot({}, "nothing")


def test_lineage_draws_parents_before_children():
    nodes = [("train-flat", "train", []), ("inject", "inject", ["train-flat"]), ("merge-gaps", "merge", ["inject"])]
    text = svg_text(lineage_figure(nodes))
    assert all(name in text for name, _, _ in nodes)
    with pytest.raises(ConfigError, match="not a policy before it"):
        lineage_figure(nodes[1:])
    with pytest.raises(ConfigError, match="no policy to draw"):
        lineage_figure([])
