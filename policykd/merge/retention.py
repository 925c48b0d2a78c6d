"""Retention: a student's success and reward on validation tracks, compared with those of its teachers.

It uses the validation that training uses, and trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from policykd.agents.acting import Acting
from policykd.agents.episodes import EpisodeOutcomes, run_actions, run_episodes
from policykd.agents.policy import Policy
from policykd.agents.validation import Validation
from policykd.envs.devices import is_card
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.teachers import Teacher
from policykd.parallel import Processes
from policykd.seeding import integer_seed

_SUCCESS_TOLERANCE = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Score:
    """A student's validation, by skill id.

    Attributes:
        success: share of episodes without a fall.
        reward_per_step: mean reward per step of a whole episode.
        retention: that reward over the teacher's, both less that of random actions where rewards are not in [0, 1].
        shortfall: the teacher's success less the student's.
    """

    success: dict[str, float]
    reward_per_step: dict[str, float]
    retention: dict[str, float]
    shortfall: dict[str, float]

    @property
    def gaps(self) -> list[float]:
        """Per skill, the deficit in reward and success to the teacher's, >= 0."""
        return [max(0.0, 1.0 - self.retention[i]) + max(0.0, self.shortfall[i]) for i in self.retention]

    @property
    def value(self) -> float:
        """Criterion of the best student: the least retention, less the largest shortfall of success."""
        return min(self.retention.values()) - max(0.0, *self.shortfall.values())

    def holds(self, retention: float) -> bool:
        """Return whether every skill keeps this retention, and success to 0.05."""
        return min(self.retention.values()) >= retention and max(self.shortfall.values()) <= _SUCCESS_TOLERANCE


class StudentValidation:
    """Validation of a student against its teachers, which are validated once.

    Args:
        teachers: one per skill.
        config: episodes, seed, threads and device.
        attempt: number of a confirming test, each of which has tracks of its own; None for the tracks of validations.
        group: processes that share the skills.

    Raises:
        ConfigError: if a teacher's success is below ``config.min_teacher_success``, or, unless that is 0, its reward
            is not above that of random actions where these are the reference.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        config: MergeConfig,
        *,
        attempt: int | None = None,
        group: Processes = Processes(),
    ) -> None:
        self._ids = [t.skill.id for t in teachers]
        seed = integer_seed(config.seed, *(("validation",) if attempt is None else ("confirmation", attempt)))
        joint = is_card(config.device) or attempt is not None
        self._episodes: _Separate | JointEpisodes = (
            JointEpisodes(teachers, config, seed) if joint else _Separate(teachers, config, seed, group)
        )
        self._success, self._reward = self._means(self._episodes.of_teachers())
        self._floor = dict(zip(self._ids, self._episodes.floors(), strict=True))
        _check_success(teachers, self._success, config.min_teacher_success)
        if config.min_teacher_success > 0:
            _check_reward(teachers, self._reward, self._floor)

    def _means(self, outcomes: Sequence[EpisodeOutcomes]) -> tuple[dict[str, float], dict[str, float]]:
        """Return success and reward per step by skill id."""
        success = {i: float(o.success.double().mean()) for i, o in zip(self._ids, outcomes, strict=True)}
        return success, {i: float(o.reward_per_step.mean()) for i, o in zip(self._ids, outcomes, strict=True)}

    def measure(self, student: Policy) -> Score:
        """Validate the student on every skill."""
        success, reward = self._means(self._episodes.of(student))
        shortfall = {i: self._success[i] - success[i] for i in self._ids}
        retention = {i: (reward[i] - self._floor[i]) / max(self._reward[i] - self._floor[i], 1e-9) for i in self._ids}
        return Score(success, reward, retention, shortfall)


class _Separate:
    """Validations of one skill after the other, or of this process's skills."""

    def __init__(
        self, teachers: Sequence[Teacher], config: MergeConfig, seed: int, group: Processes = Processes()
    ) -> None:
        self._teachers, self._group, threads = teachers, group, group.threads(config.threads)
        self._validations: dict[int, Validation] = {}

        def make() -> None:
            for i in group.mine(len(teachers)):
                self._validations[i] = Validation(
                    [teachers[i].skill], config.validation_episodes, seed=seed, threads=threads, device=config.device
                )

        group.gather(make)

    def of_teachers(self) -> list[EpisodeOutcomes]:
        """Return the outcomes of every teacher on its skill."""
        return self._each(lambda i: self._validations[i].run(self._teachers[i].policy))

    def of(self, student: Policy) -> list[EpisodeOutcomes]:
        """Return the outcomes of a student on every skill."""
        return self._each(lambda i: self._validations[i].run(student))

    def floors(self) -> list[float]:
        """Return the reward per step of random actions on every skill; 0 where rewards are in [0, 1]."""
        return self._each(
            lambda i: (
                0.0
                if self._teachers[i].skill.task.bounded
                else float(self._validations[i].run_random().reward_per_step.mean())
            )
        )

    def _each(self, run: Callable[[int], T]) -> list[T]:
        return self._group.each(len(self._teachers), run)


class JointEpisodes:
    """Validations of all skills in one environment: on a CUDA device they take as long as those of one.

    Args:
        teachers: one per skill.
        config: episodes per skill, threads and device.
        seed: seed of tracks and initial states.
    """

    def __init__(self, teachers: Sequence[Teacher], config: MergeConfig, seed: int) -> None:
        self._teachers, self._seed = teachers, seed
        count, self._skills = config.validation_episodes, len(teachers)
        settings = EnvConfig(tracks=count, ordered=True)
        skills = [t.skill for t in teachers]
        self._env = make_env(
            skills, count * self._skills, seed=self._seed, config=settings, threads=config.threads, device=config.device
        )

    def of_teachers(self) -> list[EpisodeOutcomes]:
        """Return the outcomes of every teacher on its skill."""
        acting, columns = [Acting(t.policy) for t in self._teachers], self._env.skill.columns

        def act(flat: torch.Tensor) -> torch.Tensor:
            actions = flat.new_empty(len(flat), self._env.num_actions)
            for i, one in enumerate(acting):
                actions[self._of(i)] = one(one.policy.select(flat[self._of(i)], columns))
            return actions

        def forget(ended: torch.Tensor) -> None:
            for i, one in enumerate(acting):
                one.forget(ended[self._of(i)])

        replayable = not any(one.policy.recurrent for one in acting)
        self._env.seed(self._seed)
        return self._split(run_actions(act, self._env, forget, replayable=replayable))

    def of(self, student: Policy) -> list[EpisodeOutcomes]:
        """Return the outcomes of a student on every skill."""
        self._env.seed(self._seed)
        return self._split(run_episodes(student, self._env))

    def floors(self) -> list[float]:
        """Return 0 for every skill: rewards of environments that skills share are in [0, 1]."""
        return [0.0] * self._skills

    def _of(self, i: int) -> slice:
        return slice(i, None, self._skills)

    def _split(self, found: EpisodeOutcomes) -> list[EpisodeOutcomes]:
        return [
            EpisodeOutcomes(
                found.total_reward[rows], found.length[rows], found.distance[rows], found.success[rows],
                found.episode_steps,
            )
            for rows in map(self._of, range(self._skills))
        ]  # fmt: skip


def _check_reward(teachers: Sequence[Teacher], reward: dict[str, float], floor: dict[str, float]) -> None:
    """Raise unless every teacher earns more than random actions where these are the reference."""
    for teacher in teachers:
        own, random = (values[teacher.skill.id] * teacher.skill.episode_steps for values in (reward, floor))
        if not teacher.skill.task.bounded and own <= random:
            raise ConfigError(
                f"{teacher.source} scores {own:.4g} on {teacher.skill.id}, random actions {random:.4g}: it does not "
                f"work there (another version of the environment, a missing wrapper or normalizer?)"
            )


def _check_success(teachers: Sequence[Teacher], success: dict[str, float], least: float) -> None:
    poor = [f"{t.source} {success[t.skill.id]:.2f} on {t.skill.id}" for t in teachers if success[t.skill.id] < least]
    if poor:
        raise ConfigError(
            f"merge.min_teacher_success is {least:g}; validation success is {', '.join(poor)}: train longer, or merge "
            f"them regardless with --min-teacher-success 0"
        )
