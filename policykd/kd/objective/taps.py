"""Taps: read what flows through a layer of any torch module, by the layer's dotted path.

Taps know modules and nothing of losses. A tap is written as a string::

    "layer2"              the output of ``model.layer2``
    "fc:input"            what goes into ``model.fc``
    "lstm[0]"             the first item of a tuple output, "head[logits]" an entry of a dict output
    "act@0"               the first of several calls of one layer in a forward pass ("act" is the last)
    "layer3>fc"           the output of ``layer3`` sent place by place through ``fc``: maps of class logits

The grammar is ``path[:input|:output][[item]...][@call][>layer]``. Hooks live only inside ``with taps.attach(model)``;
the model's ``state_dict`` and class are never touched, and nothing stays behind after the block, exception or not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from policykd.errors import ConfigError

_POINT = re.compile(
    r"(?P<path>[^:\[\]@>]*)(?::(?P<side>\w+))?(?P<items>(?:\[[^\[\]]+\])*)(?:@(?P<call>-?\d+))?(?:>(?P<through>[^>]+))?",
    re.ASCII,
)


class TapError(ConfigError):
    """A tap that names no layer, or whose layer gave something else than was asked for."""


@dataclass(frozen=True)
class TapPoint:
    """Where a tap sits.

    Attributes:
        path: Dotted path of the layer; the empty string is the model itself.
        side: ``"output"`` or ``"input"``.
        items: Keys or positions that are followed into tuple and dict values, outermost first.
        call: Which call of the layer counts when it runs several times in one forward pass.
        through: Path of a layer of vectors that is applied to every place of the value, or None.
    """

    path: str
    side: str = "output"
    items: tuple[str | int, ...] = ()
    call: int = -1
    through: str | None = None

    @classmethod
    def parse(cls, text: str) -> TapPoint:
        """Read the string form, for example ``"fc:input"`` or ``"lstm[0]@1"``.

        Raises:
            TapError: The text does not follow ``path[:input|:output][[item]...][@call][>layer]``.
        """
        match = _POINT.fullmatch(text)
        if match is None or match["side"] not in (None, "input", "output"):
            raise TapError(
                f"cannot read the tap {text!r}: write 'path[:input|:output][[item]...][@call][>layer]', e.g. 'fc:input'"
            )
        items = re.findall(r"\[([^\[\]]+)\]", match["items"])
        return cls(
            path=match["path"],
            side=match["side"] or "output",
            items=tuple(int(item) if re.fullmatch(r"-?\d+", item) else item for item in items),
            call=int(match["call"]) if match["call"] else -1,
            through=match["through"],
        )


def unwrap(module: nn.Module) -> nn.Module:
    """The user's own module inside a data-parallel or compiled wrapper."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while True:
        if isinstance(module, wrappers):
            module = module.module
        elif isinstance(original := module._modules.get("_orig_mod"), nn.Module):
            module = original
        else:
            return module


def find_layer(model: nn.Module, path: str) -> nn.Module:
    """The layer at a dotted path.

    Raises:
        TapError: The layer does not exist; the message names the closest paths.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    if path in layers:
        return layers[path]
    names = [name for name in layers if name]
    close = difflib.get_close_matches(path, names, n=3, cutoff=0.4)
    hint = f"close matches: {', '.join(close)}" if close else f"it has: {', '.join(names[:12])}"
    raise TapError(f"{type(model).__name__} has no layer {path!r}; {hint}")


@dataclass(frozen=True)
class _Call:
    value: Any
    versions: tuple[tuple[Tensor, int], ...]


class Captured(Mapping[str, Any]):
    """What the taps of one attached model saw: ``captured["mid"]`` is the value of the tap called ``mid``.

    Values are tensors where the layer gives tensors, otherwise the layer's own tuple or dict. Reading is checked: a
    layer that did not run, an item that is not there and a tensor that a later in-place operation overwrote raise
    ``TapError``.
    """

    def __init__(self, points: Mapping[str, TapPoint], *, compiled: bool = False) -> None:
        self._points, self._compiled = dict(points), compiled
        self._calls: dict[str, list[_Call]] = {name: [] for name in points}

    def __getitem__(self, name: str) -> Any:
        if name not in self._points:
            raise KeyError(f"no tap {name!r}; there are: {', '.join(self._points) or 'none'}")
        calls, point = self._calls[name], self._points[name]
        if not calls:
            hint = ""
            if self._compiled:
                hint = (
                    "; a compiled model that ran without taps before keeps a graph without them: call "
                    "torch.compiler.reset(), or run it with its taps first"
                )
            raise TapError(f"tap {name!r}: the layer {point.path!r} did not run in this forward pass{hint}")
        if not -len(calls) <= point.call < len(calls):
            raise TapError(f"tap {name!r} asks for call {point.call}, but {point.path!r} ran {len(calls)} time(s)")
        return self._read(name, calls[point.call])

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def calls(self, name: str) -> list[Any]:
        """The values of every call of the layer since the forward pass began, in order."""
        return [self._read(name, call) for call in self._calls[name]]

    def tensor(self, name: str) -> Tensor:
        """The value of a tap that must be one tensor.

        Raises:
            TapError: The layer gave a tuple or a dict and the tap does not say which item to take.
        """
        value = self[name]
        if isinstance(value, Tensor):
            return value
        keys = (
            list(value)
            if isinstance(value, Mapping)
            else list(range(len(value)))
            if isinstance(value, Sequence)
            else []
        )
        path = self._points[name].path
        raise TapError(
            f"tap {name!r}: {path!r} gives a {type(value).__name__}, not a tensor"
            + (f"; say which item, one of {keys}, e.g. '{path}[{keys[0]}]'" if keys else "")
        )

    def clear(self) -> None:
        """Forget every value (and the graphs that they hold)."""
        for calls in self._calls.values():
            calls.clear()

    def _read(self, name: str, call: _Call) -> Any:
        for tensor, version in call.versions:
            if tensor._version != version:
                raise TapError(
                    f"tap {name!r}: the value of {self._points[name].path!r} was overwritten in place by a later "
                    "layer; build that layer with inplace=False, or tap its output instead"
                )
        return call.value

    def _record(self, name: str, value: Any) -> None:
        # a compiled graph has no versions; it writes nothing in place that a later layer could see
        tracked = () if torch.compiler.is_compiling() else (t for t in _tensors(value) if not t.is_inference())
        self._calls[name].append(_Call(value, tuple((t, t._version) for t in tracked)))


class Taps:
    """A set of named taps that can be attached to any number of models.

    Args:
        points: Name -> tap. An iterable of strings names each tap after its own text.

    Example:
        >>> taps = Taps({"mid": "0", "into_head": "1:input"})
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> with taps.attach(model) as seen:
        ...     logits = model(torch.zeros(5, 4))
        >>> seen["mid"].shape
        torch.Size([5, 3])
    """

    def __init__(self, points: Mapping[str, str | TapPoint] | Iterable[str]) -> None:
        named = points if isinstance(points, Mapping) else {text: text for text in points}
        self.points = {
            name: point if isinstance(point, TapPoint) else TapPoint.parse(point) for name, point in named.items()
        }

    @contextmanager
    def attach(self, model: nn.Module, *, detach: bool = False, accumulate: bool = False) -> Iterator[Captured]:
        """Hook the taps into a model for the length of a ``with`` block.

        Args:
            model: Any module; data-parallel and compiled wrappers are looked through.
            detach: Cut the captured tensors off the graph (for a teacher).
            accumulate: Keep the values of earlier forward passes; otherwise each call of the model starts afresh.

        Yields:
            The captured values, which stay readable after the block.

        Raises:
            TapError: A path does not exist in the model.
        """
        compiled = any("_orig_mod" in module._modules for module in model.modules())
        model = unwrap(model)
        layers = {name: find_layer(model, point.path) for name, point in self.points.items()}
        captured = Captured(self.points, compiled=compiled)
        handles: list[RemovableHandle] = []
        try:
            if not accumulate:
                handles.append(model.register_forward_pre_hook(lambda *_: captured.clear()))
            for name, layer in layers.items():
                point = self.points[name]
                through = None if point.through is None else find_layer(model, point.through)
                handles.append(_hook(layer, name, point, through, captured, detach))
            yield captured
        finally:
            for handle in handles:
                handle.remove()


def _hook(
    layer: nn.Module, name: str, point: TapPoint, through: nn.Module | None, captured: Captured, detach: bool
) -> RemovableHandle:
    def record(value: Any) -> None:
        value = _follow(value, point, name)
        if through is not None:
            # forward() and not a call, because a call would set off taps on that layer once more
            value = through.forward(value.movedim(1, -1)).movedim(-1, 1)
        captured._record(name, _map_tensors(torch.Tensor.detach, value) if detach else value)

    if point.side == "output":
        return layer.register_forward_hook(lambda module, args, output: record(output))

    def record_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        alone = len(args) == 1 and not point.items  # the common case: one tensor goes in
        record(args[0] if alone else {**dict(enumerate(args)), **kwargs})

    return layer.register_forward_pre_hook(record_input, with_kwargs=True)


def _follow(value: Any, point: TapPoint, name: str) -> Any:
    for item in point.items:
        try:
            value = value[item]
        except (KeyError, IndexError, TypeError):
            keys = list(value) if isinstance(value, Mapping) else f"a {type(value).__name__}"
            raise TapError(f"tap {name!r}: {point.path!r} has no item {item!r}; it gives {keys}") from None
    return value


def _map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
