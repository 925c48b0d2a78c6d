"""Losses as functions, and the modules made from them.

A loss function takes student, teacher, target and index tensors by position and its options by keyword. A loss that
owns nothing that is trained or remembered needs no class: ``DKD = loss_module(dkd)``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, cast, overload

from torch import Tensor

from policykd.divergences import full_precision
from policykd.kd.losses._base import KDLoss, Kind, Signal
from policykd.kd.losses._gather import check_gathering
from policykd.kd.options import check_options, option_checks

P = ParamSpec("P")
_INPUTS = ("student", "teacher", "target", "index")


def loss_function(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorate a loss: its options are checked against their annotations, and autocast is off while it runs."""
    checks, precise = option_checks(function), full_precision(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        for name, value in kwargs.items():
            if name in checks:
                checks[name](name, value)
        return precise(*args, **kwargs)

    return checked


class LossClass(Protocol[P]):
    """A class of loss modules as static tools see it: calling it takes the options of the loss's function."""

    __name__: str
    name: str
    signal: Signal
    inputs: tuple[str, ...]
    batch_coupled: bool
    kinds: tuple[Kind, ...]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> KDLoss:
        """Build the module."""
        ...


class FunctionModule(KDLoss):
    """A loss module that calls a function; base of what :func:`loss_module` makes.

    The options are attributes, read at every call.
    """

    function: ClassVar[Callable[..., Tensor]]
    options: ClassVar[inspect.Signature]

    def __init__(self, **given: Any) -> None:
        options = self._complete(given)
        check_options(self.function, options)
        reduction = options.pop("reduction", "mean")
        super().__init__(reduction=reduction)
        if "gather_distributed" in options:
            self.gather_distributed = options.pop("gather_distributed")
            check_gathering(self.gather_distributed, reduction)
        for name, value in options.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)

    @classmethod
    def _complete(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The given options with the defaults of the others, in the order of the function."""
        known = list(cls.options.parameters)
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise TypeError(f"{cls.__name__} has no option '{name}'{hint} (valid: {', '.join(known)})")
        bound = cls.options.bind(**given)
        bound.apply_defaults()
        return bound.arguments

    def forward(self, *tensors: Any, **named: Any) -> Tensor:
        """Call the function with the tensors and the module's options."""
        return type(self).function(*tensors, **named, **{name: getattr(self, name) for name in self.options.parameters})


@overload
def loss_module(
    function: Callable[Concatenate[Any, Any, Any, P], Tensor],
    class_name: str = ...,
    *,
    signal: Signal = ...,
    batch_coupled: bool = ...,
    kinds: tuple[Kind, ...] = ...,
    channels_first: bool = ...,
) -> LossClass[P]: ...
@overload
def loss_module(
    function: Callable[Concatenate[Any, Any, P], Tensor],
    class_name: str = ...,
    *,
    signal: Signal = ...,
    batch_coupled: bool = ...,
    kinds: tuple[Kind, ...] = ...,
    channels_first: bool = ...,
) -> LossClass[P]: ...
def loss_module(
    function: Callable[..., Tensor],
    class_name: str = "",
    *,
    signal: Signal = "logits",
    batch_coupled: bool = False,
    kinds: tuple[Kind, ...] = ("single_label",),
    channels_first: bool = False,
) -> LossClass[Any]:
    """Return the module class of a loss function; bind it to its class name, so that instances can be pickled.

    Args:
        function: Its positional parameters are among student, teacher, target and index; all others are options, which
            become the options of the class, with the same defaults, checks and types.
        class_name: Name of the class; by default the function's in upper case without underscores.
        signal: What student and teacher give, see :data:`policykd.kd.losses.Signal`.
        batch_coupled: Whether the value depends on the batch by definition.
        kinds: Kinds of outputs that a loss on logits has a meaning for.
        channels_first: Whether axis 1 of features must hold the channels.

    Raises:
        TypeError: the function takes another tensor by position.
    """
    inputs, options = _split_parameters(function)
    summary = (function.__doc__ or "").partition("\n")[0]
    body = {
        "__module__": function.__module__,
        "__doc__": f"{summary}\n\nEquation, options and errors: :func:`{function.__module__}.{function.__name__}`.",
        "name": function.__name__,
        "signal": signal,
        "inputs": tuple(parameter.name for parameter in inputs),
        "batch_coupled": batch_coupled,
        "kinds": kinds,
        "channels_first": channels_first,
        "function": staticmethod(function),
        "options": inspect.Signature(options),
        "__init__": _with_signature(FunctionModule.__init__, options),
        "forward": _with_signature(FunctionModule.forward, inputs),
    }
    made = type(class_name or function.__name__.replace("_", "").upper(), (FunctionModule,), body)
    return cast(LossClass[Any], made)


def _split_parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """The tensors that a loss function takes by position, and its options."""
    parameters = list(inspect.signature(function).parameters.values())
    inputs = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if wrong := [str(p) for p in inputs if p.name not in _INPUTS or p.kind is not p.POSITIONAL_OR_KEYWORD]:
        raise TypeError(
            f"{function.__name__} takes {', '.join(wrong)} by position; loss_module allows {', '.join(_INPUTS)}, "
            "options are keyword-only"
        )
    return inputs, [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def _with_signature(method: Callable[..., Any], parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """A method with other parameters in its signature, which objectives, help and editors read."""

    @functools.wraps(method)
    def call(self: FunctionModule, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)

    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    call.__signature__ = inspect.Signature([this, *parameters])  # type: ignore[attr-defined]
    return call
