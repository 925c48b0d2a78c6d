"""Distillation losses for Gaussian policies, by name; each is a few words around ``policykd.divergences``.

A loss takes the student's and the teacher's Gaussian, each ``(mean (n, actions), log_std (actions,) or (n, actions))``
in units of the normalised action, and returns the mean over the n states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from policykd import divergences
from policykd.divergences import Gaussian

DistillationLoss = Callable[[Gaussian, Gaussian], torch.Tensor]


def _mse(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Squared error of the means; the spread plays no part (PLAID)."""
    return divergences.mse(student[0], teacher[0])


def _huber(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Huber error of the means, linear beyond 0.5: experts that disagree sharply pull less."""
    return divergences.huber(student[0], teacher[0], delta=0.5)


def _forward_kl(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """KL(teacher || student): covers what the teacher does, and learns its spread."""
    return divergences.gaussian_kl(student, teacher, direction="forward")


def _reverse_kl(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """KL(student || teacher): prefers one of several teachers to their average."""
    return divergences.gaussian_kl(student, teacher, direction="reverse")


LOSSES: Mapping[str, DistillationLoss] = MappingProxyType(
    {"mse": _mse, "huber": _huber, "forward_kl": _forward_kl, "reverse_kl": _reverse_kl}
)
"""Losses by the name that a merge's configuration gives."""
