"""Guidance: teachers that reinforcement learning listens to, as losses and pseudo-rewards, by name.

A guidance says what a state costs the student (``loss``), what an action earns with or instead of the environment's
reward (``reward``), and whether the environment's reward counts (``earns``): the three knobs of Czarnecki et al.,
Distilling Policy Distillation, 2019. The student always acts.

Student and teacher are Gaussians with the spread of the student's exploration, which no loss of a teacher trains: the
teacher's own spread is that of the end of its training. The divergence of both is then ``0.5 |(m_S - m_T) / spread|^2``
in both directions, and equal to the cross-entropies up to a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.agents.training.sb3_policy import log_density
from policykd.envs.make import AnyEnv


@dataclass(frozen=True)
class Guided:
    """States of a minibatch, as a loss reads them.

    Attributes:
        divergence: (n,) divergence of student and teacher, nats.
        ratio: (n,) probability of the action now over that when it was drawn.
        clip: PPO's clip of the ratio.
        teacher_values: (n,) the teacher's values.
        values: (n,) the student's values when it acted.
    """

    divergence: torch.Tensor
    ratio: torch.Tensor
    clip: float
    teacher_values: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Earned:
    """Steps of a rollout, as a pseudo-reward reads them.

    Attributes:
        teacher_log_probs: (T, n) log probabilities of the actions under the teacher.
        log_probs: (T, n) those under the student.
        ended: (T, n) whether the step ended the episode.
    """

    teacher_log_probs: torch.Tensor
    log_probs: torch.Tensor
    ended: torch.Tensor


def whole_divergence(states: Guided) -> torch.Tensor:
    """Return the divergence in every state (Schmitt et al., Kickstarting, 2018)."""
    return states.divergence


def proximal_divergence(states: Guided) -> torch.Tensor:
    """Return ``max(ratio, 1 - clip)`` times the divergence (Spigler, Proximal Policy Distillation, 2025)."""
    return states.ratio.clamp_min(1.0 - states.clip) * states.divergence


def gated_divergence(states: Guided) -> torch.Tensor:
    """Return the divergence where the teacher's value is above the student's (Czarnecki et al., 2019)."""
    return states.divergence * (states.teacher_values > states.values)


def next_cross_entropy(steps: Earned) -> torch.Tensor:
    """Return ``log teacher(a_{t+1})``, which makes the loss of single states a gradient of the whole episode's.

    It is 0 at the end of an episode, and, unlike in the paper, at the end of a rollout, whose next action is not drawn.
    """
    following = torch.zeros_like(steps.teacher_log_probs)
    following[:-1] = steps.teacher_log_probs[1:]
    return torch.where(steps.ended, 0.0, following)


def log_ratio(steps: Earned) -> torch.Tensor:
    """Return ``log teacher(a_t) - log student(a_t)``, whose expected sum is minus the reverse KL of whole episodes."""
    return steps.teacher_log_probs - steps.log_probs


@dataclass(frozen=True)
class Guidance:
    """What a teacher changes; see the module.

    Attributes:
        loss: from states to (n,) losses; None for none.
        reward: from steps to (T, n) pseudo-rewards, per step; None for none.
        earns: whether the environment's rewards count.
        falls: whether the weight of the loss may fall: without the environment's reward it is all that is learned.
    """

    loss: Callable[[Guided], torch.Tensor] | None = None
    reward: Callable[[Earned], torch.Tensor] | None = None
    earns: bool = True
    falls: bool = True


GUIDANCES: Mapping[str, Guidance] = MappingProxyType(
    {
        "kickstarting": Guidance(whole_divergence),
        "proximal": Guidance(proximal_divergence),
        "value_gated": Guidance(gated_divergence),
        "entropy_regularized": Guidance(whole_divergence, next_cross_entropy, earns=False, falls=False),
        "reverse_kl": Guidance(None, log_ratio, earns=False, falls=False),
    }
)
"""Guidances by the name that a fine-tuning's configuration gives."""


class Guide:
    """The teachers of the simulations of an environment.

    Args:
        guidance: how they are listened to.
        env: the environment; it offers the groups that student and teachers read.
        teachers: skill id to teacher; simulations of other skills have none.

    Attributes:
        known: (n,) whether a simulation has a teacher.
    """

    def __init__(self, guidance: Guidance, env: AnyEnv, teachers: Mapping[str, Policy]) -> None:
        self.guidance, self._columns = guidance, env.skill.columns
        ids = [skill.id for skill in env.skills]
        rows: dict[str, list[int]] = {name: [] for name in teachers}
        for simulation, index in enumerate(env.skill_index.tolist()):
            if ids[index] in rows:
                rows[ids[index]].append(simulation)
        self._parts = [(Acting(teachers[name]), torch.tensor(found)) for name, found in rows.items() if found]
        self.known = torch.zeros(env.num_envs, dtype=torch.bool)
        for _, found in self._parts:
            self.known[found] = True

    @torch.no_grad()
    def answers(self, flat: torch.Tensor, actions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the teachers' actions (n, actions), within [-1, 1], and their values (n,); zeros without a teacher."""
        labels, values = flat.new_zeros(len(flat), actions), flat.new_zeros(len(flat))
        for acting, rows in self._parts:
            seen = acting.policy.select(flat[rows], self._columns)
            labels[rows], values[rows] = acting(seen).clamp(-1.0, 1.0), acting.policy.value(seen)
        return labels, values

    def forget(self, ended: torch.Tensor) -> None:
        """Begin new episodes in the simulations whose episode ended, (n,) boolean, for teachers with a memory."""
        for acting, rows in self._parts:
            acting.forget(ended[rows])

    def state_dict(self) -> list[torch.Tensor | None]:
        """Return what the teachers remember of the running episodes."""
        return [acting.state for acting, _ in self._parts]

    def load_state_dict(self, state: Sequence[torch.Tensor | None]) -> None:
        """Continue from a :meth:`state_dict`."""
        for (acting, _), kept in zip(self._parts, state, strict=True):
            acting.state = kept

    def begin(self) -> None:
        """Begin new episodes in all simulations."""
        for acting, _ in self._parts:
            acting.begin()


@dataclass(frozen=True)
class Heard:
    """What the teachers said along a rollout, in the policy's canonical frame.

    Attributes:
        labels: (T, n, actions) their actions.
        values: (T, n) their values.
    """

    labels: torch.Tensor
    values: torch.Tensor

    def rewards(
        self, guidance: Guidance, actions: torch.Tensor, log_probs: torch.Tensor, log_std: torch.Tensor,
        ended: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return (T, n) pseudo-rewards of actions (T, n, actions) that were drawn with log probabilities (T, n)."""
        if guidance.reward is None:
            return torch.zeros_like(log_probs)
        noise = (actions - self.labels) * torch.exp(-log_std)
        theirs = log_density(noise.flatten(0, 1), log_std).view_as(log_probs)
        return guidance.reward(Earned(theirs, log_probs, ended))
