"""PPO whose transitions never leave the device: rollouts, advantages and updates stay next to the simulation.

The algorithm is that of stable-baselines3 in :mod:`policykd.agents.training.algorithms.ppo`, with the same networks,
optimizer, step size and bounds; ``tests/agents/test_device_ppo.py`` compares one update of both. stable-baselines3
keeps its rollouts in NumPy, which would move every step from the device to the host and back.

An update works in the policy's canonical frame (see :meth:`Policy.canonical`) on observations that are normalized once:
between two changes of the normalizer neither depends on the weights.

An iteration is a few pure functions over static tensors: choosing actions, the physics (which the engine launches as
one graph), storing what came of them, advantages, and all gradient steps. On a CUDA device each is recorded once and
then replayed (:mod:`policykd.envs.capture`); on the CPU the same functions are called. The host waits once per
iteration, for the divergence that the step size is adapted to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from policykd.agents.policy import Policy
from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.device_adam import DeviceAdam
from policykd.agents.training.sb3_policy import entropy, log_density
from policykd.divergences import gaussian_kl
from policykd.envs.capture import Captured, Recorder, recorder_for
from policykd.errors import ConfigError

if TYPE_CHECKING:
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
        self.sums += rows.masked_fill(~step.ended, 0.0).sum(dim=1)

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
        record: recorder of the iteration's parts; None for that of the device.

    Attributes:
        optimizer: Adam over both networks.
        episodes: means over the training episodes.
    """

    def __init__(
        self, policy: Policy, env: MaskedEnv, config: PpoConfig, seed: int, *, record: Recorder | None = None
    ) -> None:
        self._policy, self._env, self._config = policy, env, config
        self._draw = torch.Generator(env.device).manual_seed(seed)
        self.optimizer = DeviceAdam(policy, config.learning_rate, config.critic_rate, config.max_grad_norm)
        self._rollout = Rollout.empty(config.rollout_steps, env.num_envs, policy)
        self.episodes = EpisodeMeans(env.device)
        count = self._rollout.rewards.numel()
        self._orders = torch.empty(config.epochs, count, dtype=torch.long, device=env.device)
        self._flat = policy.log_std.new_empty(env.num_envs, policy.observation_size).detach()
        self._row = torch.zeros(1, dtype=torch.long, device=env.device)
        self._begun = False
        record = record or recorder_for(env.device)
        self._act = Captured(self._choose_actions, record, [self._draw])
        self._store = Captured(self._store_outcome, record, [env.picker])
        self._estimate = Captured(self._estimate_advantages, record)
        self._learn = Captured(self._make_steps, record)

    def seed(self, seed: int) -> None:
        """Restart the stream of exploration and of the order of minibatches."""
        self._draw.manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next rollouts depend on, without policy and environment."""
        flat = self._flat.clone() if self._begun else None
        return {"optimizer": self.optimizer.state_dict(), "flat": flat, "episodes": self.episodes.sums.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._learn.forget()  # the optimizer's memory is elsewhere now
        self._begun = state["flat"] is not None
        if self._begun:
            self._flat.copy_(state["flat"])
        self.episodes.sums.copy_(state["episodes"])

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Let the policy act for one rollout and return it; nothing here waits for the device.

        The rollout's tensors are overwritten by the next one.
        """
        self._begin()
        self._row.zero_()
        for _ in range(self._config.rollout_steps):
            self._act()
            self._env.advance()
            self._store()
        self._estimate()
        return self._rollout

    def update(self, rollout: Rollout, rate: float) -> float:
        """Learn from a rollout; this waits for the device.

        Args:
            rollout: from :meth:`collect`.
            rate: step size of the actor.

        Returns:
            KL divergence of the new policy from the one that acted, mean over the states.

        Raises:
            ConfigError: if the weights are not finite any more.
        """
        if rollout is not self._rollout:
            for mine, given in zip(_columns(self._rollout), _columns(rollout), strict=True):
                mine.copy_(given)
        self.optimizer.set_rate(rate)
        for order in self._orders:
            torch.randperm(len(order), generator=self._draw, out=order)
        divergence = float(self._learn())
        if not math.isfinite(divergence):
            raise ConfigError(
                f"the policy is not finite after an update with step size {rate:g}: set ppo.learning_rate, "
                f"ppo.learning_rate_range or ppo.max_grad_norm lower"
            )
        return divergence

    def _choose_actions(self) -> None:
        """Draw the actions of the present states, store both, and give the actions to the environment."""
        policy, rollout = self._policy, self._rollout
        raw, mirrored = policy.canonical(self._flat)
        features = policy.normalizer(raw)
        noise = self._noise()
        actions = policy.actor(features) + policy.log_std.exp() * noise
        rows = (features, raw, actions, log_density(noise, policy.log_std), policy.critic(features).squeeze(1))
        memories = (rollout.features, rollout.raw, rollout.actions, rollout.log_probs, rollout.values)
        for memory, row in zip(memories, rows, strict=True):
            memory.index_copy_(0, self._row, row[None])
        self._env.aim(policy.oriented(actions, mirrored))

    def _store_outcome(self) -> None:
        """Store rewards and ends of the step, and take over the next states."""
        policy, rollout, gamma = self._policy, self._rollout, self._config.gamma
        step = self._env.conclude()
        self.episodes.add(step)
        cut = gamma * policy.value(step.final_flat) * step.outcome.truncated
        rollout.rewards.index_copy_(0, self._row, ((1 - gamma) * step.outcome.reward + cut)[None])
        rollout.ended.index_copy_(0, self._row, step.ended[None])
        self._flat.copy_(step.flat)
        self._row += 1

    def _estimate_advantages(self) -> None:
        rollout, config = self._rollout, self._config
        last = self._policy.value(self._flat)
        found = advantages(rollout.rewards, rollout.values, rollout.ended, last, config.gamma, config.gae_lambda)
        rollout.advantages.copy_(found)

    def _make_steps(self) -> torch.Tensor:
        """Make all gradient steps on the rollout in the drawn orders; return the divergence ()."""
        rollout = self._rollout
        features, actions = rollout.features.flatten(0, 1), rollout.actions.flatten(0, 1)
        log_probs, values = rollout.log_probs.flatten(), rollout.values.flatten()
        gains, before = rollout.advantages.flatten(), self._answers(features)
        for order in self._orders:
            for rows in order.split(self._config.minibatch):
                loss = self._loss(features[rows], actions[rows], log_probs[rows], values[rows], gains[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        now = self._answers(features)
        return gaussian_kl(now, before, direction="forward", reduction="batchmean", check=False)

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
        if not self._begun:
            self._flat.copy_(torch.cat(list(self._env.reset(stagger=True).values()), dim=1))
            self._begun = True


def _columns(rollout: Rollout) -> tuple[torch.Tensor, ...]:
    return (rollout.features, rollout.raw, rollout.actions, rollout.log_probs, rollout.values, rollout.rewards,
            rollout.ended, rollout.advantages)  # fmt: skip
