"""Stages of a training: objectives that follow one another, such as hints and then distillation.

It decides which objective is active in an epoch and trains nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd.losses import KDLoss, Signal
from policykd.kd.losses.ft import Paraphraser
from policykd.kd.objective.objective import Objective


@dataclass(frozen=True, eq=False)
class Stage:
    """One objective for some epochs. Every stage has a new optimizer and its own schedule.

    Attributes:
        objective: The objective; scheduled weights move within the stage.
        epochs: Number of epochs.
        train_student: Whether the student is trained; otherwise it is left as it is, in eval mode, and only the
            objective's parameters are trained, for example the paraphraser of factor transfer.

    Raises:
        ConfigError: There is no epoch.
    """

    objective: Objective
    epochs: int
    train_student: bool = True

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1, 10_000_000)


def as_stages(objective: Objective | Sequence[Stage], epochs: int) -> tuple[Stage, ...]:
    """Return the stages of a training; one objective is one stage of this many epochs.

    Raises:
        ConfigError: There is no stage, or something else is among them.
    """
    if isinstance(objective, Objective):
        return (Stage(objective, epochs),)
    stages = tuple(objective)
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ConfigError(
            "give an Objective, or stages in order: [Stage(hints, epochs=5), Stage(objective, epochs=20)]"
        )
    return stages


class Reconstruction(KDLoss):
    """The first stage of factor transfer: the paraphraser learns to reconstruct the teacher's map.

    ``Stage(Objective(fit=Reconstruction(ft.paraphraser).on("layer3")), epochs=10, train_student=False)``, then a stage
    with the term of ``ft`` itself, which holds the same paraphraser.

    Args:
        paraphraser: The paraphraser of :class:`policykd.kd.losses.ft.FT`; its parameters are trained from now on.
    """

    name = "reconstruction"
    signal: Signal = "features"  # type: ignore[misc]

    def __init__(self, paraphraser: Paraphraser) -> None:
        super().__init__()
        self.paraphraser = paraphraser.requires_grad_(True)

    @override
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return self.paraphraser.reconstruction_loss(teacher)
