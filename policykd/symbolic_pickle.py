"""Reads what a pickle describes without running it: arrays, tensors and plain data, and everything else as records.

A pickle is a program that may call anything. Here ``pickletools`` only *parses* it, and a small machine of our own
keeps every class and function as a name and every call as an inert :class:`Record`. Meaning is given to numpy arrays,
scalars and data types, to dictionaries, sets and byte strings, and to tensors whose numbers the caller provides.
Nothing is imported, looked up or called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policykd.errors import PolicykdError


class PickleError(PolicykdError, ValueError):
    """The pickle is damaged, or holds what cannot be described without running it."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle mentions; never resolved.

    Attributes:
        text: module and name, separated by a dot.
    """

    text: str


@dataclass(eq=False)
class Record:
    """What a call would have made.

    Attributes:
        name: class or function that would have been called, module and name separated by a dot.
        arguments: its arguments.
        state: state that would have been set on the result, usually a dictionary of attributes.
        items: entries that would have been put into the result, by key.
        elements: elements that would have been appended to the result.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the object: its state, if that is a dictionary, with those that were put in by key."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # state and slots
            state = {**(state[0] or {}), **state[1]}
        return {**(state if isinstance(state, dict) else {}), **self.items}


class _Pending:
    """An array or data type whose state follows later in the file."""

    def __init__(self, kind: str, dtype: str = "") -> None:
        self.kind, self.dtype, self.order = kind, dtype, "|"
        self.value: np.ndarray | list[Any] = np.zeros(0)


class _Mark:
    """The place on the stack where a group of items begins."""


_MARK = _Mark()
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = {f"{module}._reconstruct" for module in _MODULES}
_SCALAR = {f"{module}.scalar" for module in _MODULES}
_FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
ARRAY_NAMES = _RECONSTRUCT | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}
"""Classes and functions that pickles of numpy arrays mention."""

_OBJECTS = ("O8", "O")
_DTYPES = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    "BYTEARRAY8",
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_PLAIN_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): dict(pairs),
    "builtins.set": set,
    "__builtin__.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytearray": lambda *given: _encoded(*given),
    "_codecs.encode": lambda *given: _encoded(*given),
}
_MOST_ITEMS = 5_000_000

Persistent = Callable[[Any], Any]
"""Function from a persistent id, as torch's files have them, to the value that belongs there."""


def read_symbolic_pickle(content: bytes, persistent: Persistent | None = None) -> Any:
    """Return what a pickle describes.

    Args:
        content: the pickle, protocols 0 to 5.
        persistent: values of persistent ids; None refuses them.

    Returns:
        Numbers, texts, bytes, lists, tuples, dictionaries, sets, numpy arrays, :class:`Name` and :class:`Record`.

    Raises:
        PickleError: if the pickle is cut short or damaged, or unfolds to more than it has room for.
    """
    return run_pickle(Machine(persistent), content)


def run_pickle(machine: Machine, content: bytes) -> Any:
    """Return what a pickle describes to a machine, which may be stricter than :class:`Machine`.

    Raises:
        PickleError: as :func:`read_symbolic_pickle`.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return _Finished(len(content)).of(machine.stack.pop())
            machine.run(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PickleError(f"the pickle is damaged: {error}") from None
    raise PickleError("the pickle has no end")


class Machine:
    """A stack and a memo; see :func:`read_symbolic_pickle`.

    Args:
        persistent: values of persistent ids; None refuses them.
    """

    def __init__(self, persistent: Persistent | None = None) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._persistent = persistent

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode.

        Raises:
            PickleError: for an opcode that descriptions do not need.
        """
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in ("SHORT_BINSTRING", "BINSTRING", "STRING"):
            self.stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(self.name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            self.stack.append(self.name(module, attribute))
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        else:
            raise PickleError(f"the pickle uses {name}, which a description of data does not need")

    def name(self, module: str, attribute: str) -> Name:
        """Return a class or function as a name."""
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise PickleError("the pickle names a class with something that is not text")
        return Name(f"{module}.{attribute}")

    def _marked(self) -> list[Any]:
        place = max(number for number, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _put(self, make: Callable[[list[Any]], Any]) -> None:
        self.stack.append(make(self._marked()))

    def _take(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("the stack is too short")
        del self.stack[-count:]
        self.stack.append(items)

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.elements if isinstance(target, Record) else target).extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Record) else target).update(zip(items[::2], items[1::2], strict=True))

    def _add_items(self) -> None:
        items = self._marked()
        self.stack[-1].update(items)

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        self.stack.append(made(called, arguments))

    def _new_with_keywords(self) -> None:
        keywords, arguments, called = self.stack.pop(), self.stack.pop(), self.stack.pop()
        record = made(called, arguments)
        if isinstance(record, Record):
            record.items.update(keywords)
        self.stack.append(record)

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, _Pending) and target.kind == "dtype":
            target.order = state[1]
        elif isinstance(target, _Pending):
            target.value = _array(*state[1:5])
        elif not (isinstance(target, dict) and isinstance(state, dict)):  # attributes of an OrderedDict do not count
            raise PickleError("the pickle sets the state of something that has none")

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise PickleError("the pickle refers to data in another file")
        self.stack.append(self._persistent(self.stack.pop()))

    def _pop(self) -> None:
        self.stack.pop()

    def _pop_mark(self) -> None:
        self._marked()

    def _duplicate(self) -> None:
        self.stack.append(self.stack[-1])


_ACTIONS: dict[str, Callable[[Machine], None]] = {
    "TUPLE": lambda m: m._put(tuple),
    "TUPLE1": lambda m: m._take(1),
    "TUPLE2": lambda m: m._take(2),
    "TUPLE3": lambda m: m._take(3),
    "LIST": lambda m: m._put(list),
    "DICT": lambda m: m._put(lambda items: dict(zip(items[::2], items[1::2], strict=True))),
    "FROZENSET": lambda m: m._put(frozenset),
    "APPEND": lambda m: m._append([m.stack.pop()]),
    "APPENDS": lambda m: m._append(m._marked()),
    "SETITEM": lambda m: m._set([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m: m._set(m._marked()),
    "ADDITEMS": Machine._add_items,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._new_with_keywords,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
    "POP": Machine._pop,
    "POP_MARK": Machine._pop_mark,
    "DUP": Machine._duplicate,
}


def made(called: Any, arguments: Any) -> Any:
    """Return what a call would have made, for the calls that describe data; otherwise a record of it."""
    if not isinstance(called, Name):
        raise PickleError("the pickle calls something that is not a name")
    if not isinstance(arguments, tuple):
        raise PickleError(f"the pickle calls {called.text} with something that is not a tuple")
    text = called.text
    if text in _RECONSTRUCT:
        return _Pending("array")
    if text == "numpy.dtype":
        return _Pending("dtype", _dtype_text(arguments[0]))
    if text in _SCALAR:
        return _array((), arguments[0], False, arguments[1])[()]
    if text in _FROM_BUFFER:
        raw, dtype, shape, order = arguments
        return _array(shape, dtype, order == "F", bytes(raw))
    if text in _PLAIN_CALLS:
        return _PLAIN_CALLS[text](*arguments)
    return Record(text, arguments)


def _encoded(text: Any = "", encoding: Any = "latin1") -> bytes:
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if encoding not in ("latin1", b"latin1", "latin-1"):
        raise PickleError(f"the pickle encodes bytes as {encoding!r}; only latin1 is read")
    return str(text).encode("latin-1")


def _dtype_text(kind: Any) -> str:
    text = kind.decode() if isinstance(kind, bytes) else str(kind)
    if text not in _DTYPES and text not in _OBJECTS:
        raise PickleError(f"the pickle holds an array of type {text!r}; plain numbers only")
    return text


def _array(shape: tuple[int, ...], dtype: Any, fortran: bool, raw: Any) -> Any:
    if not isinstance(dtype, _Pending) or dtype.kind != "dtype":
        raise PickleError("an array has no data type")
    if dtype.dtype in _OBJECTS:
        if not isinstance(raw, list) or len(shape) > 1 or len(raw) != (shape[0] if shape else 1):
            raise PickleError(f"an array of objects has shape {shape}; only a list of its items is read")
        return raw
    if not isinstance(raw, bytes):
        raise PickleError(f"an array of shape {shape} holds a {type(raw).__name__} instead of bytes")
    order = dtype.order.decode() if isinstance(dtype.order, bytes) else str(dtype.order)
    kind = np.dtype((order if order in ("<", ">") else "") + dtype.dtype)
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise PickleError(f"an array has shape {shape}")
    count = 1
    for n in shape:
        count *= n
    if len(raw) != count * kind.itemsize:
        raise PickleError(f"an array of shape {shape} has {len(raw)} bytes, expected {count * kind.itemsize}")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


class _Finished:
    """Puts arrays in the place of their descriptions.

    Args:
        size: bytes of the file. A list can hold another one many times over, so that a few bytes would unfold to any
            size; files of data have less than one item per byte.
    """

    def __init__(self, size: int) -> None:
        self._budget = min(size, _MOST_ITEMS)
        self._records: dict[int, Record] = {}

    def of(self, value: Any) -> Any:
        """Return the value with all arrays built."""
        self._budget -= 1
        if self._budget < 0:
            raise PickleError("the pickle unfolds to more items than it has bytes")
        if isinstance(value, _Pending):
            if value.kind == "dtype":
                return Name(f"numpy.{value.dtype}")
            return value.value if isinstance(value.value, np.ndarray) else self.of(value.value)
        if value is _MARK:
            raise PickleError("the pickle ends inside a group")
        if isinstance(value, Record):
            return self._record(value)
        if isinstance(value, dict):
            return {key: self.of(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(item) for item in value)
        return value

    def _record(self, record: Record) -> Record:
        """Return a record with its arrays built; records may refer to each other in circles."""
        known = self._records.get(id(record))
        if known is None:
            known = self._records[id(record)] = Record(record.name)
            known.arguments = self.of(record.arguments)
            known.state = self.of(record.state)
            known.items = self.of(record.items)
            known.elements = self.of(record.elements)
        return known
