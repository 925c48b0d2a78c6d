"""Noise on executed actions: without it cloned walkers never see the states next to the expert's path."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policykd.agents.policy import Policy
from policykd.merge.rollout import LabeledRollout


@dataclass(frozen=True)
class ActionNoise:
    """Gaussian noise.

    Attributes:
        std: standard deviation, root mean square over actions, in units of the action.
        shape: (actions, actions) factor F that gives the noise the covariance ``std**2 F F^T``, of trace ``actions``
            before ``std``; None for independent actions.
    """

    std: float
    shape: torch.Tensor | None = None

    def draw(self, count: int, actions: int, generator: torch.Generator) -> torch.Tensor:
        """(count, actions) noise."""
        noise = self.std * torch.randn(count, actions, generator=generator, device=generator.device)
        return noise if self.shape is None else noise @ self.shape.T


@torch.no_grad()
def dart_noise(student: Policy, rollout: LabeledRollout, std: float) -> ActionNoise:
    """Noise like the student's own errors (DART; Laskey et al., 2017, Noise Injection for Robust Imitation Learning).

    The covariance of the noise is that of ``student - expert`` on states of the expert, ``E[e e^T]``, scaled to a given
    trace. The paper sets the trace by a guess of the final student's error; here it is ``actions * std**2``, so that
    ``std`` has the same meaning as for independent noise.

    Args:
        student: whose errors they are.
        rollout: labeled states; those in which the expert acted count, or all if the student always did.
        std: root mean square over actions.

    Returns:
        The noise; independent actions if the student makes no error.
    """
    expert = ~rollout.student_acted.view(-1)
    rows = expert if expert.any() else torch.ones_like(expert)
    error = (student(rollout.observations[rows]).clamp(-1.0, 1.0) - rollout.labels[rows]).double()
    covariance = error.T @ error / len(error)
    actions, trace = len(covariance), float(covariance.trace())
    if trace <= 1e-12:
        return ActionNoise(std)
    values, vectors = torch.linalg.eigh(covariance * (actions / trace))
    return ActionNoise(std, (vectors * values.clamp_min(0.0).sqrt()).float())
