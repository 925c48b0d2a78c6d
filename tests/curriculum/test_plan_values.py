"""Every stage of every curriculum, written out: skills, groups, budgets, starts, networks, seeds, measurements."""

from dataclasses import replace

import pytest
from tiny_curriculum import EPISODE, NETWORKS, TINY

from policykd.agents.architecture import Encoder
from policykd.curriculum import CURRICULA, Injection, Measurement, SkillPlan, compared_curricula, curriculum, make_plan
from policykd.curriculum.add_skill import _plan
from policykd.curriculum.curricula import Curriculum
from policykd.curriculum.plans import budget, merge_steps
from policykd.curriculum.stages import Existing, Inject, Measure, Merge, Row, Train
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError
from policykd.seeding import integer_seed

BLIND, SEEN = ("proprio",), ("proprio", "terrain")
RECIPE = replace(
    TINY,
    skills=(
        SkillPlan("biped/flat", 1000, target_success=0.9),
        SkillPlan("biped/incline", 2000, target_success=0.8, start_level=0.3),
        SkillPlan("biped/gaps", 500, target_success=0.7),
    ),
    transfer_noise=0.25,
)
# A merge of n skills: two rounds and the critic's, of two simulations and EPISODE steps for every skill.
TWO, THREE = 3 * 2 * EPISODE * 2, 3 * 2 * EPISODE * 3


def trainings(curriculum, **changes):
    """(name, last part of the skills' ids, groups, steps, start, noise) of every training."""
    plan = make_plan(replace(RECIPE, curriculum=curriculum, **changes), 7)
    return [
        (s.name, [k.id.partition("/")[2] for k in s.skills], s.skills[0].groups, s.config.steps, s.start, s.noise)
        for s in plan.stages
        if isinstance(s, Train)
    ]


def test_trainings_of_plaid():
    assert trainings("plaid") == [
        ("train-flat", ["flat"], BLIND, 1000, None, None),
        ("train-incline", ["incline"], BLIND, 2000, "train-flat", 0.25),
        ("train-gaps", ["gaps"], SEEN, 500, "merge-incline", 0.25),
    ]


def test_trainings_of_transfer_learning_alone_use_the_merges_steps():
    assert trainings("tl-only") == [
        ("train-flat", ["flat"], BLIND, 1000, None, None),
        ("train-incline", ["incline"], BLIND, 2000 + TWO, "train-flat", 0.25),
        ("train-gaps", ["gaps"], SEEN, 500 + THREE, "inject", 0.25),
    ]


def test_trainings_of_transfer_learning_and_a_merge_leave_the_last_merge_its_steps():
    assert trainings("tl-only+merge") == [
        ("train-flat", ["flat"], BLIND, 1000, None, None),
        ("train-incline", ["incline"], BLIND, 2000 + TWO, "train-flat", 0.25),
        ("train-gaps", ["gaps"], SEEN, 500, "inject", 0.25),
    ]


def test_trainings_of_the_multitasker():
    assert trainings("multitasker") == [
        ("train-flat", ["flat"], BLIND, 1000, None, None),
        ("joint-incline", ["flat", "incline"], BLIND, 2000 + TWO, "train-flat", 0.25),
        ("joint-gaps", ["flat", "incline", "gaps"], SEEN, 500 + THREE, "inject", 0.25),
    ]


def test_training_of_the_joint_multitasker():
    assert trainings("multitasker-joint") == [
        ("joint-all", ["flat", "incline", "gaps"], SEEN, 3500 + TWO + THREE, None, None)
    ]


def test_trainings_from_scratch_have_no_noise_of_a_transfer():
    assert trainings("scratch+merge") == [
        ("train-flat", ["flat"], BLIND, 1000, None, None),
        ("train-incline", ["incline"], BLIND, 2000 + TWO, None, None),
        ("train-gaps", ["gaps"], SEEN, 500, None, None),
    ]


def test_a_training_has_the_settings_of_its_skill_and_a_seed_of_its_name():
    plan = make_plan(RECIPE, 7)
    for stage, skill in zip([s for s in plan.stages if isinstance(s, Train)], RECIPE.skills, strict=True):
        expected = replace(
            RECIPE.train,
            steps=skill.steps,
            target_success=skill.target_success,
            start_level=skill.start_level,
            seed=integer_seed(7, stage.name),
        )
        assert stage.config == expected


def test_joint_training_has_the_settings_of_the_skill_with_the_largest_budget():
    (stage,) = (s for s in make_plan(replace(RECIPE, curriculum="multitasker-joint"), 7).stages if isinstance(s, Train))
    assert (stage.config.target_success, stage.config.start_level) == (0.8, 0.3)  # those of the incline
    assert stage.config.ppo == RECIPE.joint
    assert stage.config.seed == integer_seed(7, "joint-all")


def test_merges_of_plaid():
    merges = [s for s in make_plan(RECIPE, 7).stages if isinstance(s, Merge)]
    assert [(m.name, m.teachers, [k.id for k in m.skills]) for m in merges] == [
        ("merge-incline", ("train-flat", "inject"), ["biped/flat", "biped/incline"]),
        ("merge-gaps", ("merge-incline",) * 2 + ("train-gaps",), ["biped/flat", "biped/incline", "biped/gaps"]),
    ]
    for merge in merges:
        assert merge.config == replace(RECIPE.merge, seed=integer_seed(7, merge.name), architecture=NETWORKS)
        assert {k.groups for k in merge.skills} == {SEEN}
        assert not merge.keep_data
    kept = [s for s in make_plan(replace(RECIPE, keep_data=True), 7).stages if isinstance(s, Merge)]
    assert all(merge.keep_data for merge in kept)


@pytest.mark.parametrize(
    ("blind", "injected_after", "groups"),
    [
        (0, None, {"merge-incline": SEEN, "merge-gaps": SEEN}),
        (1, "train-flat", {"merge-incline": SEEN, "merge-gaps": SEEN}),
        (2, "train-incline", {"merge-incline": SEEN, "merge-gaps": SEEN}),
        (3, None, {"merge-incline": BLIND, "merge-gaps": BLIND}),  # no skill is left that would need the groups
    ],
)
def test_groups_are_injected_once_before_the_first_skill_that_needs_them(blind, injected_after, groups):
    plan = make_plan(replace(RECIPE, injection=Injection(blind=blind, scale=0.3)), 7)
    injections = [s for s in plan.stages if isinstance(s, Inject)]
    assert [s.source for s in injections] == ([injected_after] if injected_after else [])
    assert {s.name: s.skills[0].groups for s in plan.stages if isinstance(s, Merge)} == groups
    for stage in injections:
        assert (stage.name, stage.seed, stage.injection.scale) == ("inject", integer_seed(7, "inject"), 0.3)


def test_an_encoder_is_part_of_new_networks_that_observe_its_group():
    encoder = Encoder("terrain", channels=(2,), kernel=(8,), stride=(4,), dense=6)
    plan = make_plan(replace(RECIPE, injection=Injection(blind=1, encoder=encoder)), 7)
    found = {s.name: s.config.architecture.encoders for s in plan.stages if isinstance(s, (Train, Merge))}
    assert found["train-flat"] == ()
    assert found["train-incline"] == found["train-gaps"] == found["merge-incline"] == (encoder,)


def test_measurements_follow_their_stages_and_have_the_recipes_settings():
    how = Measurement(episodes=5, seed=3, zero_shot=("biped/walls", "biped/gaps"), device="auto")
    plan = make_plan(replace(RECIPE, measurement=how), 7)
    assert [s.name for s in plan.stages] == [
        "measure-untrained",
        "train-flat", "measure-train-flat",
        "train-incline", "measure-train-incline",
        "inject",
        "merge-incline", "measure-merge-incline",
        "train-gaps", "measure-train-gaps",
        "merge-gaps", "measure-merge-gaps",
    ]  # fmt: skip
    measures = [s for s in plan.stages if isinstance(s, Measure)]
    assert {(s.episodes, s.seed, s.device) for s in measures} == {(5, 3, "auto")}
    columns = ["biped/flat", "biped/incline", "biped/gaps"]
    assert [k.id for k in measures[0].skills] == columns
    assert [k.id for k in measures[-1].skills] == [*columns, "biped/walls"]  # gaps were trained on
    assert {k.groups for s in measures for k in s.skills} == {SEEN}
    assert (measures[0].policy, measures[0].reference) == (None, RECIPE.train)
    assert [s.reference for s in measures[1:]] == [None] * 5
    assert plan.rows == (Row("flat", "train-flat"), Row("incline", "merge-incline"), Row("gaps", "merge-gaps"))
    assert plan.columns == tuple(columns)
    assert plan.imports == (*columns, "biped/walls", "biped/gaps", "proprio", "terrain")


def test_robots_with_other_joints_share_no_policy():
    skills = (SkillPlan("biped/flat"), SkillPlan("quadruped/flat"))
    with pytest.raises(ContractError):
        make_plan(replace(TINY, skills=skills, injection=Injection(blind=0)), 0)


def test_targets_hold_only_where_the_recipe_stops_early():
    stopping, whole = (make_plan(replace(RECIPE, early_stop=early), 7) for early in (True, False))
    for stop, run_on in zip(stopping.stages, whole.stages, strict=True):
        if isinstance(stop, Merge):
            assert stop.config.target_retention == RECIPE.merge.target_retention
            assert replace(stop.config, target_retention=2.0) == run_on.config
        elif isinstance(stop, Train):
            assert replace(stop.config, target_success=2.0) == run_on.config


class _Manifest:
    """Stands in for a student's manifest."""

    weights_sha256 = "a" * 64
    robot = "biped"
    skills = ("biped/flat", "biped/steps")

    def skill(self, name, groups):
        return get_skill(name, groups)


class _Loaded:
    class policy:
        groups = {"proprio": 49, "terrain": 50}
        architecture = NETWORKS

    manifest = _Manifest()


@pytest.mark.parametrize("start", ["newest", "previous"])
def test_stages_of_an_added_skill(monkeypatch, tmp_path, start):
    checked = []
    monkeypatch.setattr("policykd.curriculum.add_skill.check_fits", lambda *given: checked.append(given))
    merge = replace(TINY.merge, start=start)
    how = Measurement(episodes=3, seed=4, device="auto", zero_shot=("biped/walls",))
    plan = _plan(tmp_path, _Loaded(), "biped/gaps", TINY.train, merge, 0.3, how, 5)
    flat, steps, gaps = (get_skill(f"biped/{name}", SEEN) for name in ("flat", "steps", "gaps"))
    measured = {"episodes": 3, "seed": 4, "device": "auto"}
    training = replace(TINY.train, seed=integer_seed(5, "train", "biped/gaps"))
    merging = replace(merge, seed=integer_seed(5, "merge", "biped/gaps"), architecture=NETWORKS)
    previous = "student" if start == "previous" else None
    assert plan.stages == (
        Existing("student", tmp_path, "a" * 64),
        Measure("measure-untrained", None, (flat, steps, gaps), reference=TINY.train, **measured),
        Measure("measure-student", "student", (flat, steps, gaps), **measured),
        Train("train", (gaps,), training, "student", 0.3),
        Measure("measure-train", "train", (flat, steps, gaps), **measured),
        Merge("merge", (flat, steps, gaps), ("student", "student", "train"), merging, previous),
        Measure("measure-merge", "merge", (flat, steps, gaps), **measured),
    )
    assert plan.experts == {"biped/flat": "student", "biped/steps": "student", "biped/gaps": "train"}
    assert plan.rows == (Row("before", "student"), Row("after", "merge"))
    assert plan.columns == ("biped/flat", "biped/steps", "biped/gaps")
    assert checked == [(_Loaded.manifest, gaps)]


def test_a_skill_that_the_student_has_is_not_added_and_one_of_another_robot_does_not_fit(tmp_path):
    options = (TINY.train, TINY.merge, None, Measurement(), 0)
    with pytest.raises(ConfigError, match=r"the student has skill biped/steps already \(it has biped/flat, biped/s"):
        _plan(tmp_path, _Loaded(), "biped/steps", *options)
    with pytest.raises(ContractError):
        _plan(tmp_path, _Loaded(), "quadruped/flat", *options)


@pytest.mark.parametrize(
    ("curriculum", "rows"),
    [
        ("tl-only", {"flat": "train-flat", "incline": "train-incline", "gaps": "train-gaps"}),
        ("tl-only+merge", {"flat": "train-flat", "incline": "train-incline", "gaps": "merge-gaps"}),
        ("multitasker", {"flat": "train-flat", "incline": "joint-incline", "gaps": "joint-gaps"}),
        ("multitasker-joint", {"gaps": "joint-all"}),
        ("scratch+merge", {"gaps": "merge-gaps"}),
    ],
)
def test_rows_of_the_matrix(curriculum, rows):
    plan = make_plan(replace(RECIPE, curriculum=curriculum), 7)
    assert {row.label: row.stage for row in plan.rows} == rows


@pytest.mark.parametrize("curriculum", ["plaid", "tl-only", "tl-only+merge", "scratch+merge", "multitasker"])
def test_a_single_skill_is_its_own_result(curriculum):
    recipe = replace(RECIPE, skills=RECIPE.skills[:1], injection=Injection(blind=0), curriculum=curriculum)
    plan = make_plan(recipe, 7)
    assert plan.rows == (Row("flat", "train-flat"),)
    assert [s.config.steps for s in plan.stages if isinstance(s, Train)] == [1000]
    assert budget(recipe) == 1000
    assert merge_steps(recipe, 1) == 3 * 2 * EPISODE


def test_a_curriculum_is_compared_only_if_it_says_so():
    with CURRICULA.scope():
        curriculum("mine", "one")(lambda builder: None)
        assert not CURRICULA["mine"].compared
        curriculum("ours", "two", compared=True)(lambda builder: None)
        assert compared_curricula()[-1] == "ours"
    assert not Curriculum("three", lambda builder: None).compared


def test_an_added_skill_must_have_the_length_of_the_others(monkeypatch, tmp_path):
    shorter = lambda self, name, groups: replace(get_skill(name, groups), episode_steps=100)  # noqa: E731
    monkeypatch.setattr(_Manifest, "skill", shorter)
    with pytest.raises(ContractError, match=f"biped/gaps has {EPISODE}"):
        _plan(tmp_path, _Loaded(), "biped/gaps", TINY.train, TINY.merge, None, Measurement(), 0)
