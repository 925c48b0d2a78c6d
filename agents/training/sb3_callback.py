"""Callback inside stable-baselines3's loop: updates normalizer, step size and level, and reports progress.

It reads the learner's state and changes no loss.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from typing_extensions import override

from policykd.agents.policy import Policy
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.non_finite import describe_non_finite
from policykd.divergences import gaussian_kl
from policykd.envs.make import AnyEnv
from policykd.errors import NonFiniteError
from policykd.progress import Progress


def review_due(config: TrainConfig, steps: int, fresh: int) -> bool:
    """Return whether a multiple of ``config.review_steps`` is among the last ``fresh`` of ``steps`` steps."""
    return steps // config.review_steps > (steps - fresh) // config.review_steps


def next_level(env: AnyEnv, config: TrainConfig, success: float) -> float:
    """Return the curriculum's level after training episodes with this share of successes; it never falls.

    The level is the difficulty of the tracks of new training episodes. Levels of single simulations are the
    environment's business and are left alone. See :attr:`policykd.envs.batched_env.BatchedEnv.level`.
    """
    shared = env.config.graded and env.config.own_levels is None
    raised = shared and success > config.raise_above
    return min(1.0, env.level + config.level_step) if raised else env.level


class _Rollout:
    """The observations of a rollout (T, n, features), and the policy's actions in them before its update."""

    @torch.no_grad()
    def __init__(self, policy: Policy, observations: np.ndarray) -> None:
        # a copy: stable-baselines3 reorders its buffer in the update
        self.observations = torch.from_numpy(observations.reshape(-1, policy.observation_size).copy())
        self._answers = (policy(self.observations), policy.log_std.clone())

    @torch.no_grad()
    def divergence(self, policy: Policy) -> float:
        """Return the KL divergence of the policy now from the one before, mean over the states.

        stable-baselines3 estimates it from the actions that the update was fitted to, which overstates it severalfold.
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
        env: environment that it is trained in.
        adaptation: step size and bound of the exploration noise.
        config: the run.
        progress: progress reporter.
        name: name of the work.
    """

    def __init__(
        self,
        policy: Policy,
        average: WeightAverage,
        env: AnyEnv,
        adaptation: Adaptation,
        config: TrainConfig,
        progress: Progress,
        name: str,
    ) -> None:
        super().__init__()
        self._policy, self._average, self._env = policy, average, env
        self._adaptation, self._config = adaptation, config
        self._progress, self._name = progress, name
        self._rollout: _Rollout | None = None

    @override
    def _on_step(self) -> bool:
        observations, rewards = self.locals.get("new_obs"), self.locals.get("rewards")
        if observations is not None and not (np.isfinite(observations).all() and np.isfinite(rewards).all()):
            where = describe_non_finite(observations, rewards, self._policy.groups)
            raise NonFiniteError(f"{where} at environment step {self.num_timesteps:,}")
        return True

    @override
    def _on_rollout_start(self) -> None:
        # Before the first rollout of a segment there was no update: rollouts of an earlier segment must not count, or a
        # resumed run would differ.
        if self._rollout is not None:
            spent = min(1.0, self.num_timesteps / self._config.steps)
            self._adaptation.adapt(self._rollout.divergence(self._policy), spent)
            self._average.update(self._policy, self.num_timesteps)
            self._policy.update_normalizer(self._rollout.observations, self._policy.present(self._env.skills))
            self._bound_noise(spent)

    @override
    def _on_training_end(self) -> None:
        self._average.update(self._policy, self.num_timesteps)

    def _bound_noise(self, spent: float) -> None:
        bound = self._adaptation.noise_bound(self._policy.architecture.initial_std, spent)
        self._policy.log_std.data.clamp_(max=math.log(bound))

    @override
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
        """Return means over the last 100 training episodes, which act with exploration noise."""
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
