"""The physics rate is fine enough: a trained expert earns the same at twice the rate."""

from dataclasses import replace
from pathlib import Path

import pytest

from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill

EXPERT = Path(__file__).parent.parent / "data" / "flat-expert"  # flat ground, 0.4 M steps of PPO


def reward_per_step(policy, skill, tracks=48):
    env = BatchedEnv([skill], tracks, seed=4, config=EnvConfig(tracks=tracks, ordered=True), threads=1)
    env.seed(5)
    return float(run_episodes(policy, env).reward_per_step.mean())


def test_halving_the_timestep_changes_a_trained_experts_reward_by_less_than_5_percent():
    expert, skill, robot = load_policy(EXPERT).policy, get_skill("biped/flat"), get_robot("biped")
    fine = replace(robot, name="biped-fine", timestep=robot.timestep / 2, decimation=robot.decimation * 2)
    own = reward_per_step(expert, skill)
    assert own > 0.7  # a fallen robot would not feel the difference
    assert reward_per_step(expert, replace(skill, robot=fine)) == pytest.approx(own, rel=0.05)
