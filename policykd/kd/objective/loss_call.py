"""How an objective calls a loss: which of logits, features, targets and sample indices it gets.

A loss may state what it ``needs``; one that does not (a torch loss, a user's own module) is read from the signature of
its ``forward``: parameters called ``target(s)`` or ``label(s)`` receive the labels, ``index`` or ``indices`` the sample
indices, and up to two others, in order, the student's and the teacher's values. A signature ``(input, target)``, as
torch's losses have it, leaves open whether the target is a label or the teacher: there a term must say it by
``against("labels")`` or ``against("teacher")``, unless it compares features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor, nn

from policykd.errors import ConfigError

Against = Literal["labels", "teacher"]
"""What a loss of two values compares the student with."""

_TARGETS = ("target", "targets", "label", "labels", "y")
_ON_LABELS = (  # those of torch whose target can only be labels
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.MultiMarginLoss,
    nn.BCEWithLogitsLoss,
    nn.MultiLabelSoftMarginLoss,
)
_INDICES = ("index", "indices", "idx", "sample_index")
_REFUSED = {
    nn.KLDivLoss: "takes log-probabilities, and an objective gives logits: use KD()",
    nn.BCELoss: "takes probabilities, and an objective gives logits: use BCE() or nn.BCEWithLogitsLoss()",
    nn.SoftMarginLoss: "takes labels -1 and 1: use BCE(), or wrap it in FunctionLoss(lambda student, target: ...)",
    nn.HingeEmbeddingLoss: "takes labels -1 and 1: wrap it in FunctionLoss(lambda student, target: ...)",
    nn.MultiLabelMarginLoss: "takes lists of classes: use BCE() or nn.MultiLabelSoftMarginLoss()",
    nn.CosineEmbeddingLoss: "takes two inputs and a sign: wrap it in FunctionLoss(lambda student, teacher: ...)",
    nn.MarginRankingLoss: "takes two inputs and a sign: wrap it in FunctionLoss(lambda student, teacher: ...)",
}


class FunctionLoss(nn.Module):
    """A plain function ``f(student, teacher, ...)`` as a loss module.

    Args:
        function: Returns a scalar; its parameter names say what it receives.
        **options: Keyword options passed on at every call.
    """

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the function."""
        return self.function(*args, **kwargs, **self.options)


@dataclass(frozen=True)
class LossCall:
    """What one loss receives.

    Attributes:
        pair: Whether it takes two values, the student's and another; False for a loss on the student alone.
        target: Name of the parameter for the labels, or None.
        index: Name of the parameter for the sample indices, or None.
        required: Those of ``target`` and ``index`` that have no default.
        on_labels: Whether the second value of a pair is the labels instead of the teacher's.
        undecided: Whether the signature leaves that open.
    """

    pair: bool
    target: str | None = None
    index: str | None = None
    required: frozenset[str] = frozenset()
    on_labels: bool = False
    undecided: bool = False

    @staticmethod
    def of(loss: nn.Module, against: Against | None = None) -> LossCall:
        """Read what a loss receives.

        Args:
            loss: The loss.
            against: What a loss of two values compares the student with; None for the teacher, or as yet undecided.

        Raises:
            TypeError: It requires an argument that an objective does not have.
            ConfigError: It cannot be compared with that.
        """
        call = _call_of(loss)
        if against is None:
            return call
        if against not in ("labels", "teacher"):
            raise ConfigError(f"a loss is taken against 'labels' or 'teacher', not {against!r}")
        if not call.pair and (against == "teacher" or call.target is None):
            raise ConfigError(f"{type(loss).__name__} cannot be taken against the {against}: it does not take them")
        return replace(call, on_labels=call.pair and against == "labels", undecided=False)

    @property
    def uses_teacher(self) -> bool:
        """Whether a teacher's values are compared."""
        return self.pair and not self.on_labels

    @property
    def uses_labels(self) -> bool:
        """Whether labels are read, if there are any."""
        return self.on_labels or self.target is not None

    @property
    def requires_labels(self) -> bool:
        """Whether the loss cannot be called without labels."""
        return self.on_labels or self.target in self.required

    def __call__(
        self, loss: nn.Module, student: Any, teacher: Any, targets: Tensor | None, index: Tensor | None
    ) -> Any:
        """Call the loss with what it takes."""
        args = (student, targets if self.on_labels else teacher) if self.pair else (student,)
        kwargs = {} if self.target is None else {self.target: targets}
        if self.index is not None:
            kwargs[self.index] = index
        return loss(*args, **kwargs)


def _call_of(loss: nn.Module) -> LossCall:
    for kind, why in _REFUSED.items():
        if isinstance(loss, kind):
            raise TypeError(f"{kind.__name__} {why}")
    if isinstance(loss, _ON_LABELS):
        return LossCall(pair=False, target="target", required=frozenset({"target"}))
    function = loss.function if isinstance(loss, FunctionLoss) else type(loss).forward
    options = frozenset(loss.options) if isinstance(loss, FunctionLoss) else frozenset()
    return _read(function, options, frozenset(_needs(loss)), not isinstance(loss, FunctionLoss))


def _needs(loss: nn.Module) -> Iterable[str]:
    return getattr(loss, "needs", ())


@lru_cache(maxsize=256)
def _read(function: Callable[..., Any], options: frozenset[str], needs: frozenset[str], bound: bool) -> LossCall:
    parameters = list(inspect.signature(function).parameters.values())[bound:]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.name not in options]
    target = next((name for name in names if name in _TARGETS), None)
    index = next((name for name in names if name in _INDICES), None)
    values = [p for p in parameters if p.kind in kinds and p.name not in (target, index) and p.name not in options]
    if len(values) == 1 and values[0].name == "input" and target and "targets" not in needs:
        return LossCall(pair=True, index=index, undecided=True)
    required = [p.name for p in values[2:] if p.default is inspect.Parameter.empty]
    if required or not values:
        raise TypeError(f"an objective calls loss(student, teacher, targets=..., index=...), it cannot give {required}")
    needed = {p.name for p in parameters if p.name in (target, index) and p.default is inspect.Parameter.empty}
    return LossCall(pair=len(values) > 1, target=target, index=index, required=frozenset(needed))
