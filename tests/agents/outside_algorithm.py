"""Advantage actor-critic as another package would add it: one module with settings and a record."""

from dataclasses import dataclass

from policykd.agents.training import Adaptation, Algorithm


@dataclass(frozen=True)
class A2cConfig:
    envs: int = 8
    gamma: float = 0.9
    rollout_steps: int = 8
    learning_rate: float = 1e-3


def make_learner(policy, env, config, adaptation):
    from stable_baselines3 import A2C

    from policykd.agents.training.sb3_policy import Sb3Policy

    return A2C(
        Sb3Policy,
        env,
        policy_kwargs={"network": policy},
        learning_rate=adaptation,
        n_steps=config.rollout_steps,
        gamma=config.gamma,
        use_rms_prop=False,
        device="cpu",
    )


ALGORITHM = Algorithm(config=A2cConfig, make_learner=make_learner, symmetric=True)
FALLING = Algorithm(
    config=A2cConfig, make_learner=make_learner, make_adaptation=lambda config: Falling(config.learning_rate)
)


class Falling(Adaptation):
    """Halves the step size after every update."""

    def adapt(self, divergence, spent):
        self.value /= 2
