"""Distillation losses for Gaussian policies, by name: thin wrappers around ``policykd.divergences``.

A loss takes student and teacher in the same n states, each as mean (n, actions) and log standard deviation (actions,)
or (n, actions) in units of the normalized action; the teacher's mean is the label. It returns the mean over the states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from policykd import divergences
from policykd.divergences import Gaussian
from policykd.errors import ConfigError
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

    def bind(self, config: MergeConfig, *, check: bool = True) -> Callable[[Gaussian, Gaussian], torch.Tensor]:
        """Return the function of student and teacher with the options of a merge.

        Args:
            config: the merge.
            check: look for values that are not finite, for which the host waits for a device.
        """
        return partial(self.function, check=check, **{name: getattr(config, name) for name in self.options})


def mse(student: Gaussian, teacher: Gaussian, *, check: bool = True) -> torch.Tensor:
    """Return the squared error of the means; the standard deviations do not count (PLAID)."""
    return divergences.mse(student[0], teacher[0], check=check)


def log_probabilities(logits: torch.Tensor, choices: Sequence[int]) -> torch.Tensor:
    """Return (n, sum of choices) logarithms of probabilities for logits of several discrete actions side by side."""
    return torch.cat([part.log_softmax(dim=1) for part in logits.split(list(choices), dim=1)], dim=1)


def categorical(config: MergeConfig, choices: Sequence[int]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss of a merge for discrete actions: the sum over the actions of the mean over the states.

    ``nll`` is the cross-entropy to the teacher's best choice, which suits teachers whose logits are values of choices.

    Args:
        config: the merge.
        choices: number of choices of each action.

    Returns:
        ``(student, teacher)`` to the loss, both logits (n, sum of choices).

    Raises:
        ConfigError: for a loss or noise of continuous actions.
    """
    if config.loss not in _CATEGORICAL:
        raise ConfigError(
            f"merge.loss is {config.loss}, which compares continuous actions; for discrete ones give one of "
            f"{', '.join(_CATEGORICAL)}"
        )
    if config.noise_model == "dart":
        raise ConfigError("merge.noise_model is dart, which is for continuous actions; give gaussian or none")
    compare = _CATEGORICAL[config.loss]

    def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        pairs = zip(student.split(list(choices), dim=1), teacher.split(list(choices), dim=1), strict=True)
        return torch.stack([compare(a, b, config) for a, b in pairs]).sum()

    return loss


_CATEGORICAL: Mapping[str, Callable[[torch.Tensor, torch.Tensor, MergeConfig], torch.Tensor]] = MappingProxyType(
    {
        "forward_kl": lambda s, t, _: divergences.categorical_kl(s, t, direction="forward"),
        "reverse_kl": lambda s, t, _: divergences.categorical_kl(s, t, direction="reverse"),
        "jsd": lambda s, t, config: divergences.categorical_jsd(s, t, beta=config.jsd_beta),
        "nll": lambda s, t, _: torch.nn.functional.cross_entropy(s, t.argmax(dim=1)),
    }
)
"""Losses of discrete actions by the name that a merge's configuration gives."""


def huber(student: Gaussian, teacher: Gaussian, *, check: bool = True) -> torch.Tensor:
    """Return the Huber error of the means, linear beyond 0.5: experts that disagree strongly have less weight."""
    return divergences.huber(student[0], teacher[0], delta=0.5, check=check)


def forward_kl(student: Gaussian, teacher: Gaussian, *, check: bool = True) -> torch.Tensor:
    """Return KL(teacher || student), which covers the teacher's actions and learns its standard deviation."""
    return divergences.gaussian_kl(student, teacher, direction="forward", check=check)


def reverse_kl(student: Gaussian, teacher: Gaussian, *, check: bool = True) -> torch.Tensor:
    """Return KL(student || teacher), which prefers one of several teachers to their average."""
    return divergences.gaussian_kl(student, teacher, direction="reverse", check=check)


def jsd(student: Gaussian, teacher: Gaussian, *, jsd_beta: float, check: bool = True) -> torch.Tensor:
    """Return the geometric Jensen-Shannon divergence, which is between the two KLs and normalized to their scale."""
    return divergences.gaussian_jsd(student, teacher, beta=jsd_beta, normalize=True, check=check)


def nll(student: Gaussian, teacher: Gaussian, *, min_std: float, max_std: float, check: bool = True) -> torch.Tensor:
    """Return the negative log-likelihood of the labels; the student's bounded standard deviation learns its error."""
    return divergences.gaussian_nll(student, teacher[0], min_std=min_std, max_std=max_std, check=check)


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
