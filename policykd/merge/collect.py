"""Collection: a mixture of expert and student acts, the expert labels every state."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch

from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.merge.teachers import Teacher


@dataclass
class LabelledRollout:
    """One round's states of one skill: T steps of n simulations, flattened in time order to rows ``t * n + i``.

    Attributes:
        observations: (T * n, features) what the student reads.
        labels: (T * n, actions) the expert's mean action as it would be executed: noise-free, within [-1, 1].
        rewards: (T, n) rewards in [0, 1].
        terminated: (T, n) whether the episode ended in a fall there.
        truncated: (T, n) whether it ran out of steps there.
        student_acted: (T, n) whether the student's action was executed.
        final_rows: (m,) rows whose next state is not the simulation's next row: episodes that ran out of steps, and
            those still running when the rollout ended.
        final_observations: (m, features) the state behind each of those rows.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    rewards: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    student_acted: torch.Tensor
    final_rows: torch.Tensor
    final_observations: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """The fields by name, as they are stored."""
        return {f.name: getattr(self, f.name).contiguous() for f in fields(self)}


@torch.no_grad()
def collect(
    teacher: Teacher,
    student: Policy,
    env: BatchedEnv,
    *,
    beta: float,
    mixing: Literal["episode", "step"],
    noise: float,
    generator: torch.Generator,
) -> LabelledRollout:
    """Run one episode length in every simulation from fresh resets, and label every state.

    Args:
        teacher: who labels, and acts in its share.
        student: who acts in the rest.
        env: simulations of the teacher's skill, seeded by the caller.
        beta: probability that the expert acts, in [0, 1].
        mixing: whether that is drawn per episode or per step.
        noise: standard deviation of the noise on executed actions.
        generator: source of the draws.

    Returns:
        The labelled states.
    """
    steps, n = env.skill.episode_steps, env.num_envs

    def draw() -> torch.Tensor:
        return torch.rand(n, generator=generator) < beta

    groups = env.reset()
    expert_acts = draw()
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in _PER_STEP}
    final_rows, final_observations = [], []
    for t in range(steps):
        flat, label = student.flatten(groups), teacher.policy(teacher.policy.flatten(groups)).clamp(-1.0, 1.0)
        action = torch.where(expert_acts[:, None], label, student(flat))
        step = env.step(action + noise * torch.randn(action.shape, generator=generator))
        for name, value in zip(
            _PER_STEP, (flat, label, step.reward, step.terminated, step.truncated, ~expert_acts), strict=True
        ):
            rows[name].append(value)
        ended = step.truncated[step.episodes.ids]
        final_rows.append(t * n + step.episodes.ids[ended])
        final_observations.append(student.flatten(step.final_observations)[ended])
        groups = step.observations
        expert_acts = draw() if mixing == "step" else torch.where(step.terminated | step.truncated, draw(), expert_acts)
    running = torch.nonzero(~(step.terminated | step.truncated)).squeeze(1)
    final_rows.append((steps - 1) * n + running)
    final_observations.append(student.flatten(groups)[running])
    flat_rows = {name: torch.cat(rows.pop(name)) for name in ("observations", "labels")}
    return LabelledRollout(
        **flat_rows,
        **{name: torch.stack(values) for name, values in rows.items()},
        final_rows=torch.cat(final_rows),
        final_observations=torch.cat(final_observations),
    )


_PER_STEP = ("observations", "labels", "rewards", "terminated", "truncated", "student_acted")
