"""Distillation losses for Gaussian policies, by name; each is a few words around ``policykd.divergences``.

A loss takes an :class:`Imitation`, what student and teacher say about the same states, and the merge's configuration,
and returns the mean over the states. What a later loss needs beside the two Gaussians (rewards, values) becomes a field
of that record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from policykd import divergences
from policykd.divergences import Gaussian
from policykd.merge.config import MergeConfig


@dataclass(frozen=True)
class Imitation:
    """What student and teacher say about n states, in units of the normalized action.

    Attributes:
        student: mean (n, actions), and log standard deviation (actions,) or (n, actions).
        teacher: likewise; its mean is the label.
    """

    student: Gaussian
    teacher: Gaussian


DistillationLoss = Callable[[Imitation, MergeConfig], torch.Tensor]


def _mse(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """Squared error of the means; the spread plays no part (PLAID)."""
    return divergences.mse(given.student[0], given.teacher[0])


def _huber(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """Huber error of the means, linear beyond 0.5: experts that disagree sharply pull less."""
    return divergences.huber(given.student[0], given.teacher[0], delta=0.5)


def _forward_kl(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """KL(teacher || student): covers what the teacher does, and learns its spread."""
    return divergences.gaussian_kl(given.student, given.teacher, direction="forward")


def _reverse_kl(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """KL(student || teacher): prefers one of several teachers to their average."""
    return divergences.gaussian_kl(given.student, given.teacher, direction="reverse")


def _jsd(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """Geometric Jensen-Shannon divergence, between the two KLs; normalized, so that ``jsd_beta`` keeps its scale."""
    return divergences.gaussian_jsd(given.student, given.teacher, beta=config.jsd_beta, normalize=True)


def _nll(given: Imitation, config: MergeConfig) -> torch.Tensor:
    """Negative log-likelihood of the teacher's mean action; the student's spread becomes its error, within bounds."""
    return divergences.gaussian_nll(given.student, given.teacher[0], min_std=config.min_std, max_std=config.max_std)


LOSSES: Mapping[str, DistillationLoss] = MappingProxyType(
    {
        "mse": _mse,
        "huber": _huber,
        "forward_kl": _forward_kl,
        "reverse_kl": _reverse_kl,
        "jsd": _jsd,
        "nll": _nll,
    }
)
"""Losses by the name that a merge's configuration gives."""
