"""Policies of robots that are simulated as their files say: training, the hash of the model, injection of forces."""

from dataclasses import replace

import pytest
import torch

from policykd.agents.files.fit import check_fits
from policykd.agents.files.policy_file import load_policy
from policykd.agents.injection import inject
from policykd.agents.training import train_expert
from policykd.agents.training.defaults import OWN_GROUND, default_config
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.errors import ContractError

SMALL = replace(
    OWN_GROUND,
    steps=1024,
    segment_steps=512,
    threads=1,
    validation_episodes=4,
    finalists=1,
    ppo=replace(OWN_GROUND.ppo, envs=8, rollout_steps=32, minibatch=128, epochs=1),
)


def test_training_writes_a_policy_of_this_model(tmp_path):
    skill = replace(get_skill("hopper/flat"), episode_steps=60)
    loaded = load_policy(train_expert([skill], tmp_path / "hopper", SMALL).policy_path)
    assert loaded.manifest.format_version == 4
    assert loaded.manifest.model_sha256 == skill.robot.body.sha256
    assert [action.joint for action in loaded.manifest.actions] == ["thigh_joint", "leg_joint", "foot_joint"]
    assert loaded.manifest.skill("hopper/flat").episode_steps == 60
    check_fits(loaded.manifest, skill)
    other = replace(skill, robot=replace(get_robot("walker2d"), name="hopper"))
    with pytest.raises(ContractError):
        check_fits(loaded.manifest, other)


def test_contact_forces_are_injected_without_a_change_of_actions(tmp_path):
    whole = get_skill("ant/flat")
    skill = replace(whole, groups=("positions", "velocities"), episode_steps=40)
    policy = load_policy(train_expert([skill], tmp_path / "ant", SMALL).policy_path).policy
    feeling = inject(policy, ("contact_forces",), robot=whole.robot)
    env = BatchedEnv([whole], 4, config=EnvConfig(tracks=2), threads=1)
    env.reset()
    for _ in range(20):
        flat = env.step(torch.zeros(4, 8)).flat
    assert flat[:, whole.columns["contact_forces"]].abs().max() > 0
    columns = whole.columns
    torch.testing.assert_close(feeling(feeling.select(flat, columns)), policy(policy.select(flat, columns)))


def test_defaults_follow_the_family():
    assert default_config(get_robot("ant")) is OWN_GROUND
