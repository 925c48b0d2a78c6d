"""New statistics in a policy's normalizer, with first layers that make up for them, so that the policy acts as before.

It changes normalizers and first layers of networks, and knows nothing of training or merging.
"""

from __future__ import annotations

import torch
from torch import nn

from policykd.agents.policy import Policy, check_one_network
from policykd.errors import ContractError


@torch.no_grad()
def extend_normalizer(policy: Policy, observations: torch.Tensor, present: torch.Tensor | None = None) -> None:
    """Count observations in a policy's normalizer without changing its actions and values.

    A first layer with weights W and bias b that read (x - m) / s reads (x - n) / t afterward, with the weights W t / s
    and the bias b + W (n - m) / s. Its outputs are equal, to rounding, wherever neither normalizer clips. Features
    of new skills beyond the range of earlier ones are then not clipped.

    Args:
        policy: a policy without a memory, a latent, experts or encoders; changed in place.
        observations: (n, observation_size) observations of new skills.
        present: (observation_size,) features that these skills have; None for all. The others are not counted.

    Raises:
        ContractError: for a policy of another kind.
    """
    layers = _first_layers(policy)
    normalizer = policy.normalizer
    mean, std = normalizer.mean.double().clone(), _std(policy)
    if present is not None:
        normalizer.count_apart()
    policy.update_normalizer(observations, present)
    shift, ratio = (normalizer.mean.double() - mean) / std, _std(policy) / std
    for layer in layers:
        weight = layer.weight.double()
        layer.bias.copy_(layer.bias.double() + weight @ shift)
        layer.weight.copy_(weight * ratio)


def check_extends(policy: Policy) -> None:
    """Raise ContractError unless :func:`extend_normalizer` takes a policy."""
    _first_layers(policy)


def _std(policy: Policy) -> torch.Tensor:
    """Return (observation_size,) the standard deviations that the normalizer divides by, in double precision."""
    return policy.normalizer.var.double().sqrt().clamp_min(policy.normalizer.min_std)


def _first_layers(policy: Policy) -> list[nn.Linear]:
    """Return the first layers of actor and critic, which read all normalized features.

    Raises:
        ContractError: for a policy whose networks begin otherwise.
    """
    check_one_network(policy, "extending the normalizer")
    layers = [network[0] for network in (policy.actor, policy.critic)]
    dense = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if policy.recurrent or len(dense) < len(layers):
        part = "a memory" if policy.recurrent else "encoders"
        raise ContractError(
            f"extending the normalizer needs dense layers of all features; this policy has {part}: keep its normalizer "
            f"(merge.normalizer=kept), or distill it into a policy without (policykd merge POLICY --out STUDENT)"
        )
    return dense
