"""Collection of a quick merge: all skills in one environment, and labels after the rollout.

A joint environment steps all skills in one call. Where the student acts alone, labels are not needed while it acts:
each teacher labels all states of its skill in one forward pass afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from policykd.agents.acting import Acting, replay
from policykd.agents.networks import group_columns
from policykd.agents.policy import Policy
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.make import AnyEnv, make_env
from policykd.envs.randomization import Randomization
from policykd.errors import ConfigError
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.teachers import Teacher


@dataclass(frozen=True)
class FirstEpisodes:
    """The first episode of every simulation of one skill, n of them.

    Attributes:
        reward_per_step: (n,) its reward over the steps of a whole episode: steps after an early end count as 0.
        success: (n,) whether it ended without a fall and within the task's goal.
    """

    reward_per_step: torch.Tensor
    success: torch.Tensor


@dataclass(frozen=True)
class Collected:
    """One round's labeled states and first episodes of one skill."""

    rollout: LabeledRollout
    episodes: FirstEpisodes


def check_shared(teachers: Sequence[Teacher]) -> None:
    """Raise ConfigError unless simulations of all skills can be in one environment, with rewards in [0, 1]."""
    for teacher in teachers:
        if isinstance(teacher.skill, GymSkill) or not teacher.skill.task.bounded:
            raise ConfigError(
                f"merge.stop is confirmed, but {teacher.skill.id} cannot share its simulations with other skills; set "
                f"merge.stop=validations (without --preset fast)"
            )


def make_joint(
    teachers: Sequence[Teacher],
    counts: Sequence[int],
    *,
    tracks: int,
    seed: int,
    threads: int | None,
    randomization: Randomization,
) -> AnyEnv:
    """Return simulations of all skills in one environment, skill after skill.

    Args:
        teachers: one per skill.
        counts: simulations of every skill.
        tracks: tracks per skill that episodes are drawn from, spread over its simulations.
        seed: seed of tracks, initial states and random physics.
        threads: threads of the simulation; None for one per usable core.
        randomization: random physics and sensors.
    """
    skills = [t.skill for t, count in zip(teachers, counts, strict=True) for _ in range(count)]
    config = EnvConfig(tracks=tracks, randomization=randomization)
    return make_env(skills, len(skills), seed=seed, config=config, threads=threads)


@torch.no_grad()
def collect_jointly(
    teachers: Sequence[Teacher],
    env: AnyEnv,
    counts: Sequence[int],
    student: Policy,
    *,
    experts_act: bool,
    noise: float,
    generator: torch.Generator,
) -> list[Collected]:
    """Run one episode length in every simulation, all acted by the experts or all by the student, and label all states.

    Args:
        teachers: one per skill.
        env: simulations of all skills from :func:`make_joint`.
        counts: simulations of every skill.
        student: the student.
        experts_act: whether each skill's expert acts; otherwise the student does.
        noise: standard deviation of the Gaussian noise on executed actions, units of the action. Labels have none.
        generator: source of the noise.

    Returns:
        Labeled states and first episodes per skill.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    parts = [slice(sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts))]
    record, columns = _Record(env, parts), env.skill.columns
    acting = [Acting(t.policy) for t in teachers] if experts_act else [Acting(student)]
    reads = parts if experts_act else [slice(None)]
    for _ in range(env.skill.episode_steps):
        flat = record.flat
        actions = [one(one.policy.select(flat[rows], columns)) for one, rows in zip(acting, reads, strict=True)]
        action = torch.cat(actions).clamp(-1.0, 1.0) if experts_act else actions[0]
        ended = record.step(action + noise * torch.randn(action.shape, generator=generator))
        for one, rows in zip(acting, reads, strict=True):
            one.forget(ended[rows])
    env.check_overflow()
    return [record.labeled(teacher, rows, student, experts_act) for teacher, rows in zip(teachers, parts, strict=True)]


class _Record:
    """The steps of all simulations.

    Attributes:
        flat: (n, features) observations now.
    """

    def __init__(self, env: AnyEnv, parts: Sequence[slice]) -> None:
        self._env, self._parts, n = env, parts, env.num_envs
        self.flat = torch.cat(list(env.reset().values()), dim=-1)
        steps = env.skill.episode_steps
        self._seen = self.flat.new_empty(steps, n, self.flat.shape[1])
        self._rewards = self.flat.new_empty(steps, n)
        self._terminated, self._truncated = (torch.zeros(steps, n, dtype=torch.bool) for _ in range(2))
        self._late: list[tuple[int, torch.Tensor, torch.Tensor]] = []  # step, simulations, their last states
        self._open = torch.ones(n, dtype=torch.bool)
        self._total, self._success = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.bool)
        self._t = 0

    def step(self, action: torch.Tensor) -> torch.Tensor:
        """Execute actions (n, actions), and return (n,) whether an episode ended."""
        step, t = self._env.step(action), self._t
        self._seen[t], self._rewards[t] = self.flat, step.reward
        self._terminated[t], self._truncated[t] = step.terminated, step.truncated
        e = step.episodes
        if len(e.ids):
            late = step.truncated[e.ids]
            self._late.append((t, e.ids[late], step.final_flat[late]))
            first = self._open[e.ids]
            ids = e.ids[first]
            self._total[ids], self._success[ids] = e.total_reward[first].double(), e.success[first]
            self._open[ids] = False
        self.flat, self._t = step.flat, t + 1
        return step.terminated | step.truncated

    def labeled(self, teacher: Teacher, rows: slice, student: Policy, experts_acted: bool) -> Collected:
        """Return the labeled states and first episodes of one skill, whose simulations are ``rows``."""
        columns, policy = self._env.skill.columns, teacher.policy
        flat = self._seen[:, rows].flatten(0, 1)
        terminated, truncated = self._terminated[:, rows].contiguous(), self._truncated[:, rows].contiguous()
        read = policy.select(flat, columns)
        labels = replay(policy, read, terminated | truncated).clamp(-1.0, 1.0)
        values, distances = teacher.assess(read, group_columns(policy.groups))
        final_rows, final = self._ends(rows)
        rollout = LabeledRollout(
            observations=student.select(flat, columns),
            labels=labels,
            rewards=self._rewards[:, rows].contiguous(),
            terminated=terminated,
            truncated=truncated,
            student_acted=torch.full_like(terminated, not experts_acted),
            final_rows=final_rows,
            final_observations=student.select(final, columns),
            teacher_values=values,
            distances=distances,
        )
        steps = self._env.skill.episode_steps
        return Collected(rollout, FirstEpisodes(self._total[rows] / steps, self._success[rows]))

    def _ends(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows whose next state is not the next row of the rollout, and these states; see LabeledRollout."""
        count, found, states = rows.stop - rows.start, [], []
        running = torch.nonzero(~(self._terminated[-1] | self._truncated[-1])).squeeze(1)
        for t, ids, last in [*self._late, (self._t - 1, running, self.flat[running])]:
            mine = (ids >= rows.start) & (ids < rows.stop)
            found.append(t * count + ids[mine] - rows.start)
            states.append(last[mine])
        return torch.cat(found), torch.cat(states)
