"""Plans: what each curriculum consists of, and that all of them may spend the same."""

from dataclasses import replace

import pytest
from tiny_curriculum import EPISODE, TINY

from policykd.curriculum import CURRICULA, Injection, Measurement, SkillPlan, load_recipe, make_plan, save_recipe
from policykd.curriculum.plans import budget, merge_steps
from policykd.curriculum.skills import import_names
from policykd.curriculum.stages import Finetune, Inject, Measure, Merge, Train
from policykd.envs.observations import GROUPS
from policykd.envs.robots import ROBOTS
from policykd.envs.skill_records import records_of
from policykd.envs.skills import get_skill
from policykd.envs.tasks import Walk
from policykd.envs.tasks.registry import TASKS
from policykd.envs.terrains import TERRAINS
from policykd.errors import ConfigError, ContractError, UnknownNameError


def spent(recipe, plan):
    """Environment steps of a plan whose stages use all that they may."""
    total = 0
    for stage in plan.stages:
        if isinstance(stage, (Train, Finetune)):
            total += stage.config.steps
        elif isinstance(stage, Merge):
            total += merge_steps(recipe, len(stage.skills))
    return total


@pytest.mark.parametrize("curriculum", CURRICULA)
@pytest.mark.parametrize("blind", [0, 1, 2, 3])
def test_all_curricula_have_the_same_budget(curriculum, blind):
    recipe = replace(TINY, curriculum=curriculum, early_stop=False, injection=Injection(blind=blind))
    plan = make_plan(recipe, 0)
    assert spent(recipe, plan) == budget(recipe)
    names = [stage.name for stage in plan.stages]
    assert len(set(names)) == len(names)
    finished = set()
    for stage in plan.stages:
        assert set(stage.needs) <= finished
        finished.add(stage.name)
    assert {f"measure-{row.stage}" for row in plan.rows} <= finished


PREPARED = replace(TINY, injection=Injection(blind=0), preparation=SkillPlan("biped/flat+crouch", 2048))


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_a_preparation_is_learned_once_and_begins_what_would_begin_with_new_weights(curriculum):
    recipe = replace(PREPARED, curriculum=curriculum, early_stop=False, transfer_noise=0.3)
    plan, without = (make_plan(r, 0) for r in (recipe, replace(recipe, preparation=None)))
    trainings = [stage for stage in plan.stages if isinstance(stage, Train)]
    first, *others = trainings
    assert (first.name, first.start, first.noise, first.config.steps) == ("prepare-flat+crouch", None, None, 2048)
    usual = {stage.name: stage for stage in without.stages if isinstance(stage, Train)}
    assert [stage.name for stage in others] == list(usual)
    for stage in others:
        assert stage.start == (usual[stage.name].start or first.name)
        assert stage.noise == 0.3
    assert (plan.columns, plan.rows, plan.experts) == (without.columns, without.rows, without.experts)
    assert budget(recipe) == spent(recipe, plan) == budget(replace(recipe, preparation=None)) + 2048


def test_a_preparation_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="preparation is biped/flat; give a skill"):
        replace(PREPARED, preparation=SkillPlan("biped/flat"))
    with pytest.raises(ConfigError, match=r"needs injection\.blind 0"):
        replace(PREPARED, injection=Injection(blind=1))


def test_experts_a_merge_and_fine_tuning_share_the_steps():
    """Half of PLAID's stages, but for the last merge, makes the experts; what is left improves the student."""
    recipe = replace(TINY, curriculum="scratch+merge+finetune", injection=Injection(blind=0))
    plan = make_plan(recipe, 0)
    trainings = [stage for stage in plan.stages if isinstance(stage, Train)]
    assert [stage.config.steps for stage in trainings] == [512, (1024 + merge_steps(TINY, 2)) // 2, 512]
    assert all(stage.start is None for stage in trainings)
    merge, finetune = (stage for stage in plan.stages if isinstance(stage, (Merge, Finetune)))
    assert (finetune.start, finetune.needs) == (merge.name, (merge.name,))
    assert finetune.skills == merge.skills
    assert finetune.config.steps == budget(recipe) - merge_steps(TINY, 3) - sum(s.config.steps for s in trainings)
    assert replace(finetune.config, steps=1, seed=0) == replace(recipe.finetune, steps=1, seed=0)
    assert finetune.config.seed != make_plan(recipe, 1).stages[-2].config.seed
    assert [row.stage for row in plan.rows] == ["finetune"]
    with pytest.raises(ConfigError, match="runs on the CPU only"):
        make_plan(recipe.on_device("cuda"), 0)


def test_merge_steps_by_hand():
    """Two rounds and the critic's, of two simulations and EPISODE steps, on three skills."""
    assert merge_steps(TINY, 3) == 3 * 2 * EPISODE * 3
    assert budget(TINY) == 3 * 1024 + 3 * 2 * EPISODE * (2 + 3)
    assert merge_steps(replace(TINY, merge=replace(TINY.merge, critic="none")), 3) == 2 * 2 * EPISODE * 3


def test_plaid_is_blind_then_injected_then_sighted():
    plan = make_plan(TINY, 0)
    work = [stage for stage in plan.stages if not isinstance(stage, Measure)]
    assert [stage.name for stage in work] == [
        "train-flat",
        "train-incline",
        "inject",
        "merge-incline",
        "train-gaps",
        "merge-gaps",
    ]
    flat, incline, inject, first, gaps, second = work
    assert (flat.start, incline.start, inject.source, gaps.start) == (
        None,
        "train-flat",
        "train-incline",
        "merge-incline",
    )
    assert [s.groups for s in (*flat.skills, *incline.skills, *gaps.skills)] == [
        ("proprio",),
        ("proprio",),
        ("proprio", "terrain"),
    ]
    assert first.teachers == ("train-flat", "inject")
    assert second.teachers == ("merge-incline", "merge-incline", "train-gaps")
    assert all(s.groups == ("proprio", "terrain") for s in (*first.skills, *second.skills))
    assert isinstance(inject, Inject)
    assert [row.stage for row in plan.rows] == ["train-flat", "merge-incline", "merge-gaps"]
    assert plan.experts == {f"biped/{name}": f"train-{name}" for name in ("flat", "incline", "gaps")}


def test_multitasker_trains_on_all_skills_so_far():
    plan = make_plan(replace(TINY, curriculum="multitasker"), 0)
    trained = [[s.id for s in stage.skills] for stage in plan.stages if isinstance(stage, Train)]
    assert trained == [["biped/flat"], ["biped/flat", "biped/incline"], ["biped/flat", "biped/incline", "biped/gaps"]]
    settings = [stage.config.ppo for stage in plan.stages if isinstance(stage, Train)]
    assert settings == [TINY.train.ppo, TINY.joint, TINY.joint]
    assert not plan.experts


def test_curricula_share_the_first_walker_and_no_other_seed():
    def first(curriculum, seed):
        plan = make_plan(replace(TINY, curriculum=curriculum), seed)
        return next(stage for stage in plan.stages if isinstance(stage, Train))

    walkers = {first(c, 0) for c in ("plaid", "tl-only", "tl-only+merge", "multitasker", "scratch+merge")}
    assert len(walkers) == 1
    assert first("plaid", 1).config.seed != first("plaid", 0).config.seed


def test_the_student_starts_where_the_recipe_says():
    def merges(start):
        plan = make_plan(replace(TINY, merge=replace(TINY.merge, start=start)), 0)
        return [(stage.config.start, stage.previous) for stage in plan.stages if isinstance(stage, Merge)]

    assert merges("newest") == [("newest", None)] * 2
    assert merges("random") == [("random", None)] * 2
    assert merges("previous") == [("newest", None), ("previous", "merge-incline")]


def test_nothing_stops_early_where_costs_must_be_equal():
    plan = make_plan(replace(TINY, early_stop=False), 0)
    assert {s.config.target_success for s in plan.stages if isinstance(s, Train)} == {2.0}
    assert {s.config.target_retention for s in plan.stages if isinstance(s, Merge)} == {2.0}


def test_only_the_last_policy_is_measured_where_nobody_trained():
    plan = make_plan(TINY, 0)
    seen = [s.name for s in plan.stages if isinstance(s, Measure) and "biped/walls" in [k.id for k in s.skills]]
    assert seen == ["measure-merge-gaps"]


@pytest.mark.parametrize("field", ["skills", "zero_shot"])
def test_skills_that_no_policy_can_share_are_refused(field):
    shorter = records_of([replace(get_skill("biped/walls"), episode_steps=100)])
    skills = (*TINY.skills, SkillPlan("biped/walls")) if field == "skills" else TINY.skills
    measured = Measurement(zero_shot=() if field == "skills" else ("biped/walls",))
    with pytest.raises(ContractError, match=r"biped/walls has 100"):
        make_plan(replace(TINY, skills=skills, measurement=measured, skill_records=shorter), 0)


def test_a_recipe_keeps_skills_whose_ids_do_not_say_everything(tmp_path):
    """A faster walk in shorter episodes: every stage has it, also after a trip through a file."""
    own = [replace(get_skill(plan.skill), task=Walk(speed=1.4), episode_steps=64) for plan in TINY.skills]
    unseen = replace(get_skill("biped/walls"), task=Walk(speed=1.6), episode_steps=64)
    recipe = replace(TINY, skill_records=records_of([*own, unseen]))
    save_recipe(recipe, tmp_path / "mine.yaml")
    again = load_recipe(tmp_path / "mine.yaml")
    assert again == recipe
    plan = make_plan(again, 0)
    merge, measure = (next(s for s in reversed(plan.stages) if isinstance(s, kind)) for kind in (Merge, Measure))
    assert merge.skills == tuple(own)
    assert measure.skills == (*own, unseen)
    first = next(stage for stage in plan.stages if isinstance(stage, Train))
    assert first.skills == (replace(own[0], groups=("proprio",)),)
    assert plan.columns == tuple(skill.id for skill in own)
    longer = replace(TINY.merge, rounds=3)
    saved = merge_steps(replace(recipe, merge=longer), 2) - merge_steps(recipe, 2)
    assert saved == TINY.merge.envs * 64 * 2  # episodes of 64 steps, two skills


THINGS = """
from dataclasses import replace
from policykd.envs.observations import ObservationGroup
from policykd.envs.robots import get_robot
from policykd.envs.tasks import Walk
from policykd.envs.terrains.generators import Flat
HEAVY = replace(get_robot("biped"), name="heavy")
FIELD = Flat()
STROLL = Walk(speed=0.6)
PITCH = ObservationGroup("pitch", lambda robot: 1, "rad", lambda state, around: state.pitch[:, None])
"""


def test_skills_of_another_package_are_imported_wherever_a_stage_runs(tmp_path, monkeypatch):
    (tmp_path / "lab_of_plans").mkdir()
    (tmp_path / "lab_of_plans/all.py").write_text(THINGS)
    monkeypatch.syspath_prepend(tmp_path)
    lab = "lab_of_plans.all"
    recipe = replace(
        TINY,
        skills=(SkillPlan(f"{lab}:HEAVY/{lab}:FIELD@0.5+{lab}:STROLL"), SkillPlan(f"{lab}:HEAVY/gaps")),
        injection=Injection(1, ("proprio",), (f"{lab}:PITCH",)),
        measurement=Measurement(zero_shot=(f"{lab}:HEAVY/walls",)),
    )
    save_recipe(recipe, tmp_path / "mine.yaml")
    with ROBOTS.scope(), TERRAINS.scope(), TASKS.scope(), GROUPS.scope():
        plan = make_plan(load_recipe(tmp_path / "mine.yaml"), 0)
        assert plan.columns == ("heavy/field@0.5+stroll", "heavy/gaps")
        assert plan.rows[0].label == "field-0.5+stroll"
        assert list(plan.experts) == list(plan.columns)
        assert next(s for s in plan.stages if isinstance(s, Inject)).injection.groups == ("pitch",)
        assert plan.stages[-1].skills[-1].id == "heavy/walls"
    with ROBOTS.scope(), TERRAINS.scope(), TASKS.scope(), GROUPS.scope():
        assert "heavy" not in ROBOTS  # as in a process that was just started
        import_names(plan.imports)
        assert ("heavy" in ROBOTS, "field" in TERRAINS, "stroll" in TASKS, "pitch" in GROUPS) == (True,) * 4


def test_unknown_skills_are_refused():
    with pytest.raises(UnknownNameError, match="biped/steps"):
        make_plan(replace(TINY, skills=(SkillPlan("biped/stesp"),), injection=Injection(blind=0)), 0)
