"""Policy: actor and critic over named observation groups, with the normaliser inside.

The normaliser is part of the network, so training, merging, evaluation and export cannot disagree on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from policykd.agents.architecture import Architecture
from policykd.errors import ConfigError, ContractError

_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}


class Normaliser(nn.Module):
    """Feature-wise running mean and variance.

    Args:
        size: number of features.

    Attributes:
        min_std: smallest standard deviation divided by. Features that were constant so far (terrain on flat ground)
            would explode at their first change without it.
        clip: largest magnitude of a normalised feature.
    """

    min_std = 0.1
    clip = 10.0

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, features: torch.Tensor) -> None:
        """Merge the statistics of features (n, size) into the running ones (Chan et al., 1979)."""
        n = features.shape[0]
        if n == 0:
            return
        features = features.double()
        mean, var = features.mean(0), features.var(0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        weight = (n / total).double()
        merged = self.var * (1 - weight) + var * weight + delta**2 * weight * (1 - weight)
        self.mean.copy_(self.mean + delta * weight)
        self.var.copy_(merged if self.count > 0 else var)
        self.count.copy_(total)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, size) features to zero mean and unit variance, clipped."""
        std = self.var.sqrt().clamp_min(self.min_std)
        return ((features - self.mean) / std).clamp(-self.clip, self.clip)


class Policy(nn.Module):
    """Actor and critic over named observation groups.

    The actor's output is the mean of a diagonal Gaussian over normalised actions; the deterministic policy takes the
    mean. Actions are clamped to [-1, 1] by the environment, not here, so that distillation targets stay linear.

    Args:
        groups: observation groups that the policy reads, name to number of features, in the order of the input.
        actions: number of actions.
        architecture: shape of the networks.
        generator_seed: seed of the initial weights; None for torch's global stream.

    Raises:
        ConfigError: for no group or no action.
    """

    def __init__(
        self,
        groups: Mapping[str, int],
        actions: int,
        architecture: Architecture = Architecture(),
        generator_seed: int | None = None,
    ) -> None:
        super().__init__()
        if not groups or actions < 1:
            raise ConfigError(f"a policy needs observation groups and actions; got {dict(groups)} and {actions}")
        self.groups, self.actions, self.architecture = dict(groups), actions, architecture
        size = sum(self.groups.values())
        with torch.random.fork_rng(enabled=generator_seed is not None):
            if generator_seed is not None:
                torch.manual_seed(generator_seed)
            self.normaliser = Normaliser(size)
            self.actor = _mlp(size, architecture.hidden, actions, architecture.activation, last_gain=0.01)
            self.critic = _mlp(size, architecture.critic_hidden, 1, architecture.activation, last_gain=1.0)
        self.log_std = nn.Parameter(torch.full((actions,), architecture.initial_std).log())

    @property
    def observation_size(self) -> int:
        """Number of features over all groups."""
        return sum(self.groups.values())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(n, actions) mean actions for flat observations (n, observation_size)."""
        mean = self.actor(self.normaliser(observations))
        return torch.tanh(mean) if self.architecture.squash else mean

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """(n,) estimated returns, with rewards scaled by ``1 - gamma`` so that they lie in [0, 1]."""
        return self.critic(self.normaliser(observations)).squeeze(-1)

    def distribution(self, observations: torch.Tensor) -> torch.distributions.Normal:
        """Gaussian over actions, (n, actions)."""
        return torch.distributions.Normal(self(observations), self.log_std.exp())

    def flatten(self, observations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(n, observation_size) from observation groups, each (n, size); groups that it does not read are left out.

        Raises:
            ContractError: naming the group that is missing or has another size.
        """
        check_groups(self.groups, {name: value.shape[-1] for name, value in observations.items()}, "the environment")
        return torch.cat([observations[name] for name in self.groups], dim=-1)


def check_groups(needed: Mapping[str, int], offered: Mapping[str, int], where: str) -> None:
    """Raise unless every needed observation group is offered with its size.

    Args:
        needed: groups that a policy reads.
        offered: groups that are there; more than needed is fine.
        where: who offers them, for the message.

    Raises:
        ContractError: naming the group and both sizes.
    """
    for name, size in needed.items():
        if name not in offered:
            have = ", ".join(f"{k} ({v})" for k, v in offered.items())
            raise ContractError(f"the policy reads observation group '{name}' ({size}); {where} offers only {have}")
        if offered[name] != size:
            raise ContractError(
                f"observation group '{name}' has {offered[name]} features in {where}; the policy reads {size}"
            )


def _mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str, last_gain: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(inputs, width)
        nn.init.orthogonal_(linear.weight, 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, _ACTIVATIONS[activation]()]
        inputs = width
    last = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(last.weight, last_gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
