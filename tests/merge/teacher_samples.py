"""Teachers that cost nothing: fixed random networks with distinct actions, over short episodes."""

from dataclasses import replace

import torch

from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.merge.teachers import Teacher


def make_teacher(skill_id, seed, episode_steps=24):
    skill = replace(get_skill(skill_id), episode_steps=episode_steps)
    policy = Policy(skill.group_sizes, len(skill.character.joints), generator_seed=seed)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.05, generator=torch.Generator().manual_seed(seed))
    policy.normaliser.update(torch.randn(100, policy.observation_size, generator=torch.Generator().manual_seed(seed)))
    return Teacher(skill, policy, f"expert {seed}", f"{seed:064d}")
