"""Collection: a mixture of expert and student acts, the expert labels every state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.merge.labeling import Labeler
from policykd.merge.noise import ActionNoise
from policykd.merge.rollout import LabeledRollout
from policykd.merge.teachers import Teacher


@dataclass(frozen=True)
class Walk:
    """Where and how one skill's states are collected.

    Attributes:
        teacher: who labels, and acts in its share.
        env: simulations of the teacher's skill, seeded by the caller.
        noise: noise on executed actions.
        generator: source of the draws, on the simulation's device.
    """

    teacher: Teacher
    env: BatchedEnv
    noise: ActionNoise
    generator: torch.Generator


@torch.no_grad()
def collect(
    walks: Sequence[Walk],
    student: Policy,
    *,
    beta: float,
    mixing: Literal["episode", "step"],
    labeler: Labeler | None = None,
) -> list[LabeledRollout]:
    """Run one episode length in every simulation of every skill from fresh resets, and label every state.

    The skills advance together, so that their teachers can be evaluated in one forward; what one skill does has no
    influence on another.

    Args:
        walks: the skills.
        student: who acts where the expert does not.
        beta: probability that the expert acts, in [0, 1].
        mixing: whether that is drawn per episode or per step.
        labeler: who labels the walks' states, in their order; None for teacher by teacher.

    Returns:
        The labeled states of each skill.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    labeler = labeler or Labeler([w.teacher for w in walks], batched=False)
    recorders = [_Recorder(walk, student, beta, mixing) for walk in walks]
    for _ in range(walks[0].env.skill.episode_steps):
        for recorder, labels in zip(recorders, labeler([r.groups for r in recorders]), strict=True):
            recorder.step(labels)
    return [recorder.rollout() for recorder in recorders]


class _Recorder:
    """One skill's rollout in the making."""

    def __init__(self, walk: Walk, student: Policy, beta: float, mixing: Literal["episode", "step"]) -> None:
        self._walk, self._student, self._beta, self._mixing = walk, student, beta, mixing
        self._rows: dict[str, list[torch.Tensor]] = {name: [] for name in _PER_STEP}
        self._final_rows: list[torch.Tensor] = []
        self._final_observations: list[torch.Tensor] = []
        self._steps = 0
        self.groups = walk.env.reset()
        self._expert_acts = self._draw()
        self._ended = torch.zeros_like(self._expert_acts)

    def _draw(self) -> torch.Tensor:
        source = self._walk.generator
        return torch.rand(self._walk.env.num_envs, generator=source, device=source.device) < self._beta

    def step(self, labels: torch.Tensor) -> None:
        """Act in the states ``groups``, whose labels (n, actions) these are."""
        walk, acting, n = self._walk, self._expert_acts, self._walk.env.num_envs
        flat = self._student.flatten(self.groups)
        action = torch.where(acting[:, None], labels, self._student(flat))
        step = walk.env.step(action + walk.noise.draw(n, action.shape[1], walk.generator))
        values = (flat, labels, step.reward, step.terminated, step.truncated, ~acting)
        for name, value in zip(_PER_STEP, values, strict=True):
            self._rows[name].append(value)
        late = step.truncated[step.episodes.ids]
        self._final_rows.append(self._steps * n + step.episodes.ids[late])
        self._final_observations.append(self._student.flatten(step.final_observations)[late])
        self.groups, self._ended = step.observations, step.terminated | step.truncated
        self._expert_acts = self._draw() if self._mixing == "step" else torch.where(self._ended, self._draw(), acting)
        self._steps += 1

    def rollout(self) -> LabeledRollout:
        """Everything recorded."""
        n = self._walk.env.num_envs
        self._walk.env.engine.check_overflow()
        running = torch.nonzero(~self._ended).squeeze(1)
        self._final_rows.append((self._steps - 1) * n + running)
        self._final_observations.append(self._student.flatten(self.groups)[running])
        flat_rows = {name: torch.cat(self._rows.pop(name)) for name in ("observations", "labels")}
        values, distances = self._walk.teacher.look(flat_rows["observations"], self._student.groups)
        return LabeledRollout(
            **flat_rows,
            **{name: torch.stack(values) for name, values in self._rows.items()},
            final_rows=torch.cat(self._final_rows),
            final_observations=torch.cat(self._final_observations),
            teacher_values=values,
            distances=distances,
        )


_PER_STEP = ("observations", "labels", "rewards", "terminated", "truncated", "student_acted")
