"""First statistics of a normalizer, before the first update of the weights.

It acts with the new policy in an environment and changes nothing else.
"""

from __future__ import annotations

import numpy as np
import torch

from policykd.agents.policy import Policy
from policykd.agents.training.non_finite import describe_non_finite
from policykd.envs.make import AnyEnv
from policykd.errors import NonFiniteError


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

    Raises:
        NonFiniteError: for an observation that is NaN or infinite, naming feature, simulation and step.
    """
    fresh = fresh_features(policy, env)
    observations, columns = torch.cat(list(env.reset().values()), dim=-1), env.skill.columns
    std = policy.log_std.exp()
    for step in range(steps):
        flat = policy.select(observations, columns)
        if not flat.isfinite().all():
            where = describe_non_finite(flat.cpu().numpy(), np.zeros(env.num_envs), policy.groups)
            raise NonFiniteError(f"{where} at step {step} of the first statistics")
        policy.update_normalizer(flat, only=fresh)
        actions = torch.randn(env.num_envs, env.num_actions, device=env.device) * std
        if not fresh.all():
            actions += policy(flat)
        observations = env.step(actions).flat
