"""The record of one round's states of one skill.

It is data: tensors and their shapes, without environments or networks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass
class LabeledRollout:
    """One round's states of one skill: T steps of n simulations, flattened in time order to rows ``t * n + i``.

    Attributes:
        observations: (T * n, features) the student's observations.
        labels: (T * n, actions) the teacher's mean action as it would be executed: noise-free, within [-1, 1].
        rewards: (T, n) rewards in [0, 1].
        terminated: (T, n) whether the episode ended in a fall.
        truncated: (T, n) whether it ran out of steps.
        student_acted: (T, n) whether the student's action was executed.
        final_rows: (m,) rows whose next state is not the simulation's next row: episodes that ran out of steps, and
            those still running when the rollout ended.
        final_observations: (m, features) the state after each of those rows.
        teacher_values: (T * n,) the teacher's estimates of its own return, rewards scaled by ``1 - gamma``.
        distances: (T * n,) distance of the state from the teacher's training states: the largest magnitude of the
            teacher's normalized features, in standard deviations.
    """

    observations: torch.Tensor
    labels: torch.Tensor
    rewards: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    student_acted: torch.Tensor
    final_rows: torch.Tensor
    final_observations: torch.Tensor
    teacher_values: torch.Tensor
    distances: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields by name as they are stored: on the CPU."""
        return {f.name: getattr(self, f.name).contiguous().cpu() for f in fields(self)}

    def to(self, device: torch.device) -> LabeledRollout:
        """Return the rollout on a device."""
        return LabeledRollout(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
