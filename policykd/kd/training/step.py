"""One training step whose loss and gradient do not depend on how the batch is split.

Losses that compare samples with one another (similarity, correlation, contrast) are not sums over parts of a batch. So
a split batch is worked off in three moves: run the parts without a graph and keep just their logits and features; put
these together (across processes too) and differentiate the objective with respect to them; run each part again with
its graph and push its share of that derivative through. The price is one extra forward pass of all parts but one when
micro-batches are used, and nothing when only processes share the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from policykd.kd.objective.inputs import check_inputs, count_samples, first_tensor, split_inputs
from policykd.kd.objective.objective import Objective, ObjectiveOutput
from policykd.kd.objective.signals import Signals
from policykd.kd.objective.teachers import check_stored
from policykd.kd.training.batches import Batch
from policykd.kd.training.distributed import gather_rows, rank, shares


@dataclass(frozen=True)
class StepSetting:
    """What stays the same over the steps of a run.

    Attributes:
        micro_batches: Parts per process.
        amp: Whether the networks run in bfloat16.
        seed: Seeds what the losses draw, equally in every process.
    """

    micro_batches: int = 1
    amp: bool = False
    seed: int = 0


def backward_step(
    student: nn.Module,
    teacher: Any,
    objective: Objective,
    batch: Batch,
    setting: StepSetting,
    *,
    number: int,
    step: float,
    total: float,
) -> ObjectiveOutput:
    """Compute the loss of a whole batch and add its gradient to the parameters.

    Args:
        student: The student, in a data-parallel wrapper if there are several processes.
        teacher: What the objective takes as teacher.
        objective: The objective.
        batch: This process's share.
        setting: How to split.
        number: Number of the step, which with the seed fixes what losses draw.
        step: Position for scheduled weights.
        total: Length of the run for scheduled weights.

    Returns:
        The output for the whole batch of all processes.
    """
    if objective.validate:
        check_inputs(batch.x)
    check_stored(teacher, batch.augmented, batch.variants)
    place = {"step": step, "total": total}
    device = first_tensor(batch.x).device
    if setting.micro_batches == 1 and len(batch.sizes) == 1:
        with _autocast(device, setting.amp):
            taught = objective.teacher_signals(teacher, batch.x, batch.teacher_index)
            own = objective.student_signals(student, batch.x)
        with _drawing(setting.seed, number, device):
            out = objective.combine(
                own, taught, batch.targets, index=batch.index, mask=batch.mask, weights=batch.weights, **place
            )
        out.loss.backward()
        return out
    return _split_step(student, teacher, objective, batch, setting, number, place)


def _split_step(
    student: nn.Module,
    teacher: Any,
    objective: Objective,
    batch: Batch,
    setting: StepSetting,
    number: int,
    place: Mapping[str, Any],
) -> ObjectiveOutput:
    parts = _Parts(student, objective, batch, setting)
    local, graph = parts.first_pass()
    taught = parts.teachers(teacher)
    whole = local.replaced([gather_rows(t, batch.sizes).requires_grad_(t.is_floating_point()) for t in local.tensors()])
    names = ("targets", "index", "mask", "weights")
    rows = {name: getattr(batch, name) for name in names}
    gathered: dict[str, Any] = {
        name: None if part is None else gather_rows(part, batch.sizes) for name, part in rows.items()
    }
    with _drawing(setting.seed, number, first_tensor(batch.x).device):
        out = objective.combine(whole, taught, **gathered, **place)
    out.loss.backward()
    start = sum(batch.sizes[: rank()])
    # the data-parallel wrapper averages over processes, and waits for every parameter: no gradient is a zero one there
    world = len(batch.sizes)
    grads = [torch.zeros_like(t) if t.grad is None and world > 1 else t.grad for t in whole.tensors()]
    parts.second_pass(graph, [None if g is None else g[start : start + batch.sizes[rank()]] * world for g in grads])
    return out


class _Parts:
    """The micro-batches of one process."""

    def __init__(self, student: nn.Module, objective: Objective, batch: Batch, setting: StepSetting) -> None:
        self.student, self.objective, self.amp = student, objective, setting.amp
        self.sizes = [size for size in shares(count_samples(batch.x), setting.micro_batches) if size]
        self.batch, self.inputs, self.device = batch, split_inputs(batch.x, self.sizes), first_tensor(batch.x).device
        self.random: list[list[Tensor]] = []

    def first_pass(self) -> tuple[Signals, Signals]:
        """Signals of all parts, off the graph but for the last part's, whose graph is kept and returned."""
        done: list[Signals] = []
        for place, x in enumerate(self.inputs):
            last = place == len(self.inputs) - 1
            self.random.append(_random_state(self.device))
            with (
                _autocast(self.device, self.amp),
                torch.set_grad_enabled(last),
                self._synchronized(len(self.inputs) == 1),
            ):
                done.append(self.objective.student_signals(self.student, x))
        detached = [part.replaced([tensor.detach() for tensor in part.tensors()]) for part in done]
        return Signals.concatenated(detached), done[-1]

    def teachers(self, teacher: Any) -> dict[str, Signals]:
        """The teachers' signals for the whole batch of all processes."""
        rows = self.batch.teacher_index
        indices = [None] * len(self.sizes) if rows is None else rows.split(self.sizes)
        parts = []
        for x, index in zip(self.inputs, indices, strict=True):
            with _autocast(self.device, self.amp):
                parts.append(self.objective.teacher_signals(teacher, x, index))
        whole = {name: Signals.concatenated([part[name] for part in parts]) for name in parts[0]}
        return {
            name: signals.replaced([gather_rows(tensor, self.batch.sizes) for tensor in signals.tensors()])
            for name, signals in whole.items()
        }

    def second_pass(self, graph: Signals, grads: list[Tensor | None]) -> None:
        """Push the derivative of each part through the student, the last part first since its graph is there."""
        after = _random_state(self.device)
        buffers = [(buffer, buffer.clone()) for buffer in self.student.buffers()] if len(self.inputs) > 1 else []
        last = len(self.inputs) - 1
        with self._synchronized(last == 0):
            self._push(graph, grads, last)
        for place, x in enumerate(self.inputs[:last]):
            _set_random_state(self.device, self.random[place])
            with self._synchronized(place == last - 1):
                with _autocast(self.device, self.amp):
                    again = self.objective.student_signals(self.student, x)
                self._push(again, grads, place)
        # the first pass has already counted every part in the running statistics
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        _set_random_state(self.device, after)

    def _push(self, signals: Signals, grads: list[Tensor | None], place: int) -> None:
        start = sum(self.sizes[:place])
        rows = slice(start, start + self.sizes[place])
        reached = [
            (t, g[rows]) for t, g in zip(signals.tensors(), grads, strict=True) if g is not None and t.requires_grad
        ]
        torch.autograd.backward([tensor for tensor, _ in reached], [grad for _, grad in reached])

    @contextmanager
    def _synchronized(self, final: bool) -> Iterator[None]:
        """Gradients are averaged over processes only at the last backward pass."""
        wrapped = isinstance(self.student, nn.parallel.DistributedDataParallel)
        with self.student.no_sync() if wrapped and not final else contextlib.nullcontext():  # type: ignore[operator]
            yield


def _autocast(device: torch.device, enabled: bool) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def _drawing(seed: int, number: int, device: torch.device) -> Iterator[None]:
    """What a loss draws depends on the seed and the step alone, so that all processes draw the same."""
    before = _random_state(device)
    _seed(device, (seed * 1_000_003 + number) % 2**63)
    try:
        yield
    finally:
        _set_random_state(device, before)


def _seed(device: torch.device, value: int) -> None:
    """Seed the generators that `_random_state` reads; `torch.manual_seed` takes 80 times as long, for every device."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
