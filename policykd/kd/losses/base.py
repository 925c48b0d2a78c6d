"""What every loss module has in common: a name, what it eats, and a reduction that was checked when it was built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction

if TYPE_CHECKING:
    from policykd.kd.objective.terms import Term
    from policykd.schedules import Schedule

Signal = Literal["logits", "features", "levels", "maps"]


class KDLoss(nn.Module):
    """A loss term: ``forward`` takes the tensors named in `inputs`, in this order.

    Attributes:
        name: Key in the registry. signal: What student and teacher give: ``logits`` (B, C), ``features`` (one tapped
        tensor each), ``levels`` (several
            tapped tensors each), ``maps`` (logits at every place).
        inputs: Names of the arguments of ``forward``: among ``student``, ``teacher``, ``target``, ``index``.
        batch_coupled: Whether the value depends on the batch by definition, so that the mean over parts of a batch is
            another number than the value of the whole.
    """

    name: ClassVar[str]
    signal: ClassVar[Signal] = "logits"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher")
    batch_coupled: ClassVar[bool] = False

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
        self.reduction: Reduction = reduction

    @property
    def relational(self) -> bool:
        """Whether shapes of student and teacher may differ: the loss checks them itself and says what it needs."""
        return self.signal != "logits"

    def __mul__(self, weight: float | Schedule) -> Term:
        """A weighted term of an objective: ``0.9 * KD()``; see `policykd.kd.objective.terms.Term`."""
        return self._term() * weight

    __rmul__ = __mul__

    def on(self, *taps: Any, **projectors: Any) -> Term:
        """A term that reads features: ``SP().on("layer3")``; arguments as in `policykd.kd.objective.terms.Term.on`."""
        return self._term().on(*taps, **projectors)

    def _term(self) -> Term:
        from policykd.kd.objective.terms import Term  # here only: losses know tensors, terms know taps and modules

        return Term(self)

    def extra_repr(self) -> str:
        """Show the plain options."""
        return ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if _is_option(key, value))


def _is_option(key: str, value: object) -> bool:
    return not key.startswith("_") and key != "training" and isinstance(value, bool | int | float | str | tuple)


class GatheredLoss(KDLoss):
    """A loss that compares samples with one another, and can compare those of all processes.

    With ``gather_distributed=True`` student and teacher tensors of all processes are joined before the loss, with
    gradients, so that two processes of b samples give the loss and, after the averaging of gradients that
    ``DistributedDataParallel`` does, the gradient of one process with 2 b. Batches must have one size on all processes.
    """

    batch_coupled: ClassVar[bool] = True

    def __init__(self, *, reduction: Reduction = "mean", gather_distributed: bool = False) -> None:
        super().__init__(reduction=reduction)
        if gather_distributed and reduction not in ("mean", "batchmean"):
            raise ValueError(f"gather_distributed needs reduction mean or batchmean, got {reduction!r}")
        self.gather_distributed = gather_distributed

    def _joined(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if not self.gather_distributed or not torch.distributed.is_initialized():
            return student, teacher
        from policykd.kd.losses.gather import gather_batch

        return gather_batch(student), gather_batch(teacher.detach())
