"""Suites are lists of skills that can share an environment and that their observations tell apart."""

import pytest
import torch

from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.suites import SUITES, get_suite, suite_names
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import UnknownNameError
from policykd.evaluation import evaluate


@pytest.mark.parametrize("name", suite_names())
def test_skills_of_a_suite(name):
    skills = get_suite(name)
    assert [skill.id for skill in skills] == list(SUITES[name])
    assert len({(skill.robot, skill.groups, skill.episode_steps) for skill in skills}) == 1
    assert mirror_symmetry(skills[0].groups, skills[0].robot) is not None
    told_apart = {(skill.terrain, skill.task) for skill in skills}
    assert len(told_apart) == len(skills)
    if len({skill.task for skill in skills}) > 1:
        assert "command" in skills[0].groups
        commanded = {(skill.task.command, getattr(skill.task, "gait", None)) for skill in skills}
        assert len(commanded) == len(skills)


def test_groups_can_be_chosen():
    assert {skill.groups for skill in get_suite("terrains", ("proprio",))} == {("proprio",)}


def test_unknown_suites_come_with_close_matches():
    with pytest.raises(UnknownNameError, match="unknown suite 'gates'; did you mean gaits"):
        get_suite("gates")


def test_commands_have_no_side():
    skill = get_suite("gaits")[0]
    symmetry = mirror_symmetry(skill.groups, skill.robot)
    command = range(*skill.columns["command"].indices(1000))
    assert [symmetry.features[i] for i in command] == list(command)


def test_one_policy_is_evaluated_on_every_gait():
    skills = get_suite("gaits")
    symmetry = mirror_symmetry(skills[0].groups, skills[0].robot)
    policy = Policy(skills[0].group_sizes, 11, generator_seed=0, symmetry=symmetry)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5, generator=torch.Generator().manual_seed(0))
    result = evaluate({"student": policy}, skills, episodes=4, threads=1)
    assert set(result.cells) == {("student", skill.id) for skill in skills}
    assert len({cell.reward_per_step for cell in result.cells.values()}) == 5
    joint = BatchedEnv(skills, 10)
    assert policy(policy.flatten(joint.reset())).shape == (10, 11)
