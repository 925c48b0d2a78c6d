"""Proximal policy optimization: stable-baselines3's on the CPU, our own on a CUDA device.

torch and stable-baselines3 are imported inside functions only, so that settings can be read without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from policykd.agents.training.algorithm import Adaptation, Algorithm, DeviceLearner
from policykd.errors import ConfigError, check_range

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from policykd.agents.policy import Policy
    from policykd.envs.masked_env import MaskedEnv
    from policykd.envs.sb3_vec_env import Sb3VecEnv


@dataclass(frozen=True)
class PpoConfig:
    """Proximal policy optimization (Schulman et al., 2017), as in stable-baselines3.

    Attributes:
        envs: simulations stepped together.
        rollout_steps: steps of each simulation between two updates.
        epochs: passes over a rollout per update.
        minibatch: transitions per gradient step; must divide ``envs * rollout_steps``.
        learning_rate: Adam's step size for the actor at the start; it is then adapted to ``target_kl``.
        critic_rate: Adam's step size for the critic. With the actor's, which falls as the policy sharpens, the critic
            lags behind where falls are sudden.
        target_kl: divergence between the policies before and after an update, at the start of the budget. The step
            size is divided by 1.5 where it was more than double, multiplied where it was less than half.
        final_target_kl: the same at the end of the budget; linear in between. Small late updates average out the noise
            of the gradient.
        learning_rate_range: bounds of the adapted step size; equal bounds keep it constant.
        gamma: discount factor.
        gae_lambda: lambda of generalized advantage estimation.
        clip_range: clip of the probability ratio.
        entropy_weight: weight of the entropy bonus.
        max_grad_norm: clip of the gradient's norm.
        final_std: upper bound of the exploration noise at the end of the budget, in units of the action; it falls
            linearly from the policy's initial noise. Wide noise finds the first strides, narrow noise lets a foot
            clear an edge.

    Raises:
        ConfigError: naming the field and its range.
    """

    envs: int = 64
    rollout_steps: int = 32
    epochs: int = 5
    minibatch: int = 512
    learning_rate: float = 5e-4
    critic_rate: float = 1e-3
    target_kl: float = 0.02
    final_target_kl: float = 0.01
    learning_rate_range: tuple[float, float] = (5e-5, 2e-3)
    gamma: float = 0.98
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy_weight: float = 0.0
    max_grad_norm: float = 1.0
    final_std: float = 0.2

    def __post_init__(self) -> None:
        for name in ("envs", "rollout_steps", "epochs", "minibatch"):
            check_range(f"ppo.{name}", getattr(self, name), 1, 1_000_000)
        check_range("ppo.gamma", self.gamma, 0.0, 0.99999)
        check_range("ppo.gae_lambda", self.gae_lambda, 0.0, 1.0)
        check_range("ppo.learning_rate", self.learning_rate, 1e-8, 1.0)
        check_range("ppo.critic_rate", self.critic_rate, 1e-8, 1.0)
        check_range("ppo.final_std", self.final_std, 1e-4, 10.0)
        check_range("ppo.target_kl", self.target_kl, 1e-6, 10.0)
        check_range("ppo.final_target_kl", self.final_target_kl, 1e-6, 10.0)
        check_range("ppo.clip_range", self.clip_range, 1e-6, 10.0)
        check_range("ppo.max_grad_norm", self.max_grad_norm, 1e-9, 1e9)
        check_range("ppo.entropy_weight", self.entropy_weight, 0.0, 1e3)
        low, high = self.learning_rate_range
        check_range("ppo.learning_rate_range", low, 0.0, high)
        if (self.envs * self.rollout_steps) % self.minibatch:
            raise ConfigError(
                f"ppo.minibatch is {self.minibatch}; it must divide envs * rollout_steps = "
                f"{self.envs * self.rollout_steps}"
            )


class PpoAdaptation(Adaptation):
    """Step size adapted so that an update changes the policy by a given divergence (as in rsl_rl).

    Args:
        config: settings of the run.
    """

    _FACTOR = 1.5

    def __init__(self, config: PpoConfig) -> None:
        super().__init__(config.learning_rate)
        self._config = config

    @override
    def adapt(self, divergence: float, spent: float) -> None:
        low, high = self._config.learning_rate_range
        target = self._config.target_kl + spent * (self._config.final_target_kl - self._config.target_kl)
        if divergence > 2 * target:
            self.value = max(low, self.value / self._FACTOR)
        elif divergence < target / 2:
            self.value = min(high, self.value * self._FACTOR)

    @override
    def noise_bound(self, initial_std: float, spent: float) -> float:
        return initial_std + spent * (min(initial_std, self._config.final_std) - initial_std)


def make_learner(policy: Policy, env: Sb3VecEnv, config: PpoConfig, adaptation: Adaptation) -> PPO:
    """Return stable-baselines3's PPO around one of our policies; see :class:`Algorithm`."""
    from stable_baselines3 import PPO

    from policykd.agents.training.sb3_policy import Sb3Policy

    return PPO(
        Sb3Policy,
        env,
        policy_kwargs={"network": policy, "critic_rate": config.critic_rate, "max_grad_norm": config.max_grad_norm},
        learning_rate=adaptation,
        n_steps=config.rollout_steps,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy_weight,
        max_grad_norm=float("inf"),  # the policy's optimizer clips the gradients of actor and critic separately
        device="cpu",
    )


def make_device_learner(policy: Policy, env: MaskedEnv, config: PpoConfig, seed: int) -> DeviceLearner:
    """Return our PPO on the environment's device; see :class:`Algorithm`."""
    from policykd.agents.training.device_ppo import DevicePpo

    return DevicePpo(policy, env, config, seed)


ALGORITHM = Algorithm(
    config=PpoConfig,
    make_learner=make_learner,
    make_adaptation=PpoAdaptation,
    make_device_learner=make_device_learner,
    symmetric=True,
)
