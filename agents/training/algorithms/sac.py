"""Soft actor-critic: stable-baselines3's, on the CPU.

torch and stable-baselines3 are imported inside functions only, so that settings can be read without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policykd.agents.training.algorithm import Adaptation, Algorithm
from policykd.errors import check_range

if TYPE_CHECKING:
    from stable_baselines3 import SAC

    from policykd.agents.policy import Policy
    from policykd.envs.sb3_vec_env import Sb3VecEnv


@dataclass(frozen=True)
class SacConfig:
    """Soft actor-critic (Haarnoja et al., 2018), as in stable-baselines3.

    Needs fewer environment steps than PPO and many more gradient steps; on a CPU PPO is faster by the clock.

    Attributes:
        envs: simulations stepped together.
        buffer_size: transitions kept for replay.
        warmup_steps: environment steps with random actions before learning starts.
        minibatch: transitions per gradient step.
        gradient_steps: gradient steps after every step of all simulations.
        learning_rate: Adam's step size.
        gamma: discount factor.
        tau: share of the online critics that enters their targets at each gradient step.

    Raises:
        ConfigError: naming the field and its range.
    """

    envs: int = 32
    buffer_size: int = 500_000
    warmup_steps: int = 5_000
    minibatch: int = 512
    gradient_steps: int = 8
    learning_rate: float = 5e-4
    gamma: float = 0.98
    tau: float = 0.01

    def __post_init__(self) -> None:
        for name in ("envs", "buffer_size", "minibatch", "gradient_steps"):
            check_range(f"sac.{name}", getattr(self, name), 1, 100_000_000)
        check_range("sac.warmup_steps", self.warmup_steps, 0, 10**12)
        check_range("sac.gamma", self.gamma, 0.0, 0.99999)
        check_range("sac.tau", self.tau, 1e-6, 1.0)
        check_range("sac.learning_rate", self.learning_rate, 1e-8, 1.0)


def make_learner(policy: Policy, env: Sb3VecEnv, config: SacConfig, adaptation: Adaptation) -> SAC:
    """Return stable-baselines3's SAC with our actor inside; see :class:`Algorithm`."""
    from stable_baselines3 import SAC

    from policykd.agents.training.sb3_sac import NormalizedFeatures, Sb3SacPolicy

    return SAC(
        Sb3SacPolicy,
        env,
        policy_kwargs={
            "network": policy,
            "net_arch": {"pi": list(policy.architecture.hidden), "qf": list(policy.architecture.critic_hidden)},
            "features_extractor_class": NormalizedFeatures,
            "features_extractor_kwargs": {"normalizer": policy.normalizer},
            "share_features_extractor": False,
        },
        learning_rate=adaptation,
        buffer_size=config.buffer_size,
        learning_starts=config.warmup_steps,
        batch_size=config.minibatch,
        gradient_steps=config.gradient_steps,
        gamma=config.gamma,
        tau=config.tau,
        device="cpu",
    )


ALGORITHM = Algorithm(config=SacConfig, make_learner=make_learner, squash=True, state=("log_ent_coef",))
