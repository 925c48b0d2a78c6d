"""The registry of curricula: names and summaries for help, and one that another package adds without an edit here."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_curriculum import TINY

from empty_figures import leave_out_figures
from policykd.curriculum import (
    CURRICULA,
    CurriculumResult,
    Injection,
    compared_curricula,
    curriculum,
    make_plan,
    run_curriculum,
)
from policykd.curriculum.comparison import Comparison, run_comparison
from policykd.curriculum.plans import budget
from policykd.curriculum.stages import Train
from policykd.errors import ConfigError, UnknownNameError
from policykd.executor import Inline
from policykd.report.pages.comparison import write_comparison_page

SEEN = replace(
    TINY, skills=tuple(replace(plan, steps=256) for plan in TINY.skills[:2]), injection=Injection(blind=0),
    train=replace(TINY.train, segment_steps=256), merge=replace(TINY.merge, rounds=1),
    measurement=replace(TINY.measurement, zero_shot=()),
)  # fmt: skip


@pytest.fixture
def last_first():
    """Register the curriculum of the other module, and remove it again."""
    sys.modules.pop("outside_curriculum", None)
    import outside_curriculum

    yield outside_curriculum.last_first
    CURRICULA.unregister("last-first")
    sys.modules.pop("outside_curriculum")


def test_names_and_summaries_load_no_torch():
    code = (
        "import sys; from policykd.curriculum import CURRICULA, compared_curricula; "
        "print(*CURRICULA, *compared_curricula(), *(c.summary for c in CURRICULA.values()), sep='\\n'); "
        "print([m for m in ('torch', 'mujoco', 'stable_baselines3') if m in sys.modules])"
    )
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-1] == "[]"
    compared = ["plaid", "tl-only", "tl-only+merge", "multitasker", "scratch+merge"]
    assert lines[:7] == [*compared[:-1], "multitasker-joint", "scratch+merge", "scratch+merge+finetune"]
    assert lines[7:12] == compared
    assert len(lines) == 7 + 5 + 7 + 1
    assert all(lines[12:19])


def test_a_curriculum_of_another_package_runs_and_is_compared(last_first, tmp_path, monkeypatch):
    recipe = replace(SEEN, curriculum="last-first", early_stop=False)
    trainings = [stage for stage in make_plan(recipe, 0).stages if isinstance(stage, Train)]
    assert [stage.start for stage in trainings] == [None, None]
    assert sum(stage.config.steps for stage in trainings) == budget(recipe)
    result = run_curriculum(recipe, tmp_path / "run", threads=1)
    assert result.recipe.curriculum == "last-first"
    assert "last-first" not in compared_curricula()
    monkeypatch.setattr("policykd.curriculum.comparison.Processes", lambda workers: Inline())
    found = run_comparison(SEEN, tmp_path / "compared", curricula=("last-first",), seeds=1)
    assert Comparison.load(tmp_path / "compared" / "comparison.json") == found
    leave_out_figures(monkeypatch)
    assert "last-first" in write_comparison_page(tmp_path / "compared").read_text()


def test_a_recipe_may_name_a_curriculum_that_was_never_imported(tmp_path):
    sys.modules.pop("outside_curriculum", None)
    recipe = replace(SEEN, curriculum="outside_curriculum:last_first")
    assert "outside_curriculum" not in sys.modules  # a recipe from a file imports nothing
    try:
        result = run_curriculum(recipe, tmp_path, threads=1)
        assert CurriculumResult.load(tmp_path / "curriculum.json") == result
    finally:
        CURRICULA.unregister("last-first")
    with pytest.raises(ConfigError, match="must be a Curriculum"):
        make_plan(replace(SEEN, curriculum="outside_curriculum:curriculum"), 0)
    with pytest.raises(ConfigError, match="cannot be imported"):
        make_plan(replace(SEEN, curriculum="no_such_package:x"), 0)


def test_names_are_given_once_and_close_ones_are_named():
    with pytest.raises(ConfigError, match="already called 'plaid'"):
        curriculum("plaid", "another")(lambda builder: None)
    with pytest.raises(UnknownNameError, match="did you mean plaid"):
        replace(TINY, curriculum="plaidd")
