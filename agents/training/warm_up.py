"""First statistics of a normalizer, before the first update of the weights.

It acts with the new policy in an environment and changes nothing else.
"""

from __future__ import annotations

import torch

from policykd.agents.policy import Policy
from policykd.envs.make import AnyEnv


def fresh_features(policy: Policy, env: AnyEnv) -> torch.Tensor:
    """Return the features without statistics that the environment has: boolean, () for all together or (size,)."""
    present = policy.present(env.skills)
    return policy.normalizer.fresh if present is None else policy.normalizer.fresh & present


@torch.no_grad()
def warm_up_normalizer(policy: Policy, env: AnyEnv, steps: int = 32) -> None:
    """Give features without statistics their first ones: from random actions, or from those of a trained policy.

    Args:
        policy: the policy, on the environment's device.
        env: environment in which it acts; it is reset first.
        steps: steps of every simulation.
    """
    fresh = fresh_features(policy, env)
    observations, columns = torch.cat(list(env.reset().values()), dim=-1), env.skill.columns
    std = policy.log_std.exp()
    for _ in range(steps):
        flat = policy.select(observations, columns)
        policy.update_normalizer(flat, only=fresh)
        actions = torch.randn(env.num_envs, env.num_actions, device=env.device) * std
        if not fresh.all():
            actions += policy(flat)
        observations = env.step(actions).flat
