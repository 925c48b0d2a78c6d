"""Reads the data inside a pickle without unpickling it.

The python version of CIFAR comes as pickles, and a pickle is a program that may call anything. The machine of
:mod:`policykd.symbolic_pickle` carries out the opcodes that describe data; here, every name but those that arrays need
is an error.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from policykd.symbolic_pickle import ARRAY_NAMES, Machine, Name, PickleError, run_pickle


class UnsafePickleError(PickleError):
    """The pickle holds something else than plain data."""


class _PlainMachine(Machine):
    @override
    def name(self, module: str, attribute: str) -> Name:
        name = super().name(module, attribute)
        if name.text not in ARRAY_NAMES:
            raise UnsafePickleError(f"the pickle asks for {name.text!r}, which plain data does not need")
        return name


def read_plain_pickle(content: bytes) -> Any:
    """Return the plain data inside a pickle; strings of Python 2 come out as bytes, arrays of objects as lists.

    Raises:
        UnsafePickleError: if it holds something else, or is cut short.
    """
    try:
        found = run_pickle(_PlainMachine(), content)
        _check(found)
    except UnsafePickleError:
        raise
    except PickleError as error:
        raise UnsafePickleError(str(error)) from None
    return found


def _check(value: Any) -> None:
    """Raise UnsafePickleError for a name that is not part of an array."""
    if isinstance(value, Name):
        raise UnsafePickleError("the pickle holds a name instead of data")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _check(item)
