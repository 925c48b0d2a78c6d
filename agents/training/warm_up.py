"""First statistics of a normalizer, before anything is learned from what it scales."""

from __future__ import annotations

import torch

from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv


@torch.no_grad()
def warm_up_normalizer(policy: Policy, env: BatchedEnv, steps: int = 32) -> None:
    """Give features that have no statistics yet some: from random actions, or those of a policy that can act.

    Args:
        policy: the policy, on the environment's device.
        env: where it acts; it is reset first.
        steps: steps of every simulation.
    """
    fresh = policy.normalizer.fresh
    observations = env.reset()
    std = policy.log_std.exp()
    for _ in range(steps):
        flat = policy.flatten(observations)
        policy.update_normalizer(flat, only=fresh)
        actions = torch.randn(env.num_envs, env.num_actions, device=env.device) * std
        if not fresh.all():
            actions += policy(flat)
        observations = env.step(actions).observations
