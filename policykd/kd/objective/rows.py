"""The outputs of a batch as rows, one per event, without those that are masked or have no label.

Rows are made once per batch and shared by all terms: ``existing`` events for terms without labels, ``labeled`` ones for
terms with labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from policykd.errors import ShapeError
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.signals import Signals, shape_text


@dataclass(frozen=True)
class Rows:
    """Values of the chosen events.

    Attributes:
        student: The student's outputs ``(N, C)``.
        teachers: Name -> outputs ``(N, C)``.
        targets: Labels ``(N,)`` or ``(N, C)``, or None.
        weights: Weights ``(N,)`` of their samples, or None.
        chosen: Positions of the events among all, or None for all of them.
    """

    student: Tensor
    teachers: Mapping[str, Tensor]
    targets: Tensor | None
    weights: Tensor | None
    chosen: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.student)

    def taken(self, mask: Tensor) -> Rows:
        """Return the rows where a mask ``(N,)`` is true."""
        chosen = mask.nonzero()[:, 0]
        teachers = {name: rows[chosen] for name, rows in self.teachers.items()}
        targets, weights = (None if value is None else value[chosen] for value in (self.targets, self.weights))
        return Rows(self.student[chosen], teachers, targets, weights, chosen)

    def feature(self, feature: Tensor, outputs: Outputs, who: str) -> Tensor:
        """Return a feature as rows of the same events, its axes in the order of the outputs'.

        Raises:
            ShapeError: Its axes are not those of the outputs.
        """
        if feature.dim() != len(outputs.layout):
            raise ShapeError(f"{who} gives {shape_text(feature)}, by event it must have the axes {outputs.layout}")
        rows = outputs.rows(feature)
        if self.chosen is None and len(rows) != self.count:
            raise ShapeError(f"{who} has {len(rows)} events, the outputs have {self.count}")
        return rows if self.chosen is None else rows[self.chosen]


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch.

    Attributes:
        every: Rows of all events.
        existing: Rows of the events that exist.
        labeled: Rows of those that have a label.
        sample_weights: Weights ``(B,)`` of the samples, or None.
        outputs: What the outputs mean.
    """

    every: Rows
    existing: Rows
    labeled: Rows
    sample_weights: Tensor | None
    outputs: Outputs


def batch_rows(
    outputs: Outputs,
    student: Signals,
    teachers: Mapping[str, Signals],
    targets: Tensor | None,
    *,
    mask: Tensor | None,
    weights: Tensor | None,
    validate: bool,
    distributions: bool = True,
) -> BatchRows:
    """Make the rows of a batch.

    Args:
        outputs: What the outputs mean.
        student: The student's signals.
        teachers: Name -> signals of a teacher.
        targets: Labels, see :meth:`Outputs.target_rows`.
        mask: Which events exist, of the shape of the outputs without classes; True or nonzero is an event.
        weights: Weights of the samples ``(B,)``.
        validate: Check the values of labels, mask and weights.
        distributions: Check that soft labels are distributions.

    Raises:
        TypeError: Labels have the wrong type.
        ValueError: Shapes do not fit, or a value is out of range.
    """
    logits = student.logits
    rows = Rows(
        outputs.rows(logits),
        {name: outputs.rows(signals.logits) for name, signals in teachers.items()},
        None
        if targets is None
        else outputs.target_rows(targets, logits, validate=validate, distributions=distributions),
        None if weights is None else _event_weights(outputs, logits, weights, validate),
    )
    exists = None if mask is None else _event_mask(outputs, logits, mask)
    known = None
    if outputs.ignore_index is not None and rows.targets is not None and rows.targets.dim() == 1:
        known = rows.targets != outputs.ignore_index
    labeled = _chosen(rows, known if exists is None else exists if known is None else exists & known)
    existing = labeled if known is None or exists is None else _chosen(rows, exists)
    return BatchRows(rows, existing, labeled, None if weights is None else weights.to(logits), outputs)


def _chosen(rows: Rows, mask: Tensor | None) -> Rows:
    return rows if mask is None or bool(mask.all()) else rows.taken(mask)


def _event_mask(outputs: Outputs, logits: Tensor, mask: Tensor) -> Tensor:
    events = outputs.event_shape(logits)
    if tuple(mask.shape) != events:
        raise ShapeError(f"the mask must be {events}, one entry per event, got {shape_text(mask)}")
    return (mask if mask.dtype == torch.bool else mask != 0).flatten()


def _event_weights(outputs: Outputs, logits: Tensor, weights: Tensor, validate: bool) -> Tensor:
    if tuple(weights.shape) != (len(logits),):
        raise ShapeError(f"sample weights must be ({len(logits)},), got {shape_text(weights)}")
    if validate and not bool(torch.isfinite(weights).all() & (weights >= 0).all()):
        raise ValueError(f"sample weights must be finite and at least 0, got {weights.tolist()[:8]}")
    events = outputs.event_shape(logits)
    spread = weights.to(logits).reshape(-1, *[1] * (len(events) - 1))
    return spread.expand(events).flatten()
