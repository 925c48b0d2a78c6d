"""Reads the data inside a pickle without unpickling it.

The python version of CIFAR comes as pickles, and a pickle is a program that may call anything. Here ``pickletools``
only *parses* the file into opcodes, and a small machine of our own carries out the few that describe plain data:
numbers, strings, bytes, lists, tuples, dicts and numpy arrays of plain numbers; an array of objects becomes a list. No
class is looked up, nothing is imported and nothing is called: the names that an array needs are matched as text, and
the array is rebuilt with ``numpy.frombuffer``. Any other opcode or name is an error.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from policykd.errors import PolicykdError


class UnsafePickleError(PolicykdError, ValueError):
    """The pickle holds something else than plain data."""


@dataclass(frozen=True)
class _Name:
    """A global that the pickle mentions; never resolved."""

    text: str


class _Unbuilt:
    """An array or data type whose state follows later in the file."""

    def __init__(self, kind: str, dtype: str = "") -> None:
        self.kind, self.dtype, self.order = kind, dtype, "|"
        self.array: np.ndarray | list[Any] = np.zeros(0)


_MARK = object()
_ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_NAMES = _ARRAY | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_OBJECTS = "O8"
_DTYPES = {_OBJECTS, "b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}


def read_plain_pickle(content: bytes) -> Any:
    """The plain data inside a pickle; strings of Python 2 come out as bytes.

    Raises:
        UnsafePickleError: It holds something else, or is cut short.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return _Result(len(content)).finished(machine.stack.pop())
            machine.run(opcode.name, argument)
    except UnsafePickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnsafePickleError(f"the pickle is damaged: {error}") from None
    raise UnsafePickleError("the pickle has no end")


class _Machine:
    """A stack and a memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in ("SHORT_BINSTRING", "BINSTRING"):
            self.stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._name(argument)
        elif (action := getattr(self, f"_{name.lower()}", None)) is not None and name in _ACTIONS:
            action()
        else:
            raise UnsafePickleError(f"the pickle uses {name}, which plain data does not need")

    def _name(self, text: str | None) -> None:
        if text is None:
            attribute, module = self.stack.pop(), self.stack.pop()
            text = f"{module} {attribute}"
        if text not in _NAMES:
            raise UnsafePickleError(f"the pickle asks for {text.replace(' ', '.')!r}, which plain data does not need")
        self.stack.append(_Name(text))

    def _marked(self) -> list[Any]:
        place = max(number for number, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _tuple(self) -> None:
        self.stack.append(tuple(self._marked()))

    def _take(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _tuple1(self) -> None:
        self._take(1)

    def _tuple2(self) -> None:
        self._take(2)

    def _tuple3(self) -> None:
        self._take(3)

    def _append(self) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def _appends(self) -> None:
        items = self._marked()
        self.stack[-1].extend(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][key] = value

    def _setitems(self) -> None:
        items = self._marked()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        self.stack.append(_described(name, arguments))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Unbuilt):
            raise UnsafePickleError("the pickle sets the state of something that is not an array")
        if target.kind == "dtype":
            target.order = state[1]
        else:
            target.array = _array(*state[1:5])


_ACTIONS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "REDUCE", "BUILD"}


def _described(name: Any, arguments: Any) -> Any:
    """What a call would have made, for the few calls that describe data."""
    text = name.text if isinstance(name, _Name) else ""
    if text in _ARRAY:
        return _Unbuilt("array")
    if text == "numpy dtype":
        kind = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        if kind not in _DTYPES:
            raise UnsafePickleError(f"the pickle holds an array of type {kind!r}; plain numbers only")
        return _Unbuilt("dtype", kind)
    if text == "_codecs encode" and arguments[1] in ("latin1", b"latin1"):
        return arguments[0].encode("latin-1")
    raise UnsafePickleError("the pickle calls something that plain data does not need")


def _array(shape: tuple[int, ...], dtype: _Unbuilt, fortran: bool, raw: Any) -> np.ndarray | list[Any]:
    if dtype.dtype == _OBJECTS:
        if not isinstance(raw, list) or len(shape) > 1 or len(raw) != (shape[0] if shape else 1):
            raise UnsafePickleError(f"an array of objects has shape {shape}; only a list of its items is read")
        return raw
    if not isinstance(raw, bytes):
        raise UnsafePickleError(f"an array of shape {shape} holds a {type(raw).__name__} instead of bytes")
    order = dtype.order.decode() if isinstance(dtype.order, bytes) else dtype.order
    kind = np.dtype((order if order in "<>" else "") + dtype.dtype)
    expected = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(raw) != expected:
        raise UnsafePickleError(f"an array of shape {shape} has {len(raw)} bytes, expected {expected}")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


class _Result:
    """Puts arrays in the place of their descriptions.

    Args:
        budget: Most items that the result may have. A list can hold another one many times over, so that a few bytes
            would unfold to any size; plain data have less than one item per byte.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def finished(self, value: Any) -> Any:
        """The value with all arrays built."""
        self.budget -= 1
        if self.budget < 0:
            raise UnsafePickleError("the pickle unfolds to more items than it has bytes")
        if isinstance(value, _Unbuilt):
            return value.array if isinstance(value.array, np.ndarray) else self.finished(value.array)
        if isinstance(value, _Name) or value is _MARK:
            raise UnsafePickleError("the pickle holds a name instead of data")
        if isinstance(value, dict):
            return {key: self.finished(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.finished(item) for item in value)
        return value
