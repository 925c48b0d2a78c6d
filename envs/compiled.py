"""Compilation of the simulation's kernels with Numba.

Every module with kernels imports its decorator from here; it knows no kernel itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numba

Kernel = Callable[..., Any]


def compiled_at_first_use(function: Kernel | None = None, *, strided: Collection[str] = ()) -> Any:
    """Compile a function with Numba for the types of its first call, for arguments that a signature cannot name.

    The machine code is cached as by :func:`compiled`. Later calls with other types compile again.

    Args:
        function: the function; None for a decorator with the options below.
        strided: names of array arguments that are views of other arrays, so that one compilation serves all their
            strides. Without it, one simulation, whose rows are contiguous, is compiled apart from several.
    """
    if function is None:
        return functools.partial(compiled_at_first_use, strided=strided)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]

    def types_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        types = zip(names, map(numba.typeof, arguments), strict=True)
        return tuple(kind.copy(layout="A") if name in strided else kind for name, kind in types)

    return _at_first_use(function, types_of)


def compiled(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile a function of NumPy arrays for one signature, when it is first called.

    The machine code is cached next to the source file, or in the user's cache folder if the source folder is read-only;
    without either, every process compiles. A process that needs a function which another one is compiling waits for it.

    Args:
        signature: Numba signature; an array type such as ``float64[:, :]`` accepts views of any strides.
    """
    return lambda function: _at_first_use(function, lambda _: signature)


def _at_first_use(function: Kernel, signature_of: Callable[[tuple[Any, ...]], Any]) -> Kernel:
    """Return a function that is compiled for ``signature_of`` its arguments when it does not fit them yet."""
    dispatcher, compiling, run = _dispatcher(function), threading.Lock(), _uncompiled

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        nonlocal run
        try:
            return run(*arguments)
        except TypeError:  # raised before the function begins: it is not compiled for these types
            with compiling, _alone(function):
                dispatcher.disable_compile(False)
                dispatcher.compile(signature_of(arguments))
                dispatcher.disable_compile()
                run = dispatcher
            return run(*arguments)

    call.dispatcher = dispatcher  # type: ignore[attr-defined]
    return call


def _uncompiled(*arguments: Any) -> Any:
    raise TypeError("not compiled for any types")


def _dispatcher(function: Kernel) -> Any:
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except (RuntimeError, OSError):  # no writable cache folder
        return numba.njit(nogil=True)(function)


@contextmanager
def _alone(function: Kernel) -> Iterator[None]:
    """Hold a lock on a function's source file: others that compile from it wait, and then find the machine code.

    The system releases the lock when the process ends, however it ends. Without a file or locks, nothing is locked.
    """
    with ExitStack() as held:
        with suppress(ImportError, OSError):
            import fcntl

            file = held.enter_context(Path(function.__code__.co_filename).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
