"""The record of a reinforcement learning algorithm: its settings, its learners, and its abilities. Loads no torch.

An algorithm is one module in :mod:`policykd.agents.training.algorithms`, or an object of another package that a
configuration names as ``package.module:ALGORITHM``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from policykd.agents.policy import Policy
    from policykd.envs.masked_env import MaskedEnv
    from policykd.envs.sb3_vec_env import Sb3VecEnv


class AlgorithmConfig(Protocol):
    """Settings that every algorithm has; the rest is its own."""

    @property
    def envs(self) -> int:
        """Simulations stepped together."""
        ...

    @property
    def gamma(self) -> float:
        """Discount factor."""
        ...


class DeviceLearner(Protocol):
    """A learner whose policy and transitions are on a device."""

    @property
    def episodes(self) -> Any:
        """Means over training episodes; ``take(least)`` returns and resets them if there are enough episodes."""
        ...

    def seed(self, seed: int) -> None:
        """Restart the random streams."""
        ...

    def collect(self) -> Any:
        """Let the policy act for one rollout and return it; its ``rewards`` are (T, n)."""
        ...

    def update(self, rollout: Any, rate: float) -> float:
        """Learn from a rollout with a step size, and return the KL divergence of the new policy from the old one."""
        ...

    def prepare_next(self, rollout: Any, noise_bound: float) -> None:
        """Update the normalizer with a rollout's states, and bound the exploration noise."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next rollouts depend on, without policy and environment."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        ...


class Adaptation:
    """Step size and bound of the exploration noise over the course of a run; this base class keeps both constant.

    Args:
        learning_rate: step size at the start.

    Attributes:
        value: step size now; checkpoints keep it.
    """

    def __init__(self, learning_rate: float) -> None:
        self.value = learning_rate

    def __call__(self, progress_remaining: float) -> float:
        """Return the step size; the signature is that of a schedule of stable-baselines3."""
        return self.value

    def adapt(self, divergence: float, spent: float) -> None:
        """Adapt the step size after an update.

        Args:
            divergence: KL divergence between the policies before and after the update.
            spent: share of the budget that is spent, in [0, 1].
        """

    def noise_bound(self, initial_std: float, spent: float) -> float:
        """Return the largest standard deviation of the exploration noise, in units of the action.

        Args:
            initial_std: standard deviation of a new policy.
            spent: share of the budget that is spent, in [0, 1].
        """
        return math.inf


@dataclass(frozen=True)
class Algorithm:
    """A reinforcement learning algorithm that experts can be trained with.

    Attributes:
        config: frozen dataclass of its settings; see :class:`AlgorithmConfig`.
        make_learner: ``(policy, env, settings, adaptation)`` to an algorithm of stable-baselines3 that trains the
            policy in place on the CPU. The environment's rewards are scaled by ``1 - gamma``.
        make_adaptation: settings to the adaptation of a run; None keeps ``settings.learning_rate``.
        make_device_learner: ``(policy, env, settings, seed)`` to a learner on the environment's device; None for an
            algorithm that runs on the CPU only.
        squash: whether it trains policies whose mean actions are bounded by a tanh (``architecture.squash``).
        symmetric: whether it trains policies that treat left and right alike.
        state: names of the learner's tensors that a checkpoint keeps besides ``get_parameters()``.
    """

    config: type[Any]
    make_learner: Callable[[Policy, Sb3VecEnv, Any, Adaptation], BaseAlgorithm]
    make_adaptation: Callable[[Any], Adaptation] | None = None
    make_device_learner: Callable[[Policy, MaskedEnv, Any, int], DeviceLearner] | None = None
    squash: bool = False
    symmetric: bool = False
    state: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """Types of the devices that it runs on."""
        return ("cpu",) if self.make_device_learner is None else ("cpu", "cuda")

    def adaptation(self, settings: Any) -> Adaptation:
        """Return the adaptation of a run with these settings."""
        return self.make_adaptation(settings) if self.make_adaptation else Adaptation(settings.learning_rate)
