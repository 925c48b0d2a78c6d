"""Training configuration: frozen records that say everything about a run except its data and networks.

They check their own fields; building networks and loaders from them is the trainer's work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from policykd.errors import ConfigError

_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer.

    Attributes:
        name: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: Base learning rate.
        weight_decay: Weight decay (decoupled for adamw).
        momentum: Momentum of sgd.
        nesterov: Nesterov's form of it.
        betas: Decay rates of adam and adamw.

    Raises:
        ConfigError: A field is out of range.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.name not in ("sgd", "adam", "adamw"):
            raise ConfigError(f"optimizer is 'sgd', 'adam' or 'adamw', not {self.name!r}")
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise ConfigError(f"lr must be above 0 and weight_decay at least 0, got {self.lr} and {self.weight_decay}")

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """Return the torch optimizer; adam and adamw take torch's fused kernel where there is one.

        Args:
            parameters: Parameters, or torch's parameter groups.
        """
        if self.name == "sgd":
            return torch.optim.SGD(
                parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
            )
        trained = list(parameters)
        tensors = [p for part in trained for p in (part["params"] if isinstance(part, dict) else [part])]
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        # halves the optimizer's share of a step of a small network on a CPU
        fused = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in tensors)
        return kind(trained, self.lr, self.betas, weight_decay=self.weight_decay, fused=fused or None)


@dataclass(frozen=True)
class SchedulerConfig:
    """How the learning rate moves: a pure function of the position, so that resuming needs no state.

    Attributes:
        kind: ``"constant"``, ``"multistep"`` or ``"cosine"``.
        milestones: Epochs after which multistep multiplies by ``gamma``.
        gamma: Factor of multistep.
        warmup: Epochs of a linear rise from zero.
        floor: Share of the base rate at which cosine ends.

    Raises:
        ConfigError: The kind is unknown, or multistep has no milestones.
    """

    kind: Literal["constant", "multistep", "cosine"] = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "multistep", "cosine"):
            raise ConfigError(f"scheduler is 'constant', 'multistep' or 'cosine', not {self.kind!r}")
        if self.kind == "multistep" and not self.milestones:
            raise ConfigError("multistep needs milestones, e.g. (150, 180, 210)")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the share of the base learning rate.

        Args:
            epoch: Epochs done, with the fraction of the running one.
            epochs: Length of the run.
        """
        rise = min(1.0, epoch / self.warmup) if self.warmup > 0 else 1.0
        if self.kind == "multistep":
            return rise * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        if self.kind == "cosine":
            return rise * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / epochs))))
        return rise


@dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Samples per optimizer step, over all processes together.
        micro_batches: Parts that a process works off one after the other to save memory; loss and gradient are those
            of the whole batch for every loss (batch normalization sees the parts).
        amp: Run the networks in bfloat16 where that is safe; losses stay in float32.
        seed: Seeds data order, augmentation, dropout, projectors and whatever a loss draws.
        select: ``"last"`` or ``"best"``: which weights are exported. Best means highest accuracy on validation data.
        clip_norm: Largest norm of the gradient, or None.
        drop_last: Leave out an incomplete last batch.
        checkpoint_epochs: Epochs between checkpoints (only if the run has a folder).
        checkpoint_steps: Additional checkpoints every this many steps, or None.
        log_steps: Steps between step records in the log; 0 logs epochs only.
        optimizer: The optimizer.
        scheduler: The learning rate over time.

    Raises:
        ConfigError: A field is out of range.
    """

    epochs: int = 60
    batch_size: int = 64
    micro_batches: int = 1
    amp: bool = False
    seed: int = 0
    select: Literal["last", "best"] = "last"
    clip_norm: float | None = None
    drop_last: bool = False
    checkpoint_epochs: int = 1
    checkpoint_steps: int | None = None
    log_steps: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)

    def __post_init__(self) -> None:
        for name, kind in (("optimizer", OptimizerConfig), ("scheduler", SchedulerConfig)):
            if not isinstance(given := getattr(self, name), kind):
                raise ConfigError(
                    f"{name} is {given!r}, not a {kind.__name__}; give a factory to the trainer: Distiller(..., "
                    f"{name}=functools.partial(torch.optim..., ...))"
                )
        for name in ("epochs", "batch_size", "micro_batches", "checkpoint_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batches > self.batch_size:
            raise ConfigError(f"{self.micro_batches} micro-batches do not fit a batch of {self.batch_size}")
        if self.select not in ("last", "best"):
            raise ConfigError(f"select is 'last' or 'best', not {self.select!r}")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise ConfigError(f"checkpoint_steps must be at least 1, got {self.checkpoint_steps}")
