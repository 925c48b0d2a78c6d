"""Tasks by name, as skill ids spell them."""

from __future__ import annotations

from policykd.envs.tasks.base import Task
from policykd.envs.tasks.crouch import Crouch
from policykd.envs.tasks.hop import Hop
from policykd.envs.tasks.imitate import Imitate
from policykd.envs.tasks.walk import Walk
from policykd.errors import ConfigError, UnknownNameError

_TASKS: dict[str, Task] = {
    "walk": Walk(),
    "run": Walk(speed=3.0, speed_width=1.5, least=0.75),
    "backwards": Walk(speed=-1.0, speed_width=0.65),
    "crouch": Crouch(),
    "hop": Hop(),
    "imitate": Imitate(),
}


def register_task(name: str, task: Task) -> None:
    """Make a task available as ``+name`` in skill ids.

    Raises:
        ConfigError: if another task has that name, or this one has another.
    """
    if _TASKS.setdefault(name, task) != task or [n for n, t in _TASKS.items() if t == task] != [name]:
        raise ConfigError(f"another task is already called '{name}', or this one has another name")


def task_names() -> list[str]:
    """Names of the tasks."""
    return list(_TASKS)


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        UnknownNameError: with the close matches.
    """
    if name not in _TASKS:
        raise UnknownNameError("task", name, _TASKS)
    return _TASKS[name]


def task_name(task: Task) -> str:
    """The name of a task; that of the first of its kind for other parameters, and that of its type for other kinds."""
    names = [name for name, known in _TASKS.items() if known == task]
    kind = [name for name, known in _TASKS.items() if type(known) is type(task)]
    return (names + kind + [type(task).__name__.lower()])[0]
