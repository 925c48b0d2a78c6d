"""Teachers that cost nothing, fixed random networks with distinct actions over short episodes, and tiny merges."""

from dataclasses import replace

import torch

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.merge import MergeConfig
from policykd.merge.teachers import Teacher

TINY = MergeConfig(
    rounds=2,
    envs=2,
    updates=2,
    minibatch=8,
    validation_episodes=2,
    target_retention=2.0,
    min_teacher_success=0.0,
    critic="none",
    threads=1,
    architecture=Architecture(hidden=(8,), critic_hidden=(8,)),
)


def make_teacher(skill_id, seed, episode_steps=24):
    skill = replace(get_skill(skill_id), episode_steps=episode_steps)
    policy = Policy(skill.group_sizes, skill.robot.num_actions, generator_seed=seed)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.05, generator=torch.Generator().manual_seed(seed))
    policy.normalizer.update(torch.randn(100, policy.observation_size, generator=torch.Generator().manual_seed(seed)))
    return Teacher(skill, policy, f"expert {seed}", f"{seed:064d}")
