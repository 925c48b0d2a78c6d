"""Recipes: round trips, presets and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_curriculum import TINY

from policykd.curriculum import CURRICULA, Injection, Recipe, SkillPlan, load_recipe, preset, preset_names, save_recipe
from policykd.curriculum.presets import for_suite
from policykd.envs.suites import suite_names
from policykd.errors import ConfigError, OutputError, UnknownNameError

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("name", preset_names())
def test_the_recipes_folder_holds_the_presets(name, tmp_path):
    """Regenerate with ``save_recipe(preset(name), Path("recipes") / f"{name}.yaml")``."""
    assert load_recipe(RECIPES / f"{name}.yaml") == preset(name)
    save_recipe(preset(name), tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (RECIPES / f"{name}.yaml").read_text()


def test_fields_left_out_have_their_defaults(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("skills:\n- skill: biped/flat\n- {skill: biped/steps, steps: 7}\nmerge: {rounds: 3}\n")
    with pytest.raises(ConfigError, match="architecture"):  # a merge of its own needs the networks of the training
        load_recipe(path)
    path.write_text("skills:\n- skill: biped/flat\n- {skill: biped/steps, steps: 7}\ntransfer_noise: 3e-1\n")
    found = load_recipe(path)
    assert found == replace(Recipe(skills=(SkillPlan("biped/flat"), SkillPlan("biped/steps", 7))), transfer_noise=0.3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"curriculm": "plaid"}, UnknownNameError, "curriculum"),
        ({"curriculum": "pladi"}, UnknownNameError, "did you mean plaid"),
        ({"injection": {"mode": "exakt"}}, UnknownNameError, "injection.mode.*exact"),
        ({"injection": {"blind": 4}}, ConfigError, r"injection.blind is 4; it must be in \[0, 3\]"),
        ({"injection": {"blind": "two"}}, ConfigError, "injection.blind is 'two'; it must be of type int"),
        ({"skills": [{"steps": 5}]}, ConfigError, r"skills\[0\].skill is missing"),
        ({"skills": [{"skill": "biped/flat", "steps": 0}]}, ConfigError, "steps of biped/flat is 0"),
        ({"skills": []}, ConfigError, "at least one"),
        ({"skills": "biped/flat"}, ConfigError, "must be a list"),
        ({"train": {"ppo": {"gamma": 2.0}}}, ConfigError, "ppo.gamma"),
        ({"train": {"ppo": {"learning_rate_range": [1.0]}}}, ConfigError, "1 values; it must have 2"),
        ({"merge": {"loss": "mes"}}, UnknownNameError, "mse"),
        ({"merge": {"beta": "exponentiel"}}, ConfigError, "merge.beta"),
        ({"transfer_noise": "much"}, ConfigError, "must be a number"),
        ({"merge": {"start": "biped/flat"}}, UnknownNameError, "newest"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, change, error, message):
    path = tmp_path / "bad.yaml"
    save_recipe(TINY, path)
    content = yaml.safe_load(path.read_text())
    for name, value in change.items():
        if isinstance(value, dict):
            content[name] = {**content[name], **value}
        else:
            content[name] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(error, match=message):
        load_recipe(path)


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(OutputError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="mapping"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("{")
    with pytest.raises(OutputError, match=r"broken\.yaml"):
        load_recipe(tmp_path / "broken.yaml")


def test_other_refusals():
    with pytest.raises(ConfigError, match="each once"):
        Recipe(skills=(SkillPlan("biped/flat"), SkillPlan("biped/flat")))
    with pytest.raises(ConfigError, match="must not repeat"):
        Injection(groups=("proprio",))
    with pytest.raises(UnknownNameError, match="standard"):
        preset("standart")
    with pytest.raises(UnknownNameError, match=r"skill_records: 'biped/gapes'; did you mean biped/gaps"):
        replace(TINY, skill_records={"biped/gapes": {}})


@pytest.mark.parametrize("suite", suite_names())
def test_suites_make_recipes(suite):
    from policykd.curriculum import make_plan
    from policykd.envs.suites import get_suite

    recipe = for_suite(preset("standard"), suite)
    assert [plan.skill for plan in recipe.skills] == [skill.id for skill in get_suite(suite)]
    for curriculum in CURRICULA:
        plan = make_plan(replace(recipe, curriculum=curriculum), 0)
        assert plan.columns == tuple(p.skill for p in recipe.skills)
    assert for_suite(preset("standard"), "terrains") == preset("standard")


def test_a_skill_that_is_seen_otherwise_gets_the_suites_budget():
    """Flat ground with the terrain in view and with a command are not learned equally fast."""
    known, other = (for_suite(preset("standard"), suite).skills[0] for suite in ("terrains", "gaits"))
    assert known.skill == other.skill == "biped/flat"
    assert (known.steps, other.steps) == (300_000, 1_200_000)


def test_one_skill_of_a_suite_may_cost_more_than_the_others():
    hard = for_suite(preset("standard"), "terrains-hard").skills
    assert [plan.steps for plan in hard] == [2_000_000, 2_000_000, 2_000_000, 3_000_000]
    assert {(plan.target_success, plan.start_level) for plan in hard} == {(0.9, 0.2)}
