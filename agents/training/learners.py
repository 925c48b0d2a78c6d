"""stable-baselines3's algorithms around one of our policies."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy

from policykd.agents.policy import Normalizer, Policy
from policykd.agents.sb3_policy import Sb3Policy
from policykd.agents.training.config import PpoConfig, TrainConfig
from policykd.envs.sb3_env import Sb3VecEnv
from policykd.errors import ConfigError


class AdaptiveRate:
    """PPO's step size, adapted so that an update changes the policy by a given divergence (as in rsl_rl).

    Args:
        config: the run's PPO settings.

    Attributes:
        value: the step size now.
    """

    _FACTOR = 1.5

    def __init__(self, config: PpoConfig) -> None:
        self._config, self.value = config, config.learning_rate

    def __call__(self, _: float) -> float:
        """Step size now; stable-baselines3 asks with the remaining progress."""
        return self.value

    def adapt(self, divergence: float, progress: float) -> None:
        """Follow the last update.

        Args:
            divergence: approximate KL divergence between the policies before and after it.
            progress: share of the budget that is spent, in [0, 1].
        """
        low, high = self._config.learning_rate_range
        target = self._config.target_kl + progress * (self._config.final_target_kl - self._config.target_kl)
        if divergence > 2 * target:
            self.value = max(low, self.value / self._FACTOR)
        elif divergence < target / 2:
            self.value = min(high, self.value * self._FACTOR)


def noise_bound(start: float, config: PpoConfig, spent: float) -> float:
    """Largest standard deviation of the exploration noise when a share ``spent`` of the budget is spent.

    Args:
        start: the standard deviation that the policy began with.
        config: the run's PPO settings.
        spent: share of the budget, in [0, 1].
    """
    return start + spent * (min(start, config.final_std) - start)


def make_learner(policy: Policy, env: Sb3VecEnv, config: TrainConfig, rate: AdaptiveRate) -> BaseAlgorithm:
    """The configured algorithm, training ``policy`` in place.

    Args:
        policy: the policy.
        env: what it trains on, with rewards scaled by ``1 - gamma``.
        config: the run.
        rate: PPO's step size.

    Returns:
        A stable-baselines3 algorithm.

    Raises:
        ConfigError: if SAC is given a policy without tanh on its actions.
    """
    return _make_ppo(policy, env, config, rate) if config.algorithm == "ppo" else _make_sac(policy, env, config)


def _make_ppo(policy: Policy, env: Sb3VecEnv, config: TrainConfig, rate: AdaptiveRate) -> PPO:
    ppo = config.ppo
    return PPO(
        Sb3Policy,
        env,
        policy_kwargs={"network": policy, "critic_rate": ppo.critic_rate, "max_grad_norm": ppo.max_grad_norm},
        learning_rate=rate,
        n_steps=ppo.rollout_steps,
        batch_size=ppo.minibatch,
        n_epochs=ppo.epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_range,
        ent_coef=ppo.entropy_weight,
        max_grad_norm=float("inf"),  # the policy's optimizer clips actor and critic apart
        device="cpu",
    )


def _make_sac(policy: Policy, env: Sb3VecEnv, config: TrainConfig) -> SAC:
    if not policy.architecture.squash:
        raise ConfigError("SAC needs a policy whose mean actions are bounded; set architecture.squash")
    sac = config.sac
    return SAC(
        _SacPolicy,
        env,
        policy_kwargs={
            "network": policy,
            "net_arch": {"pi": list(policy.architecture.hidden), "qf": list(policy.architecture.critic_hidden)},
            "features_extractor_class": _Normalized,
            "features_extractor_kwargs": {"normalizer": policy.normalizer},
            "share_features_extractor": False,
        },
        learning_rate=sac.learning_rate,
        buffer_size=sac.buffer_size,
        learning_starts=sac.warmup_steps,
        batch_size=sac.minibatch,
        gradient_steps=sac.gradient_steps,
        gamma=sac.gamma,
        tau=sac.tau,
        device="cpu",
    )


class _Normalized(BaseFeaturesExtractor):
    """The policy's own normalizer in front of stable-baselines3's networks."""

    def __init__(self, observation_space: spaces.Box, normalizer: Normalizer) -> None:
        super().__init__(observation_space, features_dim=observation_space.shape[0])
        self.normalizer = normalizer

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.normalizer(observations)


class _SacActor(Actor):
    """SAC's actor whose mean is our policy's actor; its spread depends on the state and stays here."""

    def __init__(self, *args: Any, network: Policy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latent_pi, self.mu = network.actor[:-1], network.actor[-1]


class _SacPolicy(SACPolicy):
    """SAC's networks with our actor inside."""

    def __init__(self, *args: Any, network: Policy, **kwargs: Any) -> None:
        self._given = (network,)  # in a tuple: torch refuses modules before its own __init__ has run
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return _SacActor(**arguments, network=self._given[0]).to(self.device)
