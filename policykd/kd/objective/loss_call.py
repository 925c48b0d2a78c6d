"""How an objective calls a loss: which of logits, features, targets and sample indices it gets.

A loss may state what it ``needs``; one that does not (a torch loss, a user's own module) is read from the signature of
its ``forward``: parameters called ``target(s)`` or ``label(s)`` receive the labels, ``index`` or ``indices`` the sample
indices, and up to two others, in order, the student's and the teacher's values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

_TARGETS = ("target", "targets", "label", "labels", "y")
_ON_LABELS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)  # torch's own; its other losses compare two values
_INDICES = ("index", "indices", "idx", "sample_index")


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
        pair: Whether it takes the student's and the teacher's values; False for a loss on the student alone.
        target: Name of the parameter for the labels, or None.
        index: Name of the parameter for the sample indices, or None.
        required: Those of ``target`` and ``index`` that have no default.
    """

    pair: bool
    target: str | None = None
    index: str | None = None
    required: frozenset[str] = frozenset()

    @staticmethod
    def of(loss: nn.Module) -> LossCall:
        """Read what a loss receives.

        Raises:
            TypeError: It requires an argument that an objective does not have.
        """
        if isinstance(loss, _ON_LABELS):
            return LossCall(pair=False, target="target", required=frozenset({"target"}))
        function = loss.function if isinstance(loss, FunctionLoss) else type(loss).forward
        options = frozenset(loss.options) if isinstance(loss, FunctionLoss) else frozenset()
        return _read(function, options, frozenset(_needs(loss)), not isinstance(loss, FunctionLoss))

    def __call__(
        self, loss: nn.Module, student: Any, teacher: Any, targets: Tensor | None, index: Tensor | None
    ) -> Any:
        """Call the loss with what it takes."""
        args = (student, teacher) if self.pair else (student,)
        kwargs = {} if self.target is None else {self.target: targets}
        if self.index is not None:
            kwargs[self.index] = index
        return loss(*args, **kwargs)


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
    # torch's own losses are (input, target): there the "target" is the teacher's value, not a label
    if len(values) == 1 and values[0].name == "input" and target and "targets" not in needs:
        return LossCall(pair=True, index=index)
    required = [p.name for p in values[2:] if p.default is inspect.Parameter.empty]
    if required or not values:
        raise TypeError(f"an objective calls loss(student, teacher, targets=..., index=...), it cannot give {required}")
    needed = {p.name for p in parameters if p.name in (target, index) and p.default is inspect.Parameter.empty}
    return LossCall(pair=len(values) > 1, target=target, index=index, required=frozenset(needed))
