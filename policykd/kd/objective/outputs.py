"""What the outputs of student and teacher mean: how they are read, which axis holds the classes, what kind they are.

An objective reads both networks through one :class:`Outputs`, checks labels against it, and turns outputs with events
(tokens, pixels, time steps) into rows ``(N, C)``, one per event, which is the shape that losses on logits take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import torch
from torch import Tensor

from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses import Kind
from policykd.kd.objective.signals import shape_text
from policykd.kd.options import check_choice
from policykd.kd.shapes import check_soft_labels

Reader: TypeAlias = str | int | Callable[[Any], Tensor] | None
"""Where a network's output is in what it returns: a key or an attribute, a position, a function, or None for the
tensor itself or its entry ``logits``."""


@dataclass(frozen=True)
class Outputs:
    """How outputs are read and what their axes mean; see ``docs/kd.md`` for examples.

    Attributes:
        layout: The axes in order: B is the batch, C the classes or values, every other letter an event axis. ``"BC"``
            for one prediction per sample, ``"BTC"`` for tokens, ``"BCT"`` for time steps, ``"BCHW"`` for segmentation.
            Regression may leave out C: ``"B"`` is one value per sample.
        kind: ``"single_label"``, ``"multi_label"`` or ``"regression"``.
        ignore_index: Label of events without a label. They are left out of every term, unless a mask says which events
            exist; then only terms with labels leave them out.
        read: Where the student's output is in what it returns, see :data:`Reader`.
        read_teacher: The same for teachers that are modules; None reads them like the student.

    Raises:
        ConfigError: A field is out of range.
    """

    layout: str = "BC"
    kind: Kind = "single_label"
    ignore_index: int | None = None
    read: Reader = None
    read_teacher: Reader = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(Kind))
        letters = set(self.layout)
        if self.layout[:1] != "B" or len(letters) != len(self.layout) or not self.layout.isalpha():
            raise ConfigError(
                f"layout is {self.layout!r}; it must name every axis once, batch first: BC, BTC, BCT or BCHW"
            )
        if "C" not in letters and self.kind != "regression":
            raise ConfigError(f"layout {self.layout!r} has no class axis C, which only regression may leave out")
        if self.ignore_index is not None and self.kind != "single_label":
            raise ConfigError(f"ignore_index needs kind='single_label'; for {self.kind} give a mask of the events")

    @property
    def plain(self) -> bool:
        """Whether every sample is one row already."""
        return self.layout == "BC"

    @property
    def has_events(self) -> bool:
        """Whether a sample has several rows."""
        return len(self.layout.replace("C", "")) > 1

    @property
    def class_axis(self) -> int | None:
        """Position of C, or None."""
        return self.layout.index("C") if "C" in self.layout else None

    def student_tensor(self, output: object, batch: int, what: str) -> Tensor:
        """Read a student's output; see :meth:`checked` for errors."""
        return self.checked(read_output(output, self.read, what), batch, what)

    def teacher_tensor(self, output: object, batch: int, what: str) -> Tensor:
        """Read the output of a teacher that is a module; see :meth:`checked` for errors."""
        reader = self.read if self.read_teacher is None else self.read_teacher
        return self.checked(read_output(output, reader, what), batch, what)

    def checked(self, tensor: Tensor, batch: int, what: str) -> Tensor:
        """Check the number of axes and the batch of an output.

        Raises:
            ShapeError: They do not fit the layout.
        """
        if tensor.dim() == len(self.layout) and tensor.shape[0] == batch:
            return tensor
        axes = ", ".join([str(batch), *self.layout[1:]])
        hint = ""
        if tensor.dim() > 2 and self.plain:
            last, first = "B" + "TSR"[: tensor.dim() - 2] + "C", "BC" + ("T", "HW", "DHW")[min(tensor.dim(), 5) - 3]
            hint = (
                f"; if it has events, say which axis holds the classes: Objective(..., outputs=Outputs({last!r})) or "
                f"Outputs({first!r})"
            )
        elif tensor.dim() == 1 and self.plain and self.kind == "regression":
            hint = "; for one value per sample: Outputs('B', kind='regression')"
        elif tensor.dim() == 2 and self.plain and batch and tensor.shape[0] % batch == 0:
            hint = (
                f"; if its rows are {tensor.shape[0] // batch} events per sample, let it return (B, T, C) and use "
                "Objective(..., outputs=Outputs('BTC'))"
            )
        noun = "values" if self.kind == "regression" else "logits"
        raise ShapeError(
            f"{what} must return {noun} ({axes}) for a batch of {batch}, it returned {shape_text(tensor)}{hint}"
        )

    def event_shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Return the shape without the class axis: ``(B,)`` and the sizes of the event axes."""
        shape = list(tensor.shape)
        if self.class_axis is not None:
            del shape[self.class_axis]
        return tuple(shape)

    def rows(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this layout as rows ``(N, C)``, one per event, the batch outermost."""
        if self.plain:
            return tensor
        if self.class_axis is None:
            return tensor.reshape(-1, 1)
        return tensor.movedim(self.class_axis, -1).flatten(0, -2)

    def blank_targets(self, logits: Tensor) -> Tensor:
        """Return valid labels for outputs, all of them 0."""
        if self.kind == "single_label":
            return torch.zeros(self.event_shape(logits), dtype=torch.long, device=logits.device)
        return torch.zeros_like(logits)

    def target_rows(self, targets: Tensor, logits: Tensor, *, validate: bool, distributions: bool = True) -> Tensor:
        """Check labels against outputs of this layout and return them as rows.

        Args:
            targets: ``single_label``: classes of the event shape, or distributions in the layout; ``multi_label``: 0
                and 1, or probabilities, in the layout; ``regression``: values in the layout, or half as many where
                the outputs are means and log standard deviations.
            logits: The student's outputs.
            validate: Check the values, too, not only types and shapes.
            distributions: Check that rows of soft labels are distributions; off where losses do so, or define what
                the rows are.

        Returns:
            ``(N,)`` classes, or ``(N, C)``.

        Raises:
            TypeError: Labels have the wrong type.
            ValueError: The shape is wrong, or a label is outside its range.
        """
        if self.kind == "single_label":
            return self._class_rows(targets, logits, validate, distributions)
        values = targets if targets.is_floating_point() else targets.to(logits.dtype)
        if not self._same_or_half(targets, logits):
            raise ShapeError(f"{self.kind} targets must be {shape_text(logits)}, got {shape_text(targets)}")
        low, high = values.amin(), values.amax()
        if validate and self.kind == "multi_label" and not bool((low >= 0) & (high <= 1)):
            raise ValueError(f"multi_label targets must be in [0, 1], got {float(low):.4g} to {float(high):.4g}")
        return self.rows(values)

    def _same_or_half(self, targets: Tensor, logits: Tensor) -> bool:
        """Whether targets have the outputs' shape, or half the values where these are means and deviations."""
        if self.kind != "regression" or self.class_axis is None or targets.dim() != logits.dim():
            return targets.shape == logits.shape
        axis, half = self.class_axis, list(logits.shape)
        half[axis] = targets.shape[axis]
        return list(targets.shape) == half and targets.shape[axis] in (logits.shape[axis], logits.shape[axis] / 2)

    def _class_rows(self, targets: Tensor, logits: Tensor, validate: bool, distributions: bool) -> Tensor:
        events, classes = self.event_shape(logits), logits.shape[self.layout.index("C")]
        if targets.is_floating_point() and targets.dim() == logits.dim():
            if targets.shape != logits.shape:
                raise ShapeError(f"soft targets must be {shape_text(logits)}, got {shape_text(targets)}")
            rows = self.rows(targets)
            if validate and distributions:
                check_soft_labels(rows)
            return rows
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            axes = self.layout.replace("C", "")
            raise TypeError(
                f"targets must be integer class labels ({', '.join(axes)}{',' * (len(axes) == 1)}), got "
                f"{targets.dtype} {shape_text(targets)}"
            )
        if tuple(targets.shape) != events:
            raise ShapeError(f"targets must be {events} for a batch of {events[0]}, got {shape_text(targets)}")
        if validate and targets.numel():
            self._check_range(targets, classes)
        return targets.flatten()

    def _check_range(self, targets: Tensor, classes: int) -> None:
        known = targets if self.ignore_index is None else targets[targets != self.ignore_index]
        if not known.numel():
            return
        low, high = (int(value) for value in torch.aminmax(known))
        if low < 0 or high >= classes:
            extra = "" if self.ignore_index is None else f" or {self.ignore_index}"
            hint = "; outputs=Outputs(..., ignore_index=-100) leaves such labels out" if low == -100 else ""
            raise ValueError(
                f"labels must be in [0, {classes - 1}]{extra} for logits with {classes} classes, "
                f"got {low} to {high}{hint}"
            )


def read_output(output: object, reader: Reader, what: str) -> Tensor:
    """Read a network's output out of what it returned.

    Args:
        output: What the network returned.
        reader: See :data:`Reader`.
        what: The network in words, for messages.

    Raises:
        TypeError: The entry does not exist, or it is not a tensor; the message names the entries.
    """
    if reader is None:
        found = output if isinstance(output, Tensor) else _entry(output, "logits")
    elif callable(reader):
        found = reader(output)
    else:
        found = _entry(output, reader)
    if isinstance(found, Tensor):
        return found
    given = f"entry {reader!r} of its" if found is not None and reader is not None else "its"
    raise TypeError(
        f"{what} must return a tensor or something that has one: {given} output is {_content(output)}; say where it "
        "is, e.g. Objective(..., outputs=Outputs(read='logits')), Outputs(read=0) or Outputs(read=lambda out: ...)"
    )


def _entry(output: object, key: str | int) -> object:
    try:
        if isinstance(output, Mapping) or isinstance(key, int):
            return output[key]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        return None
    return getattr(output, key, None)


def _content(output: object) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {sorted(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {[type(item).__name__ for item in output]}"
    return f"a {type(output).__name__}"
