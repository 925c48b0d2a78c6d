"""Collection on a CUDA device: all skills in one environment that steps with masks, so that no step waits.

What is collected is what :mod:`policykd.merge.collect` collects. Departures: every skill has the same number of
simulations (the shares of the skills still count in the minibatches), and later episodes begin from a pool of starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from policykd.agents.networks import group_columns
from policykd.agents.policy import Policy
from policykd.envs.capture import Captured, Recorder, recorder_for
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.merge.collect import ActionNoise, Mixing
from policykd.merge.config import MergeConfig
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.labeling import Labeler
from policykd.merge.teachers import Teacher
from policykd.seeding import integer_seed

if TYPE_CHECKING:
    from policykd.envs.masked_env import MaskedEnv


def make_joint_env(teachers: Sequence[Teacher], config: MergeConfig) -> MaskedEnv | None:
    """Return simulations of all teachers' skills in one environment; None where they do not step with masks."""
    from policykd.envs.masked_env import MaskedEnv  # needs MuJoCo, which gymnasium environments may not

    made = make_env(
        [teacher.skill for teacher in teachers],
        config.envs * len(teachers),
        seed=integer_seed(config.seed, "collection"),
        config=EnvConfig(randomization=config.randomization),
        threads=config.threads,
        device=config.device,
    )
    return made if isinstance(made, MaskedEnv) else None


@torch.no_grad()
def collect_masked(
    teachers: Sequence[Teacher],
    env: MaskedEnv,
    student: Policy,
    noises: Sequence[ActionNoise],
    generator: torch.Generator,
    *,
    beta: float,
    mixing: Mixing,
    labeler: Labeler,
    record: Recorder | None = None,
) -> list[LabeledRollout]:
    """Run one episode length in every simulation from fresh resets, and label every state.

    Args:
        teachers: one per skill of the environment, in its order.
        env: simulations of the skills, a multiple of their number, seeded by the caller.
        student: acts where the expert does not.
        noises: noise on executed actions, per skill.
        generator: source of the draws, on the environment's device.
        beta: probability that the expert acts, in [0, 1].
        mixing: whether that is drawn per episode or per step.
        labeler: labels the states of the skills.
        record: recorder of the steps; None for that of the device.

    Returns:
        The labeled states of each skill.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    labeler.begin()
    steps = _Steps(env, student, noises, generator, beta, mixing, labeler)
    recurrent = any(teacher.policy.recurrent for teacher in teachers)  # their memory is replaced in every step
    record = None if recurrent else record or recorder_for(env.device)
    act, store = Captured(steps.act, record, [generator]), Captured(steps.store, record, [env.picker, generator])
    for _ in range(env.skill.episode_steps):
        act()
        env.advance()
        store()
    env.check_overflow()
    return [steps.rollout(i, teacher) for i, teacher in enumerate(teachers)]


class _Steps:
    """The two parts of a step around the physics, pure functions over static tensors, and the memory of all steps."""

    def __init__(
        self,
        env: MaskedEnv,
        student: Policy,
        noises: Sequence[ActionNoise],
        generator: torch.Generator,
        beta: float,
        mixing: Mixing,
        labeler: Labeler,
    ) -> None:
        self._env, self._student, self._noises, self._generator = env, student, noises, generator
        self._beta, self._mixing, self._labeler = beta, mixing, labeler
        self._columns, self._skills = env.skill.columns, len(env.skills)
        self._flat = torch.cat(list(env.reset().values()), dim=-1)
        n, features = self._flat.shape
        steps, like = env.skill.episode_steps, self._flat
        self._seen, self._last = (like.new_empty(steps, n, features) for _ in range(2))
        self._labels = like.new_empty(steps, n, env.num_actions)
        self._rewards = like.new_empty(steps, n)
        self._terminated, self._truncated, self._student_acted = (
            torch.empty(steps, n, dtype=torch.bool, device=env.device) for _ in range(3)
        )
        self._acting, self._ended = self._draw(), torch.zeros(n, dtype=torch.bool, device=env.device)
        self._row = torch.zeros(1, dtype=torch.long, device=env.device)

    def _draw(self) -> torch.Tensor:
        source = self._generator
        return torch.rand(self._env.num_envs, generator=source, device=source.device) < self._beta

    def _of(self, i: int) -> slice:
        """Return the simulations of skill i."""
        return slice(i, None, self._skills)

    def act(self) -> None:
        """Label the present states and give the environment the actions of expert or student, with noise."""
        flat = self._flat
        labels, noise = (flat.new_empty(len(flat), self._env.num_actions) for _ in range(2))
        parts = self._labeler([flat[self._of(i)] for i in range(self._skills)])
        for i, part in enumerate(parts):
            labels[self._of(i)] = part
            noise[self._of(i)] = self._noises[i].draw(len(part), part.shape[1], self._generator)
        action = torch.where(self._acting[:, None], labels, self._student(self._student.select(flat, self._columns)))
        self._put(self._seen, flat)
        self._put(self._labels, labels)
        self._put(self._student_acted, ~self._acting)
        self._env.aim(action + noise)

    def store(self) -> None:
        """Store what came of the actions, and draw who acts next."""
        step = self._env.conclude()
        rows = ((self._rewards, step.outcome.reward), (self._terminated, step.outcome.terminated),
                (self._truncated, step.outcome.truncated), (self._last, step.final_flat))  # fmt: skip
        for memory, row in rows:
            self._put(memory, row)
        self._ended.copy_(step.ended)
        for i in range(self._skills):
            self._labeler.forget(i, step.ended[self._of(i)])
        drawn = self._draw()
        self._acting.copy_(drawn if self._mixing == "step" else torch.where(self._ended, drawn, self._acting))
        self._flat.copy_(step.flat)
        self._row += 1

    def _put(self, memory: torch.Tensor, row: torch.Tensor) -> None:
        memory.index_copy_(0, self._row, row[None])

    def rollout(self, i: int, teacher: Teacher) -> LabeledRollout:
        """Return the labeled states of skill i; this waits for the device."""
        seen, last, truncated = (part[:, self._of(i)] for part in (self._seen, self._last, self._truncated))
        cut = truncated.clone()
        cut[-1] |= ~self._ended[self._of(i)]  # still running when the rollout ended
        flat = seen.flatten(0, 1)
        student, groups = self._student, teacher.policy.groups
        observations = student.select(flat, self._columns)
        values, distances = teacher.assess(teacher.policy.select(flat, self._columns), group_columns(groups))
        return LabeledRollout(
            observations=observations,
            labels=self._labels[:, self._of(i)].flatten(0, 1),
            rewards=self._rewards[:, self._of(i)].contiguous(),
            terminated=self._terminated[:, self._of(i)].contiguous(),
            truncated=truncated.contiguous(),
            student_acted=self._student_acted[:, self._of(i)].contiguous(),
            final_rows=cut.flatten().nonzero().squeeze(1),
            final_observations=student.select(last[cut], self._columns),
            teacher_values=values,
            distances=distances,
        )
