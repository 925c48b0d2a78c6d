"""Curricula on gymnasium environments with observations of different sizes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from foreign_envs import register
from tiny_curriculum import NETWORKS, shortened

from empty_figures import leave_out_figures
from policykd.agents.files.policy_file import load_policy
from policykd.agents.training import PpoConfig, TrainConfig
from policykd.curriculum import (
    Injection,
    Measurement,
    Recipe,
    SkillPlan,
    load_recipe,
    make_plan,
    run_curriculum,
    save_recipe,
)
from policykd.curriculum.add_skill import add_skill
from policykd.curriculum.comparison import run_comparison
from policykd.curriculum.plans import budget
from policykd.curriculum.stages import Inject, Measure, Merge, Train
from policykd.envs.foreign.skill import gym_skill, together
from policykd.envs.make import make_env
from policykd.errors import ConfigError, ContractError
from policykd.evaluation.results import RANDOM, Evaluation
from policykd.executor import Inline
from policykd.merge import MergeConfig
from policykd.report.pages.curriculum import write_curriculum_page
from policykd.seeding import integer_seed

register()
POINT = "gym:foreign_envs:policykd-tests/Point-v0"
# Random steps move these points away from their goals, so that even experts that learned nothing are better.
NEAR = f'{POINT}[place=0:2]?{{"gain": 3.0, "goal": 0.0, "high": 1.0, "low": -1.0}}'
FAR = f'{POINT}[speed=1:2]?{{"gain": 3.0, "goal": 0.0, "high": 2.0, "low": -2.0}}'
NAMED = f'{POINT}?{{"gain": 3.0, "goal": 0.0, "high": 1.0, "low": -1.0, "named": true}}'
TINY = Recipe(
    skills=tuple(SkillPlan(name, steps=512) for name in (NEAR, FAR, NAMED)),
    train=TrainConfig(
        curriculum=False, symmetric=False, segment_steps=256, validation_episodes=2, finalists=1, architecture=NETWORKS,
        ppo=PpoConfig(envs=4, rollout_steps=16, minibatch=64, epochs=1),
    ),
    joint=PpoConfig(envs=6, rollout_steps=16, minibatch=96, epochs=1),
    merge=MergeConfig(
        rounds=2, envs=2, updates=4, minibatch=32, validation_episodes=2, start="newest", min_teacher_success=0.0,
        architecture=NETWORKS,
    ),
    measurement=Measurement(episodes=3),
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("environments")
    with shortened():
        return out, run_curriculum(TINY, out, threads=1)


def test_every_environment_brings_its_groups_before_it_is_learned():
    work = [stage for stage in make_plan(TINY, 0).stages if not isinstance(stage, Measure)]
    kinds = [
        (stage.kind, stage.injection.groups if isinstance(stage, Inject) else stage.skills[0].groups) for stage in work
    ]
    first, second, third = ("place",), ("place", "speed"), ("place", "speed", "a_goal", "z_place")
    assert kinds == [
        ("train", first), ("inject", ("speed",)), ("train", second), ("inject", ("a_goal", "z_place")),
        ("merge", third), ("train", third), ("merge", third),
    ]  # fmt: skip
    injected = next(stage for stage in work if isinstance(stage, Inject))
    assert injected.skill.id == FAR
    assert injected.skill.absent_groups == ("place",)


def test_absent_groups_are_zeros_and_the_others_as_they_are():
    near, far = together([gym_skill(NEAR), gym_skill(FAR)])
    assert (near.groups, near.absent_groups, far.absent_groups) == (("place", "speed"), ("speed",), ("place",))
    flat = torch.cat(list(make_env([near], 2, seed=3).reset().values()), dim=1)
    own = make_env([gym_skill(POINT)], 2, seed=3).reset()["observation"]  # other goals begin in the same places
    assert torch.equal(flat, torch.cat([own, torch.zeros(2, 1)], dim=1))


def test_a_batch_of_several_environments_equals_batches_of_one():
    skills = together([gym_skill(NEAR), gym_skill(FAR)])
    env = make_env(skills, 5, seed=0)
    assert env.skill_index.tolist() == [0, 1, 0, 1, 0]
    parts = [make_env([skill], count) for skill, count in zip(skills, (3, 2), strict=True)]
    for i, part in enumerate(parts):
        part.seed(integer_seed(0, "skill of a batch", i))
    flat = torch.cat(list(env.reset().values()), dim=1)
    alone = [torch.cat(list(part.reset().values()), dim=1) for part in parts]
    generator, ended = torch.Generator().manual_seed(0), 0
    for _ in range(70):
        for i, rows in enumerate(alone):
            assert torch.equal(flat[i::2], rows)
        actions = 2 * torch.rand(5, 1, generator=generator) - 0.8
        step, others = env.step(actions), [part.step(actions[i::2]) for i, part in enumerate(parts)]
        flat, alone = step.flat, [other.flat for other in others]
        for i, other in enumerate(others):
            for name in ("reward", "terminated", "truncated"):
                assert torch.equal(getattr(step, name)[i::2], getattr(other, name))
        expected = [2 * int(k) + i for i, other in enumerate(others) for k in other.episodes.ids]
        assert step.episodes.ids.tolist() == expected
        assert torch.equal(step.final_flat, torch.cat([other.final_flat for other in others]))
        ended += len(expected)
    assert ended > 8


def test_scores_are_measured_from_random_actions(finished, monkeypatch):
    out, result = finished
    matrix, evaluation = result.matrix, Evaluation.load(out / "evaluation.json")
    for j, skill in enumerate(matrix.skills):
        random = np.mean(evaluation.cells[RANDOM, skill].reward_per_step)
        expert = np.mean(evaluation.cells[result.experts[skill], skill].reward_per_step)
        final = np.mean(evaluation.cells[result.final, skill].reward_per_step)
        assert matrix.random[j] == pytest.approx(random)
        assert matrix.retention[j] == pytest.approx((final - random) / (expert - random), rel=1e-6)
    assert result.steps <= result.budget == budget(TINY)
    leave_out_figures(monkeypatch)
    assert write_curriculum_page(out).exists()


def test_the_statistics_of_absent_groups_stay_as_they_were(finished):
    out, result = finished
    before, after = (load_policy(out / "stages" / result.experts[skill]).policy for skill in (NEAR, FAR))
    before = before.normalizer
    assert list(after.groups) == ["place", "speed"]
    assert torch.equal(after.normalizer.mean[:2], before.mean)
    assert torch.equal(after.normalizer.var[:2], before.var)
    assert after.normalizer.count[2] > 0


def test_a_student_of_different_bounds_acts_in_the_bounds_of_each(finished):
    out, result = finished
    loaded = load_policy(out / "policy")
    assert loaded.manifest.robot == "1 actions in the bounds of each environment"
    assert loaded.manifest.body().num_actions == 1
    skill = loaded.manifest.skill(result.matrix.skills[1])
    assert skill.absent_groups == ("place", "a_goal", "z_place")


def test_targets_are_returns_and_spare_no_budget_in_comparisons():
    plan = SkillPlan(NEAR, steps=512, target_return=-15.0)
    recipe = replace(TINY, skills=(plan, *TINY.skills[1:]))
    trains = [stage for stage in make_plan(recipe, 0).stages if isinstance(stage, Train)]
    assert (trains[0].config.target_success, trains[0].config.target_reward) == (0.0, pytest.approx(-0.5))
    assert trains[1].config.target_success == 2.0
    spent = [s for s in make_plan(replace(recipe, early_stop=False), 0).stages if isinstance(s, Train)]
    assert {stage.config.target_success for stage in spent} == {2.0}


def test_a_recipe_file_names_groups_and_a_task_id_tells_skills_apart(tmp_path):
    recipe = replace(TINY, task_id=True)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    merge = [stage for stage in make_plan(recipe, 0).stages if isinstance(stage, Merge)][-1]
    assert [skill.id.partition("#")[2] for skill in merge.skills] == ["0", "1", "2"]
    assert all("task_id" in skill.groups and "task_id" not in skill.absent_groups for skill in merge.skills)
    with pytest.raises(ConfigError, match="task_id is for gymnasium environments"):
        make_plan(replace(recipe, skills=(SkillPlan("biped/flat"),), injection=Injection(0)), 0)


def test_curricula_that_cannot_share_a_policy_are_named():
    with pytest.raises(ContractError, match=r"'observation' has 2 features in .* and 3 in gym:Pendulum-v1; name"):
        make_plan(replace(TINY, skills=(SkillPlan(POINT), SkillPlan("gym:Pendulum-v1"))), 0)
    with pytest.raises(ContractError, match=r"has 1 actions, gym:Hopper-v5\[hopper=0:11\] has 3 actions"):
        make_plan(replace(TINY, skills=(SkillPlan(NEAR), SkillPlan("gym:Hopper-v5[hopper=0:11]"))), 0)
    with pytest.raises(ContractError, match="is a gymnasium environment and biped/flat is not"):
        make_plan(replace(TINY, skills=(SkillPlan(NEAR), SkillPlan("biped/flat")), injection=Injection(0)), 0)
    with pytest.raises(ConfigError, match=r"injection.groups is \('speed',\).* leave it out"):
        make_plan(replace(TINY, injection=Injection(groups=("speed",))), 0)
    with pytest.raises(ConfigError, match=r"write \[name=first:end"):
        gym_skill(f"{POINT}[place]")


def test_a_comparison_runs_every_curriculum(tmp_path, monkeypatch):
    monkeypatch.setattr("policykd.curriculum.comparison.Processes", lambda workers: Inline())
    skills = tuple(replace(plan, steps=128) for plan in TINY.skills[:2])
    recipe = replace(
        TINY, skills=skills, train=replace(TINY.train, segment_steps=128), merge=replace(TINY.merge, rounds=1),
        measurement=Measurement(episodes=2),
    )  # fmt: skip
    comparison = run_comparison(recipe, tmp_path / "compare", seeds=1, threads=1)
    for name in comparison.curricula:
        (run,) = comparison.of(name)
        assert np.isfinite(comparison.final_scores(name)).all()
        expected = (np.array(run.matrix.scores[-1]) - run.matrix.random) / (
            np.array(comparison.experts) - run.matrix.random
        )
        assert comparison.final_scores(name)[0] == pytest.approx(expected)


def test_a_skill_with_other_observations_is_added_to_a_student(finished, tmp_path):
    out, result = finished
    student = out / "stages" / result.experts[NEAR]
    added = add_skill(
        student, FAR, tmp_path / "grown", train=replace(TINY.train, steps=512, target_success=2.0),
        merge=replace(TINY.merge, rounds=1), measurement=TINY.measurement, threads=1,
    )  # fmt: skip
    loaded = load_policy(added.policy_path)
    assert list(loaded.policy.groups) == ["place", "speed"]
    assert list(loaded.manifest.skills) == [NEAR, FAR]
    assert added.matrix.random
