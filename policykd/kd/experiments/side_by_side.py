"""Cells whose students learn from stored teacher logits, all at once as one stacked network.

It may use ``system`` and the stacked trainer, whose loss ``(1 - w) CE + w T**2 KL`` has one free weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.system import Cell, Fit, Recipe
from policykd.kd.training.stacked import distil_side_by_side

NO_TEACHER = "labels only"
"""Name of the arm that learns from labels alone; its teacher logits are not read."""

Teaching = Tensor | Callable[[int], Tensor]
"""Teacher logits ``(N, C)`` for the students' samples in their order, or a function of the epoch that returns them."""


@dataclass(frozen=True)
class SideBySideRecipe(Recipe):
    """A recipe whose weights of cross-entropy and divergence sum to one.

    Raises:
        ConfigError: They do not.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("kd_weight", self.kd_weight, 0.0, 1.0)
        if abs(self.ce_weight + self.kd_weight - 1.0) > 1e-9:
            raise ConfigError(
                f"ce_weight is {self.ce_weight} and kd_weight is {self.kd_weight}; set both so that they sum to 1"
            )


R = TypeVar("R", bound=SideBySideRecipe)


class SideBySideCell(Cell[R]):
    """One seed of a system with many teachers and one student for each; all batches follow from the cell's seed."""

    teacher_order: ClassVar[tuple[str, ...] | None] = None
    student_order: ClassVar[tuple[str, ...] | None] = None

    def students(self, teachings: Mapping[str, Teaching], fit: Fit | None = None) -> dict[str, nn.Module]:
        """Return one student per arm, trained on ``transfer`` from equal weights and on equal batches.

        Args:
            teachings: Arm -> its teacher; an arm named ``NO_TEACHER`` learns from labels alone.
            fit: Widths and training; the recipe's for the student if None.
        """
        fit = fit or self.recipe.student
        students = {arm: self.network("student", fit) for arm in teachings}

        def targets(epoch: int) -> Tensor:
            return torch.stack([found(epoch) if callable(found) else found for found in teachings.values()])

        distil_side_by_side(
            list(students.values()),
            targets if any(callable(found) for found in teachings.values()) else targets(0),
            self.transfer,
            fit.config(len(self.transfer), self.order(self.student_order)),
            temperature=self.recipe.temperature,
            kd_weights=[0.0 if arm == NO_TEACHER else self.recipe.kd_weight for arm in students],
        )
        return students
