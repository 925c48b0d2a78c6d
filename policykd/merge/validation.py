"""Validation: how well teachers and student do on tracks that no state was collected on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policykd.agents.policy import Policy
from policykd.agents.rollout import EpisodeOutcomes, run_episodes
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.teachers import Teacher
from policykd.seeding import integer_seed

_SUCCESS_TOLERANCE = 0.05


@dataclass(frozen=True)
class Score:
    """A student's validation, by skill id.

    Attributes:
        success: share of episodes without a fall.
        reward_per_step: mean reward per step of a whole episode.
        retention: that reward over the teacher's.
        lacking: the teacher's success less the student's.
    """

    success: dict[str, float]
    reward_per_step: dict[str, float]
    retention: dict[str, float]
    lacking: dict[str, float]

    @property
    def gaps(self) -> list[float]:
        """Per skill, what reward and success lack to the teacher's, >= 0."""
        return [max(0.0, 1.0 - self.retention[i]) + max(0.0, self.lacking[i]) for i in self.retention]

    @property
    def value(self) -> float:
        """One number to choose the best student by: the least retention, less the largest lack of success."""
        return min(self.retention.values()) - max(0.0, *self.lacking.values())

    def holds(self, retention: float) -> bool:
        """Whether every skill keeps this retention, and success to 0.05."""
        return min(self.retention.values()) >= retention and max(self.lacking.values()) <= _SUCCESS_TOLERANCE


class Validation:
    """The teachers' validation, done once, and the student's, in comparison.

    Args:
        teachers: who labels which skill.
        config: episodes, seed and threads.

    Raises:
        ConfigError: if a teacher's success is below ``config.min_teacher_success``.
    """

    def __init__(self, teachers: Sequence[Teacher], config: MergeConfig) -> None:
        self._config, self._ids = config, [t.skill.id for t in teachers]
        ordered = EnvConfig(tracks=config.validation_episodes, ordered=True)
        seed = integer_seed(config.seed, "validation")
        count, threads = config.validation_episodes, config.threads
        self._envs = [
            BatchedEnv([t.skill], count, seed=seed, config=ordered, threads=threads, device=config.device)
            for t in teachers
        ]
        self._experts = [self._run(t.policy, env) for t, env in zip(teachers, self._envs, strict=True)]
        self._check(teachers)

    def _run(self, policy: Policy, env: BatchedEnv) -> EpisodeOutcomes:
        env.seed(integer_seed(self._config.seed, "validation"))
        return run_episodes(policy, env)

    def _check(self, teachers: Sequence[Teacher]) -> None:
        least = self._config.min_teacher_success
        success = [float(e.success.double().mean()) for e in self._experts]
        poor = [f"{t.source} {s:.2f} on {t.skill.id}" for t, s in zip(teachers, success, strict=True) if s < least]
        if poor:
            raise ConfigError(
                f"merge.min_teacher_success is {least:g}; validation success is {', '.join(poor)}: train longer, or "
                f"merge all the same with --min-teacher-success 0"
            )

    def measure(self, student: Policy) -> Score:
        """Validation of the student on every skill."""
        outcomes = [self._run(student, env) for env in self._envs]
        success = {i: float(o.success.double().mean()) for i, o in zip(self._ids, outcomes, strict=True)}
        reward = {i: float(o.reward_per_step.mean()) for i, o in zip(self._ids, outcomes, strict=True)}
        expert = {i: float(o.reward_per_step.mean()) for i, o in zip(self._ids, self._experts, strict=True)}
        lacking = {
            i: float(e.success.double().mean()) - success[i] for i, e in zip(self._ids, self._experts, strict=True)
        }
        return Score(success, reward, {i: reward[i] / max(expert[i], 1e-9) for i in self._ids}, lacking)
