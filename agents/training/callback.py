"""What happens inside stable-baselines3's loop: the normalizer follows, and whoever watches hears of it."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from policykd.agents.policy import Policy
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.learners import AdaptiveRate, noise_bound
from policykd.agents.training.levels import next_level, review_due
from policykd.divergences import gaussian_kl
from policykd.envs.batched_env import BatchedEnv
from policykd.progress import Progress


class _Rollout:
    """The observations of a rollout (T, n, features), and how the policy answers them before it is updated."""

    @torch.no_grad()
    def __init__(self, policy: Policy, observations: np.ndarray) -> None:
        # a copy: stable-baselines3 sorts its buffer anew in the update
        self.observations = torch.from_numpy(observations.reshape(-1, policy.observation_size).copy())
        self._answers = (policy(self.observations), policy.log_std.clone())

    @torch.no_grad()
    def divergence(self, policy: Policy) -> float:
        """KL divergence of the policy now from the one before, mean over the states.

        stable-baselines3 estimates it from the very actions that the update was fitted to, which overstates it
        severalfold.
        """
        now = (policy(self.observations), policy.log_std)
        return float(gaussian_kl(now, self._answers, direction="forward", reduction="batchmean"))


class TrainingCallback(BaseCallback):
    """Updates the normalizer between rollouts, the step size, the curriculum's level, and the progress.

    The normalizer changes only between an update and the next rollout: within them, the old and the new
    log-probability of an action must see the same features.

    Args:
        policy: the policy in training.
        average: moving average of its weights.
        env: what it trains on.
        rate: the step size.
        config: the run, whose budget the step size and the bound of the exploration noise follow.
        progress: who watches.
        name: name of the work.
    """

    def __init__(
        self,
        policy: Policy,
        average: WeightAverage,
        env: BatchedEnv,
        rate: AdaptiveRate,
        config: TrainConfig,
        progress: Progress,
        name: str,
    ) -> None:
        super().__init__()
        self._policy, self._average, self._env, self._rate, self._config = policy, average, env, rate, config
        self._progress, self._name = progress, name
        self._rollout: _Rollout | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # The first rollout of a segment follows no update of its own: what an earlier segment left behind must not
        # count, or a resumed run would differ.
        if self._rollout is not None:
            spent = min(1.0, self.num_timesteps / self._config.steps)
            self._rate.adapt(self._rollout.divergence(self._policy), spent)
            self._average.update(self._policy, self.num_timesteps)
            self._policy.update_normalizer(self._rollout.observations)
            self._bound_noise(spent)

    def _on_training_end(self) -> None:
        self._average.update(self._policy, self.num_timesteps)

    def _bound_noise(self, spent: float) -> None:
        bound = noise_bound(self._policy.architecture.initial_std, self._config.ppo, spent)
        self._policy.log_std.data.clamp_(max=math.log(bound))

    def _on_rollout_end(self) -> None:
        buffer = getattr(self.model, "rollout_buffer", None)
        fresh = self._env.num_envs
        if isinstance(buffer, RolloutBuffer):
            self._rollout = _Rollout(self._policy, buffer.observations)
            fresh *= buffer.buffer_size
        recent = self.model.ep_success_buffer or deque(maxlen=1)
        if len(recent) == recent.maxlen and review_due(self._config, self.num_timesteps, fresh):
            self._env.level = next_level(self._env, self._config, float(np.mean(list(recent))))
        self._progress.update(self._name, self.num_timesteps, **self.figures())

    def figures(self) -> dict[str, float]:
        """Means over the last 100 training episodes, which act with exploration noise."""
        episodes = list(self.model.ep_info_buffer or [])
        if not episodes:
            return {}
        length = float(np.mean([e["l"] for e in episodes]))
        return {
            "train_return": float(np.mean([e["r"] for e in episodes])),
            "train_length": length,
            "train_distance": float(np.mean([e["distance"] for e in episodes])),
            "train_success": float(np.mean(list(self.model.ep_success_buffer or [0.0]))),
        }
