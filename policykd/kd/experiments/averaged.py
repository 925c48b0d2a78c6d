"""Arms whose student is an average of its weights over the training.

It may use ``system`` and the averages of the trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

from typing_extensions import override

from policykd.kd.experiments.system import Arm, Cell, DistillationRecipe
from policykd.kd.objective.objective import Objective
from policykd.kd.training.averaging import Averaging, WeightAverage
from policykd.kd.training.loop import minimize

R = TypeVar("R", bound=DistillationRecipe)


@dataclass(frozen=True)
class AveragedArm(Arm):
    """An arm whose figures are those of the averaged student.

    Attributes:
        averaging: How weights are averaged, at the ends of epochs from ``averaging.start`` on.
    """

    _: KW_ONLY
    averaging: Averaging


class AveragingCell(Cell[R]):
    """A cell that also knows arms with averaged students."""

    @override
    def distil(self, arm: Arm) -> Any:
        if not isinstance(arm, AveragedArm):
            return super().distil(arm)
        if isinstance(arm.loss, Objective):
            raise NotImplementedError("averaged arms take a function (student, batch, epoch) -> scalar")
        fit, average = self.recipe.student, WeightAverage(arm.averaging)
        student, loss = self.network("student", fit), arm.loss
        config = fit.config(len(self.transfer), self.order(self.student_order))
        minimize(
            lambda batch, epoch: loss(student, batch, epoch),
            [student, *arm.along],
            self.transfer,
            config,
            after_epoch=averaging_after(average, student),
        )
        return average.network(student, self.transfer.x.split(256))


def averaging_after(average: WeightAverage, network: Any) -> Callable[[int], None]:
    """Return a function of the epoch that takes the network's weights into an average once that has started."""

    def after(epoch: int) -> None:
        if epoch >= average.averaging.start:
            average.update(network)

    return after
