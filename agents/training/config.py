"""Configuration of expert training. Defaults were chosen by measurement on the planar biped; see docs/training.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from policykd.agents.architecture import Architecture
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.threads import cores_for

if TYPE_CHECKING:
    from policykd.envs.terrains import Terrain

FINAL_EPISODES = 256
"""Episodes of the validation that decides between the finalists."""


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
        low, high = self.learning_rate_range
        check_range("ppo.learning_rate_range", low, 0.0, high)
        if (self.envs * self.rollout_steps) % self.minibatch:
            raise ConfigError(
                f"ppo.minibatch is {self.minibatch}; it must divide envs * rollout_steps = "
                f"{self.envs * self.rollout_steps}"
            )


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
        check_range("sac.gamma", self.gamma, 0.0, 0.99999)
        check_range("sac.tau", self.tau, 1e-6, 1.0)
        check_range("sac.learning_rate", self.learning_rate, 1e-8, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        algorithm: ``ppo`` or ``sac``.
        steps: budget, environment steps over all simulations.
        seed: seed of weights, tracks, resets and exploration.
        target_success: stop early once the validation success of the deterministic policy reaches this in
            ``patience`` validations in a row; above 1 never.
        target_reward: reward per step that those validations must reach, too.
        patience: validations in a row that must reach the targets.
        curriculum: begin on easy tracks and raise their difficulty with the training success; validation is always at
            the skill's own difficulty.
        start_level: difficulty at which the curriculum begins, as a share of the skill's own; None for what suits the
            terrain (see ``register_terrain``).
        raise_above: share of the last 100 training episodes that must succeed for the curriculum to become harder by a
            twenty-fifth.
        review_steps: environment steps between two of its decisions; up to the length of a rollout it decides after
            every one. Then easier episodes still count after the level was raised, which is quick, but a level may
            come too early: where standing pays, too, as in ``imitate``, the gait may be given up there.
        averaging_steps: time constant of the moving average of the weights that is validated and saved, environment
            steps, never more than a tenth of the steps so far; 0 takes the weights as they are.
        symmetric: make the policy treat left and right alike, where its observation groups allow (PPO only; SAC's
            networks are stable-baselines3's own).
        segment_steps: environment steps between two validations and checkpoints. Every segment has its own random
            stream, so that on the CPU a resumed run equals an uninterrupted one.
        validation_episodes: episodes of a validation, on tracks that training never sees.
        finalists: where the budget ends before the targets are reached, this many of the best validated weights are
            measured again, on ``FINAL_EPISODES`` other tracks, and the best of them are saved: the best of thirty
            validations was mostly lucky. 1 takes the best validation's.
        threads: threads of the simulation; None for one per usable core. Networks are trained on one.
        device: ``cpu``, ``cuda``, or ``auto`` for ``cuda`` where nothing is missing. On a CUDA device PPO is our own
            (:mod:`policykd.agents.training.device_ppo`); give it thousands of simulations (``ppo.envs``), and
            segments of many of their rollouts (``segment_steps``).
        architecture: networks of a new policy.
        ppo: settings of PPO.
        sac: settings of SAC.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown algorithm.
    """

    algorithm: Literal["ppo", "sac"] = "ppo"
    steps: int = 3_000_000
    seed: int = 0
    target_success: float = 0.98
    target_reward: float = 0.0
    patience: int = 2
    curriculum: bool = True
    start_level: float | None = None
    raise_above: float = 0.4
    review_steps: int = 1
    averaging_steps: int = 100_000
    symmetric: bool = True
    segment_steps: int = 98_304
    validation_episodes: int = 64
    finalists: int = 4
    threads: int | None = None
    device: str = "cpu"
    architecture: Architecture = field(default_factory=Architecture)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    sac: SacConfig = field(default_factory=SacConfig)

    def __post_init__(self) -> None:
        if self.algorithm not in ("ppo", "sac"):
            raise UnknownNameError("algorithm", self.algorithm, ("ppo", "sac"))
        check_range("steps", self.steps, 1, 10**12)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("target_success", self.target_success, 0.0, 2.0)
        if self.start_level is not None:
            check_range("start_level", self.start_level, 0.01, 1.0)
        check_range("raise_above", self.raise_above, 0.0, 1.0)
        check_range("review_steps", self.review_steps, 1, 10**9)
        check_range("averaging_steps", self.averaging_steps, 0, 10**12)
        check_range("patience", self.patience, 1, 1000)
        check_range("segment_steps", self.segment_steps, 1, 10**9)
        check_range("validation_episodes", self.validation_episodes, 1, 100_000)
        check_range("finalists", self.finalists, 1, 100)
        cores_for(self.threads)

    @property
    def envs(self) -> int:
        """Simulations of the chosen algorithm."""
        return self.ppo.envs if self.algorithm == "ppo" else self.sac.envs

    @property
    def gamma(self) -> float:
        """Discount factor of the chosen algorithm."""
        return self.ppo.gamma if self.algorithm == "ppo" else self.sac.gamma


def start_level(config: TrainConfig, terrains: Sequence[Terrain]) -> float:
    """Where the curriculum of a run begins: the configured level, or the highest that suits one of the terrains."""
    if config.start_level is not None:
        return config.start_level
    return max(terrain.kind.start_level for terrain in terrains)
