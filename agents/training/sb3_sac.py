"""Our policy's actor and normalizer inside stable-baselines3's SAC, whose critics stay its own.

It passes calls on and is the only module that knows SAC's critics.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from typing_extensions import override

from policykd.agents.policy import Normalizer, Policy


class NormalizedFeatures(BaseFeaturesExtractor):
    """The policy's own normalizer in front of stable-baselines3's networks.

    Args:
        observation_space: flat observations.
        normalizer: normalizer of the policy.
    """

    def __init__(self, observation_space: spaces.Box, normalizer: Normalizer) -> None:
        super().__init__(observation_space, features_dim=observation_space.shape[0])
        self.normalizer = normalizer

    @override
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.normalizer(observations)


class Sb3SacPolicy(SACPolicy):
    """Networks of SAC with our policy's actor inside.

    Args:
        args: arguments of stable-baselines3.
        network: the policy; its actor is trained in place.
        kwargs: arguments of stable-baselines3.
    """

    def __init__(self, *args: Any, network: Policy, **kwargs: Any) -> None:
        self._given = (network,)  # in a tuple: torch refuses modules before its own __init__ has run
        super().__init__(*args, **kwargs)

    @override
    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return _SacActor(**arguments, network=self._given[0]).to(self.device)


class _SacActor(Actor):
    """Actor of SAC whose mean is our policy's actor; its standard deviation depends on the state and is not kept."""

    def __init__(self, *args: Any, network: Policy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latent_pi, self.mu = network.actor[:-1], network.actor[-1]
