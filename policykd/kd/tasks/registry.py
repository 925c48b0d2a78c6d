"""The tasks by name.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from policykd.errors import UnknownNameError
from policykd.kd.tasks.base import Task

_TASKS: dict[str, Callable[..., Task]] = {}
F = TypeVar("F", bound=Callable[..., Task])


def register(name: str) -> Callable[[F], F]:
    """Decorator: make a function that returns a task known under a name.

    Raises:
        ValueError: The name is taken.
    """

    def enter(factory: F) -> F:
        if name in _TASKS:
            raise ValueError(f"there is a task {name!r} already")
        _TASKS[name] = factory
        return factory

    return enter


def available() -> tuple[str, ...]:
    """Names of all tasks."""
    return tuple(sorted(_TASKS))


def options(name: str) -> tuple[str, ...]:
    """Names of the options that a task takes besides its seed.

    Raises:
        UnknownNameError: The task is unknown; the message names close matches.
    """
    return tuple(option for option in inspect.signature(_factory(name)).parameters if option != "seed")


def load(name: str, **options: Any) -> Task:
    """Make a task.

    Args:
        name: One of ``available()``.
        **options: Passed to the task's function, such as ``root`` for data on disk or ``seed``.

    Raises:
        UnknownNameError: The task is unknown; the message names close matches.
    """
    return _factory(name)(**options)


def _factory(name: str) -> Callable[..., Task]:
    if name not in _TASKS:
        raise UnknownNameError("task", name, _TASKS)
    return _TASKS[name]
