"""Labeling: the teachers' actions in the states of several skills, one by one or in one batched forward pass.

It runs teachers without gradients and keeps the states of recurrent ones; it changes no teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.func import functional_call, stack_module_state, vmap

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.envs.foreign.skill import choices_of
from policykd.merge.losses import log_probabilities
from policykd.merge.teachers import Teacher


class Labeler:
    """Labels the states of several skills.

    With ``batched``, the states of one policy that teaches several skills go through it together, and policies of one
    shape share one forward pass with stacked weights (``torch.func``). The labels are the same to float precision.
    Recurrent teachers label on their own: each call is the next step of every simulation, after :meth:`begin`.

    Args:
        teachers: one per skill.
        batched: whether to batch.
    """

    def __init__(self, teachers: Sequence[Teacher], batched: bool) -> None:
        self._policies = [t.policy for t in teachers]
        self._columns = [t.skill.columns for t in teachers]
        self._choices = [choices_of(t.skill.robot) for t in teachers]
        self._stacks = _stacks(self._policies) if batched else []
        stacked = {i for stack in self._stacks for i in stack.places}
        self._alone = {i: Acting(policy) for i, policy in enumerate(self._policies) if i not in stacked}

    def begin(self) -> None:
        """Begin new episodes in all simulations."""
        for acting in self._alone.values():
            acting.begin()

    def forget(self, skill: int, ended: torch.Tensor) -> None:
        """Begin new episodes in the simulations of a skill whose episode ended: (n,) boolean."""
        if skill in self._alone:
            self._alone[skill].forget(ended)

    @torch.no_grad()
    def __call__(self, observations: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the labels of states.

        Args:
            observations: per skill (n, features) flat observations in the order of the teacher's skill; n may differ
                between skills.

        Returns:
            Per skill (n, actions) the teacher's mean as it would be executed: noise-free, within [-1, 1]. Of discrete
            actions, the logarithms of the probabilities of all choices.
        """
        flat = [p.select(rows, c) for p, rows, c in zip(self._policies, observations, self._columns, strict=True)]
        labels = {i: acting(flat[i]) for i, acting in self._alone.items()}
        for stack in self._stacks:
            labels.update(stack(flat))
        return [
            log_probabilities(labels[i], choices) if choices else labels[i].clamp(-1.0, 1.0)
            for i, choices in enumerate(self._choices)
        ]


def _stacks(policies: Sequence[Policy]) -> list[_Stack]:
    """Return groups of policies of one shape, of those without memory."""
    by_shape: dict[Any, list[int]] = {}
    for i, policy in enumerate(policies):
        if policy.recurrent:
            continue
        normalizer = (policy.normalizer.min_std, policy.normalizer.clip, policy.normalizer.count.shape)
        shape = (tuple(policy.groups.items()), policy.actions, policy.architecture, policy.symmetry, normalizer)
        by_shape.setdefault(shape, []).append(i)
    return [_Stack(policies, places) for places in by_shape.values()]


class _Stack:
    """Policies of one shape, evaluated together.

    Attributes:
        places: indices of the skills that they teach.
    """

    def __init__(self, policies: Sequence[Policy], places: Sequence[int]) -> None:
        self.places = tuple(places)
        self._members: dict[int, list[int]] = {}  # the same policy may teach several skills
        for i in places:
            self._members.setdefault(id(policies[i]), []).append(i)
        distinct = [policies[skills[0]] for skills in self._members.values()]
        self._forward: Callable[[torch.Tensor], torch.Tensor] = _stacked(distinct)

    def __call__(self, flat: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """Return mean actions per skill index."""
        skills = list(self._members.values())
        joined = [torch.cat([flat[i] for i in group]) for group in skills]
        most = max(len(rows) for rows in joined)
        padded = torch.stack([torch.nn.functional.pad(rows, (0, 0, 0, most - len(rows))) for rows in joined])
        means = self._forward(padded)
        found: dict[int, torch.Tensor] = {}
        for group, mean in zip(skills, means, strict=True):
            sizes = [len(flat[i]) for i in group]
            found.update(zip(group, mean[: sum(sizes)].split(sizes), strict=True))
        return found


def _stacked(policies: list[Policy]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return one forward pass of k policies: (k, n, features) to (k, n, actions)."""
    if len(policies) == 1:
        return lambda rows: policies[0](rows[0])[None]
    parameters, buffers = stack_module_state(policies)
    shape = copy.deepcopy(policies[0])

    def forward(own: dict[str, Any], kept: dict[str, Any], rows: torch.Tensor) -> torch.Tensor:
        return functional_call(shape, (own, kept), (rows,))

    mapped = vmap(forward)
    return lambda rows: mapped(parameters, buffers, rows)
