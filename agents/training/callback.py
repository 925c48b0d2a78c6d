"""What happens inside stable-baselines3's loop: the normaliser follows, and whoever watches hears of it."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from policykd.agents.policy import Policy
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.learners import AdaptiveRate
from policykd.envs.batched_env import BatchedEnv
from policykd.progress import Progress

_LEVEL_STEP = 0.04
_RAISE_ABOVE = 0.4  # share of successes among the last 100 training episodes


class TrainingCallback(BaseCallback):
    """Updates the normaliser between rollouts, the step size, the curriculum's level, and the progress.

    The normaliser changes only between an update and the next rollout: within them, the old and the new
    log-probability of an action must see the same features.

    Args:
        policy: the policy in training.
        env: what it trains on.
        rate: the step size.
        config: the run, whose budget the step size and the bound of the exploration noise follow.
        progress: who watches.
        name: name of the work.
    """

    def __init__(
        self, policy: Policy, env: BatchedEnv, rate: AdaptiveRate, config: TrainConfig, progress: Progress, name: str
    ) -> None:
        super().__init__()
        self._policy, self._env, self._rate, self._config = policy, env, rate, config
        self._progress, self._name = progress, name
        self._filled = False

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        buffer = getattr(self.model, "rollout_buffer", None)
        # The first rollout of a segment follows no update of its own: what an earlier segment left behind must not
        # count, or a resumed run would differ.
        if self._filled and isinstance(buffer, RolloutBuffer):
            features = torch.from_numpy(buffer.observations.reshape(-1, self._policy.observation_size))
            self._policy.update_normaliser(features)
            spent = min(1.0, self.num_timesteps / self._config.steps)
            self._rate.adapt(self.logger.name_to_value["train/approx_kl"], spent)
            self._bound_noise(spent)
        self._filled = True

    def _bound_noise(self, spent: float) -> None:
        start = self._policy.architecture.initial_std
        bound = start + spent * (min(start, self._config.ppo.final_std) - start)
        self._policy.log_std.data.clamp_(max=math.log(bound))

    def _on_rollout_end(self) -> None:
        recent = self.model.ep_success_buffer or deque(maxlen=1)
        if self._env.config.graded and len(recent) == recent.maxlen and np.mean(list(recent)) > _RAISE_ABOVE:
            self._env.level = min(1.0, self._env.level + _LEVEL_STEP)
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
