import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg

from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill, skill_ids
from policykd.envs.terrains import TrackBank
from policykd.errors import ConfigError, OutputError
from policykd.evaluation import Evaluation
from policykd.evaluation.results import Episodes
from policykd.report.plots.matrix import evaluation_heat_map
from policykd.report.plots.run import learning_curves, merge_curve, score_plot
from policykd.report.plots.style import new_figure, save_figure, svg_text
from policykd.report.plots.terrains import draw_gallery, gallery_figure, height_profile
from policykd.runs import read_log
from policykd.seeding import integer_seed

ROWS = [{"steps": 1000 * i, "reward_per_step": 0.1 * i, "success": 0.05 * i, "distance": i} for i in range(1, 9)]
ROUNDS = [{"round": i, "loss": 1 / i, "retention": {"biped/flat": 0.8, "biped/steps": 0.1 * i}} for i in range(1, 6)]


def episodes(*success):
    n = len(success)
    return Episodes((20.0,) * n, (0.2,) * n, (100,) * n, (3.0,) * n, success)


@pytest.fixture
def evaluation():
    cells = {
        ("expert", "biped/flat"): episodes(True, True, True, False),
        ("student", "biped/flat"): episodes(True, False, False, False),
    }
    return Evaluation(
        ("expert", "student"), ("biped/flat",), 4, 0, False, {"biped/flat": 100}, {"biped/flat": "expert"}, cells
    )


def drawn(figure, panel, label):
    line = next(line for line in figure.axes[panel].get_lines() if line.get_label() == label)
    return line.get_xydata()


def test_a_legend_of_many_long_names_is_not_wider_than_its_figure():
    names = [f"quadruped/flat+{name}" for name in ("trot", "pace", "bound", "creep", "reverse", "turn")]
    figure = learning_curves(dict.fromkeys(names, ROWS))
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert len(learning_curves({"a": ROWS, "b": ROWS}).legends[0].get_texts()) == 2


def test_learning_curves_draw_the_log():
    figure = learning_curves({"flat": ROWS, "steps": ROWS[:3]})
    for panel, name in enumerate(("reward_per_step", "success", "distance")):
        assert drawn(figure, panel, "flat").tolist() == [[row["steps"], row[name]] for row in ROWS]
    assert len(drawn(figure, 0, "steps")) == 3
    svg = svg_text(figure)
    assert ">flat<" in svg
    assert "environment steps" in svg


def test_merge_curve_draws_every_skill():
    figure = merge_curve(ROUNDS)
    assert drawn(figure, 0, "biped/steps")[:, 1] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_score_plot_draws_estimates_and_intervals(evaluation):
    figure = score_plot(evaluation)
    summary = evaluation.summaries["student", "biped/flat"]
    ends = [line.get_xdata() for line in figure.axes[0].get_lines()]
    assert any(list(x) == [summary.success.low, summary.success.high] for x in ends)
    assert any(list(np.atleast_1d(x)) == [0.25] for x in ends)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["expert", "student"]
    titles = [axes.get_title(loc="left") for axes in score_plot(evaluation.with_experts({})).axes]
    assert titles == ["success", "reward per step"]


@pytest.mark.parametrize(("draw", "argument"), [(learning_curves, {"flat": []}), (merge_curve, [{"round": 1}])])
def test_nothing_to_draw_is_said(draw, argument):
    with pytest.raises(ConfigError, match="log"):
        draw(argument)


def test_log_cut_short_by_a_kill(tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"steps": 1}\n{"steps": 2}\n{"ste')
    assert read_log(tmp_path / "progress.jsonl") == [{"steps": 1}, {"steps": 2}]
    assert read_log(tmp_path / "none.jsonl") == []


def test_svg_takes_the_pages_colors_and_is_repeatable(evaluation):
    svg = svg_text(score_plot(evaluation))
    assert svg == svg_text(score_plot(evaluation))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert not re.search(r"#010203|#000000|black|DejaVu|purl\.org|<image", svg)


def test_files_by_suffix(tmp_path, evaluation):
    figure = score_plot(evaluation)
    assert save_figure(figure, tmp_path / "new" / "a.svg").read_text().startswith("<svg")
    picture = image.imread(save_figure(figure, tmp_path / "a.png"))
    assert picture.shape[1] > 1000
    assert (picture[0, 0, :3] == 1).all()
    with pytest.raises(ConfigError, match=r"a\.gif"):
        save_figure(figure, tmp_path / "a.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_figure(figure, tmp_path / "file" / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file", "new"]


TRACKS = [name for name in skill_ids() if not get_skill(name).terrain.varies_across]


@pytest.mark.parametrize("skill_id", TRACKS)
def test_gallery_shows_the_ground_that_physics_has(skill_id):
    skill = get_skill(skill_id)
    x, z = height_profile(skill, seed=3)
    track = TrackBank([skill.terrain], 1, integer_seed(3, "gallery"), scale=skill.robot.ground_scale).tracks
    places = np.random.default_rng(0).uniform(-2, 14, 500)
    places = places[np.abs(places[:, None] - x).min(axis=1) > 1e-9]
    import torch

    assert np.interp(places, x, z) == pytest.approx(track.height(torch.tensor(places)[None])[0].numpy(), abs=1e-9)


def test_gallery_has_a_panel_per_skill_drawn_to_scale(tmp_path):
    skills = [get_skill(name) for name in ("biped/flat", "biped/gaps:terrainrlsim@0.5")]
    figure = gallery_figure(skills)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [skill.id for skill in skills]
    assert all(axes.get_aspect() == 1 for axes in figure.axes)
    body = np.concatenate([patch.get_xy() for patch in figure.axes[0].patches])
    robot = get_robot("biped")
    assert body[:, 1].min() == pytest.approx(0, abs=5e-3), "the robot stands on the ground"
    assert 1.2 < body[:, 1].max() < robot.stand_pose[1] + 0.7
    assert draw_gallery(skills, tmp_path / "g.png").stat().st_size > 5000
    with pytest.raises(ConfigError, match="no skill"):
        draw_gallery([], tmp_path / "g.png")


def test_figures_leave_matplotlibs_defaults_alone():
    from matplotlib import rcParams

    before = dict(rcParams)
    svg_text(new_figure(1, 1, (2, 2))[0])
    assert dict(rcParams) == before


def test_the_matrix_of_an_evaluation_has_retention_and_success_and_frames_the_experts(evaluation):
    figure = evaluation_heat_map(evaluation)
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["1.00", "1.00"], ["0.75", "0.25"]]
    assert [text.get_weight() for text in figure.axes[0].texts] == ["normal", "bold"]
    frames = [patch.get_edgecolor()[3] > 0 for patch in figure.axes[0].patches]
    assert frames == [True, False]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["expert", "student"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["flat"]


def test_the_matrix_of_an_evaluation_shades_what_was_lost(evaluation):
    lost = replace(evaluation.cells["student", "biped/flat"], reward_per_step=(0.05,) * 4)
    found = replace(evaluation, cells={**evaluation.cells, ("student", "biped/flat"): lost})
    figure = evaluation_heat_map(found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "0.25"]
    kept, gone = (patch.get_facecolor() for patch in figure.axes[0].patches)
    assert kept[1] - kept[0] > 0.1, "green"
    assert gone[0] - gone[1] > 0.02, "red"


def test_the_matrix_of_an_evaluation_needs_experts(evaluation):
    with pytest.raises(ConfigError, match=r"retention of biped/flat needs an expert.*with_experts"):
        evaluation_heat_map(evaluation.with_experts({}))
