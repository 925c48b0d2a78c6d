"""Configuration of expert training. Defaults were chosen by measurement on the planar biped; see docs/training.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from policykd.agents.architecture import Architecture
from policykd.agents.training.algorithm import Algorithm, AlgorithmConfig
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.algorithms.sac import SacConfig
from policykd.envs.randomization import OFF, Randomization
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import added, from_plain
from policykd.threads import cores_for

if TYPE_CHECKING:
    from policykd.envs.terrains import Terrain

__all__ = ["FINAL_EPISODES", "PpoConfig", "SacConfig", "TrainConfig", "start_level"]

FINAL_EPISODES = 256
"""Episodes of the validation that decides between the finalists."""


LEVELS = ("shared", "own")
"""Choices of :attr:`TrainConfig.levels`."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        algorithm: name of the algorithm, ``ppo`` or ``sac``, or ``package.module:ALGORITHM`` for one of another
            package; see :mod:`policykd.agents.training.algorithms`.
        steps: budget, environment steps over all simulations.
        seed: seed of weights, tracks, resets and exploration.
        target_success: stop early once the validation success of the deterministic policy reaches this in
            ``patience`` validations in a row; set above 1 to disable early stopping.
        target_reward: reward per step that those validations must reach as well.
        patience: validations in a row that must reach the targets.
        extension: share of the budget by which a training goes on at most while no validation has reached
            ``extend_below``, or the reward rises by ``extend_rise``: some draws of weights and tracks find their gait
            late. Step size and noise stay as they are at the end of the budget.
        extend_below: validation success that ends an extension.
        extend_rise: rise of the last validation's reward over the best one before, as a share of it, above which an
            extension does not end; 0 ends it by its success alone.
        curriculum: begin on easy tracks and raise their difficulty with the training success; validation is always at
            the skill's own difficulty.
        start_level: difficulty at which the curriculum begins, as a share of the skill's own; None for the terrain's
            level (see ``register_terrain``).
        raise_above: share of the last 100 training episodes that must succeed for the curriculum to become harder by
            ``level_step``.
        review_steps: environment steps between two of its decisions; up to the length of a rollout it decides after
            every rollout. Then easier episodes still count after the level was raised, which is fast, but a level may
            come too early: where standing is rewarded, as in ``imitate``, the policy may give up its gait there.
        levels: ``shared``, one level for all simulations, raised as above; or ``own``, a level for every simulation,
            which its own episodes raise and lower so that ``raise_above`` of them succeed. It is slower to rise and
            cannot outrun the policy, for terrains where a little more difficulty ends every episode.
        averaging_steps: time constant of the moving average of the weights that is validated and saved, environment
            steps, never more than a tenth of the steps so far; 0 disables averaging.
        symmetric: make the policy treat left and right alike, where its observation groups and the algorithm allow
            it (PPO does; SAC's networks are stable-baselines3's own).
        segment_steps: environment steps between two validations and checkpoints. Every segment has its own random
            stream, so that on the CPU a resumed run equals an uninterrupted one.
        validation_episodes: episodes of a validation, on tracks that training never sees.
        finalists: if the budget ends before the targets are reached, this many of the best validated weights are
            measured again, on ``FINAL_EPISODES`` other tracks, and the best of them are saved: the best of thirty
            validations was mostly lucky. 1 saves the weights of the best validation.
        threads: threads of the simulation; None for one per usable core. Networks are trained on one.
        device: ``cpu``, ``cuda``, or ``auto`` for ``cuda`` if nothing is missing. On a CUDA device PPO is our own
            (:mod:`policykd.agents.training.device_ppo`) and needs other settings
            (:mod:`policykd.agents.training.device_settings`), which the commands choose.
        architecture: networks of a new policy.
        ppo: settings of PPO.
        sac: settings of SAC.
        init_noise: exploration noise at the start of a training that begins from a policy, units of the action; None
            keeps the policy's own, which is small after a training.
        keep_init: whether the policy that a training starts from is validated first and is a candidate for the result,
            which is then never worse than its start.
        randomization: random physics and sensors of the training, on the CPU; validations have none of it.
        level_step: rise of the curriculum's level, as a share of the skill's own difficulty.
        settings: settings of any other algorithm: its configuration, or a mapping of the fields that differ from the
            defaults.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown algorithm.
    """

    algorithm: str = "ppo"
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
    init_noise: float | None = added(None)
    settings: Any = added(None)
    randomization: Randomization = added(OFF)
    levels: str = added("shared")
    extension: float = added(0.0)
    extend_below: float = added(0.95)
    extend_rise: float = added(0.0)
    keep_init: bool = added(False)
    level_step: float = added(0.04)

    def __post_init__(self) -> None:
        if ":" not in self.algorithm:  # a configuration may come from a file, and reading a file imports nothing
            _ = self.algorithm_config
        if self.levels not in LEVELS:
            raise UnknownNameError("levels", self.levels, LEVELS)
        check_range("steps", self.steps, 1, 10**12)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("target_success", self.target_success, 0.0, 2.0)
        check_range("extension", self.extension, 0.0, 100.0)
        check_range("extend_below", self.extend_below, 0.0, 1.0)
        check_range("extend_rise", self.extend_rise, 0.0, 100.0)
        check_range("target_reward", self.target_reward, -1e9, 1e9)
        if self.start_level is not None:
            check_range("start_level", self.start_level, 0.01, 1.0)
        if self.init_noise is not None:
            check_range("init_noise", self.init_noise, 1e-3, 10.0)
        own = self.levels == "own"
        check_range("raise_above", self.raise_above, 0.01 if own else 0.0, 0.99 if own else 1.0)
        check_range("level_step", self.level_step, 0.001, 1.0)
        check_range("review_steps", self.review_steps, 1, 10**9)
        check_range("averaging_steps", self.averaging_steps, 0, 10**12)
        check_range("patience", self.patience, 1, 1000)
        check_range("segment_steps", self.segment_steps, 1, 10**9)
        check_range("validation_episodes", self.validation_episodes, 1, 100_000)
        check_range("finalists", self.finalists, 1, 100)
        cores_for(self.threads)

    @property
    def algorithm_record(self) -> Algorithm:
        """The chosen algorithm.

        Raises:
            UnknownNameError: for an unknown algorithm, with close matches.
            ConfigError: for one of another package that cannot be imported.
        """
        return ALGORITHMS.resolve(self.algorithm)

    @property
    def algorithm_config(self) -> AlgorithmConfig:
        """Settings of the chosen algorithm: the field with its name, otherwise :attr:`settings`.

        Raises:
            ConfigError: for settings of an algorithm that has a field, or settings that are out of range.
            UnknownNameError: for a setting that the algorithm does not have.
        """
        kind, own = self.algorithm_record.config, getattr(self, self.algorithm, None)
        if not isinstance(own, kind):
            given = {} if self.settings is None else self.settings
            return given if isinstance(given, kind) else from_plain(kind, given, "settings")
        if self.settings is not None:
            raise ConfigError(f"settings are given, but {self.algorithm} reads the field {self.algorithm}; set that")
        return own

    @property
    def envs(self) -> int:
        """Simulations of the chosen algorithm."""
        return self.algorithm_config.envs

    @property
    def gamma(self) -> float:
        """Discount factor of the chosen algorithm."""
        return self.algorithm_config.gamma


def start_level(config: TrainConfig, terrains: Sequence[Terrain]) -> float:
    """Return the level at which a run's curriculum begins: the configured one, or the highest of its terrains."""
    if config.start_level is not None:
        return config.start_level
    return max(terrain.kind.start_level for terrain in terrains)
