"""Our policy inside stable-baselines3: the interface of its on-policy algorithms around a :class:`Policy`.

It passes calls on to the policy; the code of the algorithms stays as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from typing_extensions import override

from policykd.agents.policy import Policy
from policykd.threads import torch_threads


class Sb3Policy(ActorCriticPolicy):
    """An actor-critic policy of stable-baselines3 around one of ours.

    Args:
        observation_space: flat observations.
        action_space: actions in [-1, 1].
        lr_schedule: learning rate by remaining progress.
        network: the policy; it is trained in place.
        critic_rate: step size of the critic; None for that of the actor.
        max_grad_norm: clip of the norm of each network's gradient.
        kwargs: arguments that stable-baselines3 adds.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        network: Policy,
        critic_rate: float | None = None,
        max_grad_norm: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self._critic_rate, self._max_grad_norm = critic_rate, max_grad_norm
        self._given = (network,)  # in a tuple: torch refuses modules before its own __init__ has run
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        (self.network,) = self._given
        self.optimizer = TwoRates(self.network, lr_schedule(1), self._critic_rate, self._max_grad_norm)

    @override
    @torch_threads(1)  # between two steps of the simulation, whose threads would compete with those of torch
    def forward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions (n, actions), values (n, 1) and log probabilities (n,)."""
        canonical, mirrored = self.network.canonical(obs)
        features = self.network.normalizer(canonical)
        mean, std = self.network.actor(features), self.network.log_std.exp()
        actions = mean if deterministic else mean + std * torch.randn_like(mean)
        log_prob = self._log_prob(actions, mean)
        return self.network.oriented(actions, mirrored), self.network.critic(features), log_prob

    @override
    def evaluate_actions(
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return values (n, 1), log probabilities (n,) and entropy (n,) of given actions."""
        canonical, mirrored = self.network.canonical(obs)
        features = self.network.normalizer(canonical)
        log_prob = self._log_prob(self.network.oriented(actions, mirrored), self.network.actor(features))
        return self.network.critic(features), log_prob, entropy(self.network.log_std).expand(len(obs))

    @override
    def predict_values(self, obs: torch.Tensor) -> torch.Tensor:
        """Return (n, 1) values."""
        return self.network.value(obs).unsqueeze(1)

    def _predict(self, observation: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        return self(observation, deterministic)[0]

    def _log_prob(self, actions: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        log_std = self.network.log_std
        return log_density((actions - mean) * torch.exp(-log_std), log_std)


def log_density(noise: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Return (n,) log densities of a Gaussian's actions ``noise`` (n, actions) standard deviations from its mean."""
    return -(0.5 * noise**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=1)


def entropy(log_std: torch.Tensor) -> torch.Tensor:
    """Return the differential entropy () of a diagonal Gaussian with ``log_std`` (actions,), nats."""
    return (log_std + 0.5 + 0.5 * math.log(2 * math.pi)).sum()


def trained_parameters(network: Policy) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of PPO's optimizer in its order: actor and exploration noise, then the critic."""
    return [*network.actor.parameters(), network.log_std], list(network.critic.parameters())


class TwoRates(torch.optim.Adam):
    """Adam with a separate step size of the critic: stable-baselines3 sets one for all parameters.

    Args:
        network: the policy.
        rate: step size of the actor.
        critic_rate: step size of the critic; None for that of the actor.
        max_grad_norm: clip of the norm of each network's gradient.
    """

    def __init__(self, network: Policy, rate: float, critic_rate: float | None, max_grad_norm: float) -> None:
        groups = [{"params": parameters} for parameters in trained_parameters(network)]
        super().__init__(groups, lr=rate, eps=1e-5, fused=True)
        self._critic_rate, self._max_grad_norm = critic_rate, max_grad_norm

    @override
    def step(self, closure: Any = None) -> Any:
        """Clip the gradients of both networks and make a step."""
        for group in self.param_groups:  # separately: a large gradient of one network must not shrink the other's
            torch.nn.utils.clip_grad_norm_(group["params"], self._max_grad_norm)
        if self._critic_rate is not None:
            self.param_groups[1]["lr"] = self._critic_rate
        return super().step(closure)
