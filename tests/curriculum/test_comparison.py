"""Comparisons: matched runs, shared experts, intervals over seeds, and a page about them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from tiny_curriculum import TINY, shortened

from policykd.curriculum import Injection
from policykd.curriculum.comparison import Comparison, SeedResult, run_comparison
from policykd.errors import ConfigError, UnknownNameError
from policykd.evaluation.matrix import SkillMatrix
from policykd.executor import Inline
from policykd.report.pages.comparison import write_comparison_page

SMALL = replace(
    TINY,
    skills=tuple(replace(plan, steps=512) for plan in TINY.skills[1:]),
    injection=Injection(blind=0),
    measurement=replace(TINY.measurement, zero_shot=()),
    train=replace(TINY.train, segment_steps=256),
    merge=replace(TINY.merge, rounds=1, min_teacher_success=1.0),  # no expert of a tiny run is that good
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch, shortened():
        patch.setattr("policykd.curriculum.comparison.Processes", lambda workers: Inline())
        return out, run_comparison(SMALL, out, curricula=("plaid", "scratch+merge"), seeds=1)


def test_runs_cost_the_same_and_are_read_back(compared):
    """Weak experts are merged all the same."""
    out, comparison = compared
    assert comparison.recipe.merge.min_teacher_success == 0.0
    assert {run.steps for run in comparison.runs} == {comparison.budget}
    assert Comparison.load(out / "comparison.json") == comparison
    assert set(comparison.of("plaid")[0].transfer) == {"biped/gaps"}
    assert comparison.of("scratch+merge")[0].transfer == {}
    assert comparison.experts == comparison.of("scratch+merge")[0].matrix.experts
    content = json.loads((out / "comparison.json").read_text())
    assert "only 1 seed" in content["warning"]


def test_finished_runs_are_not_run_again(compared, monkeypatch):
    out, comparison = compared
    monkeypatch.setattr("policykd.curriculum.comparison.Processes", lambda workers: Inline())
    monkeypatch.setattr("policykd.curriculum.runner.run_stages", lambda *args: pytest.fail("ran again"))
    assert run_comparison(SMALL, out, curricula=("plaid", "scratch+merge"), seeds=1, resume=True) == comparison


def finish_by_copy(finished, *, fail_at=None):
    """In place of a run: its folder is copied from a finished comparison."""

    def run(recipe, out, *, seed, **_):
        if (recipe.curriculum, seed) == fail_at:
            raise ConfigError("stopped")
        shutil.copytree(finished / "runs" / f"{recipe.curriculum}-0", out, dirs_exist_ok=True)

    return run


def test_a_comparison_that_is_stopped_has_its_whole_seeds(compared, tmp_path, monkeypatch):
    monkeypatch.setattr("policykd.curriculum.comparison.Processes", lambda workers: Inline())
    curricula, told = ("plaid", "scratch+merge"), []
    stopped = finish_by_copy(compared[0], fail_at=("scratch+merge", 2))
    monkeypatch.setattr("policykd.curriculum.comparison.run_curriculum", stopped)
    with pytest.raises(ConfigError, match="stopped"):
        run_comparison(SMALL, tmp_path, curricula=curricula, seeds=4, on_seed=told.append)
    assert [found.seeds for found in told] == [(0,), (0, 1)]
    assert Comparison.load(tmp_path / "comparison.json") == told[-1]
    assert "2 seeds" in write_comparison_page(tmp_path).read_text()
    told.clear()
    monkeypatch.setattr("policykd.curriculum.comparison.run_curriculum", finish_by_copy(compared[0]))
    whole = run_comparison(SMALL, tmp_path, curricula=curricula, seeds=4, resume=True, on_seed=told.append)
    assert [found.seeds for found in told] == [(0, 1), (0, 1, 2), (0, 1, 2, 3)]  # what was whole is told once
    assert whole == told[-1] == Comparison.load(tmp_path / "comparison.json")


def test_the_page_shows_everything_and_needs_no_network(compared):
    page = write_comparison_page(compared[0]).read_text()
    for text in (
        "plaid",
        "scratch+merge",
        "biped/gaps",
        "forward transfer",
        "only 1 seed",
        "Every seed",
        "stable-base",
    ):
        assert text in page
    assert "95 % interval" not in page  # one seed has none
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def fake(curriculum, seed, final):
    matrix = SkillMatrix(
        ("a", "b"), ("x", "y"), ((0.5, 0.1), tuple(final)), ((1.0, 0.0), (1.0, 1.0)), (0.5, 0.5), (0.1, 0.1), (0, 1)
    )
    return SeedResult(curriculum, seed, matrix, 10, 1.0, 1.0, {}, {}, {})


def test_intervals_are_over_seeds_and_skills():
    rng = np.random.default_rng(0)
    finals = rng.uniform(0.3, 0.5, (5, 2))
    runs = tuple(fake("plaid", s, final) for s, final in enumerate(finals))
    comparison = Comparison(TINY, ("plaid",), tuple(range(5)), ("x", "y"), 10, (0.5, 0.4), runs)
    scores = finals / np.array([0.5, 0.4])
    assert comparison.overall("plaid").estimate == pytest.approx(scipy_stats.trim_mean(scores.ravel(), 0.25))
    assert comparison.on_skill("plaid", "y").estimate == pytest.approx(scipy_stats.trim_mean(scores[:, 1], 0.25))
    assert comparison.overall("plaid").low < comparison.overall("plaid").estimate < comparison.overall("plaid").high
    assert comparison.mean("plaid").estimate == pytest.approx(scores.mean())
    assert comparison.weakest("plaid").estimate == pytest.approx(np.mean([min(row) for row in scores]))
    forgotten = (1.0 - scores[:, 0]).mean()  # below zero for seeds that improved
    assert comparison.forgetting("plaid").estimate == pytest.approx(forgotten)
    assert comparison.warning == ""
    with pytest.raises(UnknownNameError, match="plaid"):
        comparison.of("plaide")


def test_a_lost_skill_shows_on_the_weakest_although_the_interquartile_mean_leaves_it_out():
    skills = ("v", "w", "x", "y")
    matrix = SkillMatrix(("all",), skills, ((0.0, 0.9, 0.9, 0.9),), ((1.0,) * 4,), (1.0,) * 4, (0.0,) * 4, (0,) * 4)
    runs = tuple(SeedResult("tl-only", s, matrix, 10, 1.0, 1.0, {}, {}, {}) for s in range(5))
    found = Comparison(TINY, ("tl-only",), tuple(range(5)), skills, 10, (1.0,) * 4, runs).intervals("tl-only")
    assert list(found) == [*skills, "overall", "mean", "weakest skill"]
    assert [round(interval.estimate, 3) for interval in found.values()] == [0.0, 0.9, 0.9, 0.9, 0.9, 0.675, 0.0]


def test_bad_comparisons_are_refused_before_any_work(tmp_path):
    with pytest.raises(UnknownNameError, match="tl-only"):
        run_comparison(SMALL, tmp_path / "a", curricula=("tl-onyl",))
    with pytest.raises(ConfigError, match="each once"):
        run_comparison(SMALL, tmp_path / "a", curricula=("plaid", "plaid"))
    with pytest.raises(ConfigError, match="seeds is 0"):
        run_comparison(SMALL, tmp_path / "a", seeds=0)
    assert not (tmp_path / "a").exists()
