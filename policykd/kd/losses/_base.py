"""The base of loss modules: a name, the inputs of ``forward``, and a reduction that was checked when it was built.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from torch import nn
from typing_extensions import override

from policykd.divergences import Reduction
from policykd.kd.options import check_choice

if TYPE_CHECKING:
    from policykd.kd.objective.loss_call import Against
    from policykd.kd.objective.terms import Term
    from policykd.schedules import Schedule

Kind = Literal["single_label", "multi_label", "regression"]
"""What an output says: one class, independent labels, or real values."""
Signal = Literal["logits", "features", "levels", "maps"]
"""What student and teacher give: ``logits`` (B, C), ``features`` (one tapped tensor each), ``levels`` (several tapped
tensors each), ``maps`` (logits at every place)."""


class KDLoss(nn.Module):
    """A loss term: ``forward`` takes the tensors named in `inputs`, in this order.

    Attributes:
        name: Key in the registry.
        signal: What student and teacher give, see :data:`Signal`.
        inputs: Names of the arguments of ``forward``: among ``student``, ``teacher``, ``target``, ``index``.
        batch_coupled: Whether the value depends on the batch by definition, so that the mean over parts of a batch is
            another number than the value of the whole.
        kinds: Kinds of outputs that a loss on logits has a meaning for.
        channels_first: Whether axis 1 of features must hold the channels, so that tokens ``(B, T, D)`` would be read
            along the wrong axis.
    """

    name: ClassVar[str]
    signal: ClassVar[Signal] = "logits"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher")
    batch_coupled: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = ("single_label",)
    channels_first: ClassVar[bool] = False

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_choice("reduction", reduction, get_args(Reduction))
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

    def against(self, what: Against) -> Term:
        """A term of a loss of two values that compares the student with ``"labels"`` or with the ``"teacher"``."""
        return self._term().against(what)

    def _term(self) -> Term:
        from policykd.kd.objective.terms import Term  # here only: losses know tensors, terms know taps and modules

        return Term(self)

    @override
    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if _is_option(key, value))


def _is_option(key: str, value: object) -> bool:
    return not key.startswith("_") and key != "training" and isinstance(value, bool | int | float | str | tuple)
