"""The tasks by name.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd.tasks.base import Task
from policykd.plain import typed

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


def typed_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a task in the types of its function, from text that was read as YAML.

    Raises:
        UnknownNameError: The task has no such option; the message names close matches.
        ConfigError: An option has another type, or one without a default is missing.
    """
    factory, known = _factory(name), options(name)
    for option in given:
        if option not in known:
            raise UnknownNameError(f"option of task {name}:", option, known)
    for option, parameter in inspect.signature(factory).parameters.items():
        if parameter.default is inspect.Parameter.empty and option in known and option not in given:
            raise ConfigError(f"task {name} needs the option {option}: add --task-option {option}=<value>")
    hints = get_type_hints(factory)
    return {
        option: value if isinstance(value, Path) else typed(hints[option], value, f"--task-option {option}")
        for option, value in given.items()
    }


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
