"""Optimizers and schedulers of a run: those of its configuration, or any of torch's from a factory, with groups.

It builds them; the loop alone steps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from policykd.errors import ConfigError
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.loop import scheduled_rates

OptimizerFactory: TypeAlias = Callable[[Any], torch.optim.Optimizer]
"""``parameters or parameter groups -> optimizer``, such as ``functools.partial(torch.optim.AdamW, lr=1e-3)``."""
SchedulerFactory: TypeAlias = Callable[[torch.optim.Optimizer], LRScheduler | ReduceLROnPlateau]
"""``optimizer -> scheduler``, such as ``functools.partial(CosineAnnealingLR, T_max=30)``."""
Groups: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Pattern of parameter names -> options of their group, such as ``{"*.bias": {"weight_decay": 0.0}}``."""
Every = Literal["epoch", "step"]


def parameter_groups(named: Iterable[tuple[str, Tensor]], groups: Groups) -> list[Any]:
    """Sort the parameters that are trained into groups; without groups return them as they are.

    Args:
        named: Names and parameters.
        groups: See :data:`Groups`; the first pattern that matches counts, all other parameters are one more group.

    Raises:
        ConfigError: A pattern matches no trained parameter, or nothing is trained.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    if not trained:
        raise ConfigError("nothing is trained: no parameter of student or objective requires a gradient")
    if not groups:
        return [parameter for _, parameter in trained]
    found: dict[str, list[Tensor]] = {pattern: [] for pattern in groups}
    rest: list[Tensor] = []
    for name, parameter in trained:
        pattern = next((pattern for pattern in groups if fnmatchcase(name, pattern)), None)
        (rest if pattern is None else found[pattern]).append(parameter)
    for pattern, members in found.items():
        if not members:
            known = ", ".join(name for name, _ in trained[:8])
            raise ConfigError(f"parameter group {pattern!r} matches no trained parameter; there are {known}, ...")
    made: list[dict[str, Any]] = [{"params": members, **groups[pattern]} for pattern, members in found.items()]
    return [*([{"params": rest}] if rest else []), *made]


def named_parameters(student: nn.Module, objective: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the parameters of student and objective by name, the latter as ``objective.<name>``."""
    return [
        *student.named_parameters(),
        *((f"objective.{name}", parameter) for name, parameter in objective.named_parameters()),
    ]


class Optimization:
    """An optimizer and whatever moves its learning rates.

    Args:
        parameters: Parameters or parameter groups.
        config: The run, whose optimizer and scheduler are taken unless there is a factory.
        epochs: Length of the schedule.
        optimizer: Factory of another optimizer.
        scheduler: Factory of a torch scheduler.
        every: When the torch scheduler steps.

    Raises:
        ConfigError: The optimizer needs a closure, or there are two schedulers.
    """

    def __init__(
        self,
        parameters: list[Any],
        config: TrainConfig,
        epochs: int,
        *,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        every: Every = "epoch",
    ) -> None:
        self.optimizer = config.optimizer.build(parameters) if optimizer is None else optimizer(parameters)
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise ConfigError("LBFGS evaluates a batch several times per step, which this trainer does not do")
        if scheduler is not None and config.scheduler.kind != "constant":
            raise ConfigError(f"give one scheduler: the factory, or config.scheduler ({config.scheduler.kind!r})")
        self.every = every
        self.set_rates: Callable[[float], None] = scheduled_rates(self.optimizer, config, epochs)
        self.scheduler = None if scheduler is None else scheduler(self.optimizer)
        if self.scheduler is not None:
            self.set_rates = lambda position: None

    def after_step(self) -> None:
        """Move the learning rates after an optimizer step."""
        if self.every == "step" and self.scheduler is not None:
            self.scheduler.step()

    def after_epoch(self, value: float | None) -> None:
        """Move the learning rates after an epoch.

        Args:
            value: The metric of selection on validation data, which ``ReduceLROnPlateau`` follows; None without.

        Raises:
            ConfigError: ``ReduceLROnPlateau`` has no validation data.
        """
        if self.every != "epoch" or self.scheduler is None:
            return
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        elif value is None:
            raise ConfigError("ReduceLROnPlateau follows a metric on validation data: fit(train, val)")
        else:
            self.scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimizer and scheduler."""
        scheduler = None if self.scheduler is None else dict(self.scheduler.state_dict())
        return {"optimizer": self.optimizer.state_dict(), "scheduler": scheduler}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the states that ``state_dict`` gave.

        Raises:
            ValueError: They do not fit.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            if state.get("scheduler") is None:
                raise ValueError("the checkpoint has no state of a scheduler")
            self.scheduler.load_state_dict(state["scheduler"])
