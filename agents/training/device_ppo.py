"""PPO whose transitions never leave the device: rollouts, advantages and updates stay next to the simulation.

The algorithm is that of stable-baselines3 in :mod:`policykd.agents.training.algorithms.ppo`, with the same networks,
optimizer, step size and bounds; ``tests/agents/test_device_ppo.py`` compares one update of both. stable-baselines3
keeps its rollouts in NumPy, which would move every step from the device to the host and back.

An update works in the policy's canonical frame (see :meth:`Policy.canonical`) on observations that are normalized once:
between two changes of the normalizer neither depends on the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.sb3_policy import TwoRates, entropy, log_density
from policykd.divergences import gaussian_kl
from policykd.envs.masked_env import MaskedEnv, MaskedStep

VALUE_WEIGHT = 0.5
"""Weight of the critic's squared error in the loss."""


@dataclass
class Rollout:
    """Transitions of ``n`` simulations over ``T`` steps, in the canonical frame.

    Attributes:
        features: (T, n, features) normalized observations.
        raw: (T, n, features) the same before normalization.
        actions: (T, n, actions) actions as they were drawn.
        log_probs: (T, n) their log probabilities.
        values: (T, n) estimated returns.
        rewards: (T, n) scaled rewards, with the value of the last state if an episode was truncated.
        ended: (T, n) whether the step ended the episode.
        advantages: (T, n) from :func:`advantages`.
    """

    features: torch.Tensor
    raw: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    values: torch.Tensor
    rewards: torch.Tensor
    ended: torch.Tensor
    advantages: torch.Tensor

    @classmethod
    def empty(cls, steps: int, sims: int, policy: Policy) -> Rollout:
        """Return memory for a rollout of ``sims`` simulations over ``steps`` steps."""
        like, size = policy.log_std.detach(), policy.observation_size
        return cls(
            features=like.new_empty(steps, sims, size),
            raw=like.new_empty(steps, sims, size),
            actions=like.new_empty(steps, sims, policy.actions),
            log_probs=like.new_empty(steps, sims),
            values=like.new_empty(steps, sims),
            rewards=like.new_empty(steps, sims),
            ended=like.new_empty(steps, sims, dtype=torch.bool),
            advantages=like.new_empty(steps, sims),
        )


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, ended: torch.Tensor, last: torch.Tensor, gamma: float, lam: float
) -> torch.Tensor:
    """Return generalized advantage estimates (Schulman et al., 2016, equation 16).

    Args:
        rewards: (T, n).
        values: (T, n) estimated returns of the states in which the actions were taken.
        ended: (T, n) whether the step ended the episode, at which the sums stop.
        last: (n,) estimated returns of the states after the last step.
        gamma: discount factor.
        lam: weight of longer estimates, in [0, 1].

    Returns:
        (T, n) advantages; ``advantages + values`` are the critic's targets.
    """
    following = torch.cat([values[1:], last[None]])
    goes_on = gamma * (~ended).to(values)
    errors = rewards + goes_on * following - values
    result, carried = torch.empty_like(errors), torch.zeros_like(last)
    for t in range(len(errors) - 1, -1, -1):
        carried = errors[t] + lam * goes_on[t] * carried
        result[t] = carried
    return result


def clipped_surrogate(
    policy: Policy, mean: torch.Tensor, actions: torch.Tensor, log_probs: torch.Tensor, gains: torch.Tensor, clip: float
) -> torch.Tensor:
    """Return the clipped surrogate of PPO with the sign of a loss (Schulman et al., 2017, equation 7).

    Args:
        policy: the policy, for the spread of its actions.
        mean: (n, actions) its mean actions.
        actions: (n, actions) actions as they were drawn.
        log_probs: (n,) their log probabilities then.
        gains: (n,) advantages, which are standardized here.
        clip: clip of the probability ratio.
    """
    if len(gains) > 1:
        gains = (gains - gains.mean()) / (gains.std() + 1e-8)
    noise = (actions - mean) * torch.exp(-policy.log_std)
    ratio = torch.exp(log_density(noise, policy.log_std) - log_probs)
    return -torch.minimum(gains * ratio, gains * ratio.clamp(1 - clip, 1 + clip)).mean()


class EpisodeMeans:
    """Means over the episodes that ended since they were last taken, added up on the device.

    Args:
        device: the device.

    Attributes:
        sums: (5,) number of episodes, and the sums over them.
    """

    _NAMES = ("train_return", "train_length", "train_distance", "train_success")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(1 + len(self._NAMES), device=device)

    def add(self, step: MaskedStep) -> None:
        """Add the episodes that ``step`` ended."""
        o = step.outcome
        rows = torch.stack([torch.ones_like(o.reward), o.total_reward.float(), o.length.float(), o.distance.float(),
                            o.success.float()])  # fmt: skip
        self.sums += torch.where(step.ended, rows, 0.0).sum(dim=1)

    def take(self, least: int = 1) -> dict[str, float]:
        """Return the means by name and reset them; this waits for the device.

        Args:
            least: smallest number of episodes; with fewer, the result is empty and they are kept.
        """
        count, *sums = self.sums.tolist()
        if count < least:
            return {}
        self.sums.zero_()
        return {name: total / count for name, total in zip(self._NAMES, sums, strict=True)}


class DevicePpo:
    """Trains a policy in place on the device of its environment.

    Args:
        policy: the policy, on the environment's device.
        env: the environment; its skill's groups are those that the policy reads, in their order.
        config: settings; ``envs`` is the environment's.
        seed: seed of exploration and of the order of minibatches.

    Attributes:
        optimizer: Adam over both networks.
        episodes: means over the training episodes.
    """

    def __init__(self, policy: Policy, env: MaskedEnv, config: PpoConfig, seed: int) -> None:
        self._policy, self._env, self._config = policy, env, config
        self._draw = torch.Generator(env.device).manual_seed(seed)
        self.optimizer = TwoRates(policy, config.learning_rate, config.critic_rate, config.max_grad_norm)
        self._rollout = Rollout.empty(config.rollout_steps, env.num_envs, policy)
        self._flat: torch.Tensor | None = None
        self.episodes = EpisodeMeans(env.device)

    def seed(self, seed: int) -> None:
        """Restart the stream of exploration and of the order of minibatches."""
        self._draw.manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next rollouts depend on, without policy and environment."""
        return {"optimizer": self.optimizer.state_dict(), "flat": self._flat, "episodes": self.episodes.sums.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._flat = None if state["flat"] is None else state["flat"].to(self._env.device)
        self.episodes.sums.copy_(state["episodes"])

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Let the policy act for one rollout and return it; nothing here waits for the device."""
        self._begin()
        assert self._flat is not None
        policy, rollout, config = self._policy, self._rollout, self._config
        std = policy.log_std.exp()
        for t in range(config.rollout_steps):
            raw, mirrored = policy.canonical(self._flat)
            features = policy.normalizer(raw)
            noise = self._noise()
            actions = policy.actor(features) + std * noise
            step = self._env.step_masked(policy.oriented(actions, mirrored))
            self.episodes.add(step)
            cut = config.gamma * policy.value(step.final_flat) * step.outcome.truncated
            rows = (features, raw, actions, log_density(noise, policy.log_std), policy.critic(features).squeeze(1),
                    (1 - config.gamma) * step.outcome.reward + cut, step.ended)  # fmt: skip
            for memory, row in zip(_columns(rollout), rows, strict=True):
                memory[t] = row
            self._flat = step.flat
        rollout.advantages = advantages(
            rollout.rewards, rollout.values, rollout.ended, policy.value(self._flat), config.gamma, config.gae_lambda
        )
        return rollout

    def update(self, rollout: Rollout, rate: float) -> float:
        """Learn from a rollout.

        Args:
            rollout: from :meth:`collect`.
            rate: step size of the actor.

        Returns:
            KL divergence of the new policy from the one that acted, mean over the states.
        """
        config, count = self._config, rollout.rewards.numel()
        features, actions = rollout.features.flatten(0, 1), rollout.actions.flatten(0, 1)
        log_probs, values = rollout.log_probs.flatten(), rollout.values.flatten()
        gains = rollout.advantages.flatten()
        before = self._answers(features)
        for group in self.optimizer.param_groups:  # the optimizer gives the critic its own
            group["lr"] = rate
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=self._draw, device=features.device)
            for rows in order.split(config.minibatch):
                loss = self._loss(features[rows], actions[rows], log_probs[rows], values[rows], gains[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return float(gaussian_kl(self._answers(features), before, direction="forward", reduction="batchmean"))

    def prepare_next(self, rollout: Rollout, noise_bound: float) -> None:
        """Update the normalizer with a rollout's states, and bound the exploration noise.

        Args:
            rollout: the last rollout.
            noise_bound: largest standard deviation of the noise.
        """
        self._policy.normalizer.update(rollout.raw.flatten(0, 1))
        self._policy.log_std.data.clamp_(max=math.log(noise_bound))

    def _loss(
        self, features: torch.Tensor, actions: torch.Tensor, log_probs: torch.Tensor, values: torch.Tensor,
        gains: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return clipped surrogate, squared error of the critic, entropy bonus (Schulman et al., 2017, equation 9)."""
        policy, config = self._policy, self._config
        surrogate = clipped_surrogate(policy, policy.actor(features), actions, log_probs, gains, config.clip_range)
        error = torch.nn.functional.mse_loss(policy.critic(features).squeeze(1), gains + values)
        return surrogate + VALUE_WEIGHT * error - config.entropy_weight * entropy(policy.log_std)

    @torch.no_grad()
    def _answers(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._policy.actor(features), self._policy.log_std.clone()

    def _noise(self) -> torch.Tensor:
        shape = (self._env.num_envs, self._env.num_actions)
        return torch.randn(shape, generator=self._draw, device=self._env.device)

    def _begin(self) -> None:
        if self._flat is None:
            self._flat = torch.cat(list(self._env.reset(stagger=True).values()), dim=1)


def _columns(rollout: Rollout) -> tuple[torch.Tensor, ...]:
    return (rollout.features, rollout.raw, rollout.actions, rollout.log_probs, rollout.values, rollout.rewards,
            rollout.ended)  # fmt: skip
