"""Distillation losses for Gaussian policies, by name: thin wrappers around ``policykd.divergences``.

A loss takes student and teacher in the same n states, each as mean (n, actions) and log standard deviation (actions,)
or (n, actions) in units of the normalized action; the teacher's mean is the label. It returns the mean over the states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from policykd import divergences
from policykd.divergences import Gaussian
from policykd.merge.config import MergeConfig


@dataclass(frozen=True)
class DistillationLoss:
    """A loss of a merge.

    Attributes:
        function: ``(student, teacher, **options)`` to the mean loss ().
        options: names of its options, which are fields of :class:`MergeConfig`.
        learns_std: whether it trains the student's standard deviation.
    """

    function: Callable[..., torch.Tensor]
    options: tuple[str, ...] = ()
    learns_std: bool = False

    def bind(self, config: MergeConfig) -> Callable[[Gaussian, Gaussian], torch.Tensor]:
        """Return the function of student and teacher with the options of a merge."""
        return partial(self.function, **{name: getattr(config, name) for name in self.options})


def mse(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Return the squared error of the means; the standard deviations do not count (PLAID)."""
    return divergences.mse(student[0], teacher[0])


def huber(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Return the Huber error of the means, linear beyond 0.5: experts that disagree strongly have less weight."""
    return divergences.huber(student[0], teacher[0], delta=0.5)


def forward_kl(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Return KL(teacher || student), which covers the teacher's actions and learns its standard deviation."""
    return divergences.gaussian_kl(student, teacher, direction="forward")


def reverse_kl(student: Gaussian, teacher: Gaussian) -> torch.Tensor:
    """Return KL(student || teacher), which prefers one of several teachers to their average."""
    return divergences.gaussian_kl(student, teacher, direction="reverse")


def jsd(student: Gaussian, teacher: Gaussian, *, jsd_beta: float) -> torch.Tensor:
    """Return the geometric Jensen-Shannon divergence, which is between the two KLs and normalized to their scale."""
    return divergences.gaussian_jsd(student, teacher, beta=jsd_beta, normalize=True)


def nll(student: Gaussian, teacher: Gaussian, *, min_std: float, max_std: float) -> torch.Tensor:
    """Return the negative log-likelihood of the labels; the student's bounded standard deviation learns its error."""
    return divergences.gaussian_nll(student, teacher[0], min_std=min_std, max_std=max_std)


LOSSES: Mapping[str, DistillationLoss] = MappingProxyType(
    {
        "mse": DistillationLoss(mse),
        "huber": DistillationLoss(huber),
        "forward_kl": DistillationLoss(forward_kl, learns_std=True),
        "reverse_kl": DistillationLoss(reverse_kl, learns_std=True),
        "jsd": DistillationLoss(jsd, ("jsd_beta",), learns_std=True),
        "nll": DistillationLoss(nll, ("min_std", "max_std"), learns_std=True),
    }
)
"""Losses by the name that a merge's configuration gives."""
