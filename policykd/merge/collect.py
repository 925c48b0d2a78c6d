"""Collection: a mixture of expert and student acts with noise, and the expert labels every state.

It simulates and records; fitting and storing are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from policykd.agents.acting import Acting, replay
from policykd.agents.networks import group_columns
from policykd.agents.policy import Policy
from policykd.envs.make import AnyEnv
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.labeling import Labeler
from policykd.merge.teachers import Teacher

Mixing = Literal["episode", "step"]


@dataclass(frozen=True)
class ActionNoise:
    """Gaussian noise on executed actions; without it cloned walkers never visit states next to the expert's path.

    Attributes:
        std: standard deviation, root mean square over actions, in units of the action.
        shape: (actions, actions) factor F that gives the noise the covariance ``std**2 F F^T``, of trace ``actions``
            before ``std``; None for independent actions.
    """

    std: float
    shape: torch.Tensor | None = None

    def draw(self, count: int, actions: int, generator: torch.Generator) -> torch.Tensor:
        """Return (count, actions) noise."""
        noise = self.std * torch.randn(count, actions, generator=generator, device=generator.device)
        return noise if self.shape is None else noise @ self.shape.T


@torch.no_grad()
def dart_noise(student: Policy, rollout: LabeledRollout, std: float) -> ActionNoise:
    """Return noise with the covariance of the student's own errors (DART).

    The covariance is that of ``student - expert`` on states of the expert, ``E[e e^T]``, scaled to a given trace
    (Laskey et al., Noise Injection for Robust Imitation Learning, 2017). The paper sets the trace by a guess of the
    final student's error; here it is ``actions * std**2``, so that ``std`` means the same as for independent noise.

    Args:
        student: policy whose errors are measured.
        rollout: labeled states; those in which the expert acted count, or all if the student always acted.
        std: root mean square over actions.

    Returns:
        The noise; independent actions if the student makes no error.
    """
    expert = ~rollout.student_acted.view(-1)
    rows = expert if expert.any() else torch.ones_like(expert)
    if student.recurrent:  # its actions depend on the states before
        means = replay(student, rollout.observations, rollout.terminated | rollout.truncated)[rows]
    else:
        means = student(rollout.observations[rows])
    error = (means.clamp(-1.0, 1.0) - rollout.labels[rows]).double()
    covariance = error.T @ error / len(error)
    actions, trace = len(covariance), float(covariance.trace())
    if trace <= 1e-12:
        return ActionNoise(std)
    values, vectors = torch.linalg.eigh(covariance * (actions / trace))
    return ActionNoise(std, (vectors * values.clamp_min(0.0).sqrt()).float())


def shares(gaps: Sequence[float], adaptive: float) -> list[float]:
    """Return the share of every skill: an equal part of ``1 - adaptive``, and of ``adaptive`` in proportion to gaps.

    Args:
        gaps: gap of the student to the teacher on each skill, >= 0; equal shares if all are 0.
        adaptive: in [0, 1).

    Returns:
        Shares that sum to 1.
    """
    total, count = sum(gaps), len(gaps)
    if adaptive == 0 or total == 0:
        return [1.0 / count] * count
    return [(1.0 - adaptive) / count + adaptive * gap / total for gap in gaps]


def split(total: int, parts: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion to shares: at least 1 each, with the sum ``total`` if that allows it.

    The remainder of the rounding goes to the largest fractions.
    """
    exact = [part * total for part in parts]
    counts = [max(1, int(value + 1e-9)) for value in exact]
    order = sorted(range(len(parts)), key=lambda i: counts[i] - exact[i])
    for i in order[: max(0, total - sum(counts))]:
        counts[i] += 1
    return counts


@dataclass(frozen=True)
class Collection:
    """Source of one skill's labeled states.

    Attributes:
        teacher: labels the states, and acts in its share of them.
        env: simulations of the teacher's skill, seeded by the caller.
        noise: noise on executed actions.
        generator: source of the draws, on the simulation's device.
    """

    teacher: Teacher
    env: AnyEnv
    noise: ActionNoise
    generator: torch.Generator


@torch.no_grad()
def collect(
    collections: Sequence[Collection],
    student: Policy,
    *,
    beta: float,
    mixing: Mixing,
    labeler: Labeler | None = None,
) -> list[LabeledRollout]:
    """Run one episode length in every simulation of every skill from fresh resets, and label every state.

    The skills advance together, so that their teachers can be evaluated in one forward pass; they do not influence one
    another.

    Args:
        collections: one per skill.
        student: acts where the expert does not.
        beta: probability that the expert acts, in [0, 1].
        mixing: whether that is drawn per episode or per step.
        labeler: labels the states of the collections, in their order; None for teacher by teacher.

    Returns:
        The labeled states of each skill.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    labeler = labeler or Labeler([c.teacher for c in collections], batched=False)
    labeler.begin()
    recorders = [_Recorder(collection, student, beta, mixing) for collection in collections]
    for _ in range(max(c.env.skill.episode_steps for c in collections)):
        for i, labels in enumerate(labeler([r.observations for r in recorders])):
            labeler.forget(i, recorders[i].step(labels))
    return [recorder.rollout() for recorder in recorders]


class _Recorder:
    """Acts in one skill and records the rollout.

    Attributes:
        observations: (n, features) flat observations of the environment now.
    """

    def __init__(self, collection: Collection, student: Policy, beta: float, mixing: Mixing) -> None:
        self._collection, self._student, self._beta, self._mixing = collection, student, beta, mixing
        self._acting = Acting(student)  # it sees every state, so that it remembers those in which the expert acts
        self._columns = collection.env.skill.columns
        self._rows: dict[str, list[torch.Tensor]] = {name: [] for name in _PER_STEP}
        self._final_rows: list[torch.Tensor] = []
        self._final_observations: list[torch.Tensor] = []
        self._teacher_rows: list[torch.Tensor] = []  # only if the student does not read all that the teacher reads
        self._reads_less = not collection.teacher.policy.groups.keys() <= student.groups.keys()
        self._steps = 0
        self.observations = torch.cat(list(collection.env.reset().values()), dim=-1)
        self._expert_acts = self._draw()
        self._ended = torch.zeros_like(self._expert_acts)

    def _draw(self) -> torch.Tensor:
        source = self._collection.generator
        return torch.rand(self._collection.env.num_envs, generator=source, device=source.device) < self._beta

    def _read(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the student's observations (n, size) from those of the environment."""
        return self._student.select(observations, self._columns)

    def step(self, labels: torch.Tensor) -> torch.Tensor:
        """Act in the present states, whose labels are (n, actions), and return (n,) whether an episode ended."""
        collection, acting, n = self._collection, self._expert_acts, self._collection.env.num_envs
        flat = self._read(self.observations)
        if self._reads_less:
            self._teacher_rows.append(collection.teacher.policy.select(self.observations, self._columns))
        action = torch.where(acting[:, None], labels, self._acting(flat))
        step = collection.env.step(action + collection.noise.draw(n, action.shape[1], collection.generator))
        values = (flat, labels, step.reward, step.terminated, step.truncated, ~acting)
        for name, value in zip(_PER_STEP, values, strict=True):
            self._rows[name].append(value)
        late = step.truncated[step.episodes.ids]
        self._final_rows.append(self._steps * n + step.episodes.ids[late])
        self._final_observations.append(self._read(step.final_flat)[late])
        self.observations, self._ended = step.flat, step.terminated | step.truncated
        self._acting.forget(self._ended)
        self._expert_acts = self._draw() if self._mixing == "step" else torch.where(self._ended, self._draw(), acting)
        self._steps += 1
        return self._ended

    def _assess(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the teacher's values and distances in the recorded states; see :meth:`Teacher.assess`."""
        teacher = self._collection.teacher
        if self._teacher_rows:
            return teacher.assess(torch.cat(self._teacher_rows), group_columns(teacher.policy.groups))
        return teacher.assess(observations, group_columns(self._student.groups))

    def rollout(self) -> LabeledRollout:
        """Return the recorded states."""
        n = self._collection.env.num_envs
        self._collection.env.check_overflow()
        running = torch.nonzero(~self._ended).squeeze(1)
        self._final_rows.append((self._steps - 1) * n + running)
        self._final_observations.append(self._read(self.observations)[running])
        flat_rows = {name: torch.cat(self._rows.pop(name)) for name in ("observations", "labels")}
        values, distances = self._assess(flat_rows["observations"])
        return LabeledRollout(
            **flat_rows,
            **{name: torch.stack(values) for name, values in self._rows.items()},
            final_rows=torch.cat(self._final_rows),
            final_observations=torch.cat(self._final_observations),
            teacher_values=values,
            distances=distances,
        )


_PER_STEP = ("observations", "labels", "rewards", "terminated", "truncated", "student_acted")
