"""Which weights a run keeps: the last, the best on validation data, or an average of many.

It copies weights; it computes no metric itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from policykd.kd.metric_registry import Metric
from policykd.kd.objective.inputs import device_of
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.taps import unwrap
from policykd.kd.training.averaging import Averaging, WeightAverage
from policykd.kd.training.batches import BatchSource
from policykd.kd.training.fields import Fields
from policykd.kd.training.validation import evaluate


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        epoch: Epochs done.
        step: Optimizer steps done.
        step_in_epoch: Optimizer steps done in the running epoch.
        sums: Loss and terms of the running epoch, weighted by samples.
        best: Best value of the metric of selection.
        best_epoch: Its epoch, -1 before the first validation of a stage.
        history: Records of the epochs.
        stage: Number of the stage.
        stage_epoch: Epochs done in the stage.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    stage: int = 0
    stage_epoch: int = 0


class Selection:
    """Averages weights, validates them and keeps the best.

    Args:
        metric: Metric of selection.
        report: More metrics.
        outputs: How the student's output is read.
        fields: Which entries of a batch are what.
        averaging: The average of weights, or None.
    """

    def __init__(
        self,
        metric: Metric,
        report: Sequence[Metric],
        outputs: Outputs,
        fields: Fields,
        averaging: Averaging | None,
    ) -> None:
        self.metric, self.report, self.outputs, self.fields = metric, tuple(report), outputs, fields
        self.averaging = averaging
        self.best_weights: dict[str, Tensor] | None = None
        self.final_weights: dict[str, Tensor] | None = None
        self._average: WeightAverage | None = None
        self._frozen: Sequence[nn.Module] = ()

    def begin(self, frozen: Sequence[nn.Module] = ()) -> None:
        """Start a run or a stage: forget weights and average.

        Args:
            frozen: Layers of the student whose batch statistics stay.
        """
        self.best_weights = self.final_weights = None
        self._frozen = frozen
        self._average = None if self.averaging is None else WeightAverage(self.averaging)

    def average(self, kind: str, student: nn.Module, epochs_before: int) -> None:
        """Take a student's weights into the average, if it is of this kind and has begun.

        Args:
            kind: ``"ema"`` after a step, ``"swa"`` after an epoch.
            student: The student.
            epochs_before: Epochs of the stage before the one that gave the weights.
        """
        average = self._average
        if average is not None and average.averaging.kind == kind and epochs_before >= average.averaging.start:
            average.update(unwrap(student))

    def network(self, student: nn.Module, plain: BatchSource) -> nn.Module:
        """Return the network that is validated and exported: the student, or its average once that has begun.

        Args:
            student: The student.
            plain: Training data without augmentation.
        """
        if self._average is None or not self._average.count:
            return student
        own, device, kept = unwrap(student), device_of(student), {id(layer) for layer in self._frozen}
        frozen = [path for path, layer in own.named_modules() if id(layer) in kept]
        return self._average.network(own, (batch.to(device).x for batch in plain.epoch(0)), frozen)

    def validate(self, state: RunState, student: nn.Module, plain: BatchSource, val: Any) -> Mapping[str, float]:
        """Return the metrics on validation data, and keep the weights if they are the best of the stage."""
        network = self.network(student, plain)
        found = evaluate(network, val, (self.metric, *self.report), outputs=self.outputs, fields=self.fields)
        value = found[self.metric.name]
        # a tie keeps the earlier epoch, so that selection does not drift to the end of a flat curve
        better = value > state.best if self.metric.higher_is_better else value < state.best
        if state.best_epoch < 0 or better:
            state.best, state.best_epoch = value, state.epoch
            self.best_weights = {k: v.cpu().clone() for k, v in unwrap(network).state_dict().items()}
        return found

    def finish(self, student: nn.Module, plain: BatchSource) -> None:
        """Keep the average, if there is one, for the export."""
        if self._average is not None and self._average.count:
            self.final_weights = dict(self.network(student, plain).state_dict())

    def summary(self, state: RunState, select: str) -> dict[str, Any]:
        """Return what was selected, for the log."""
        best = {"best_epoch": state.best_epoch, f"best_val_{self.metric.name}": state.best}
        return {"select": select, **(best if state.best_epoch >= 0 else {})}

    def state_dict(self) -> dict[str, Any]:
        """Return best weights and average for a checkpoint."""
        return {"best": self.best_weights, **({} if self._average is None else {"average": self._average.state_dict()})}

    def load_state_dict(self, state: Mapping[str, Any], student: nn.Module) -> None:
        """Set what ``state_dict`` gave."""
        self.best_weights = state["best"]
        if self._average is not None and "average" in state:
            values, device = state["average"]["values"], device_of(student)
            moved = {name: value.to(device) for name, value in values.items()}
            self._average.load_state_dict({"count": state["average"]["count"], "values": moved})
