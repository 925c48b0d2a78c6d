"""Tasks by their names in skill ids; register your own before a skill refers to it."""

from __future__ import annotations

from policykd.envs.tasks.base import Task
from policykd.envs.tasks.crouch import Crouch
from policykd.envs.tasks.gait import BOUND, CROUCH, PACE, TROT
from policykd.envs.tasks.hop import Hop
from policykd.envs.tasks.imitate import Imitate
from policykd.envs.tasks.published import FORWARD, GYMNASIUM_TASKS
from policykd.envs.tasks.velocity import BALANCE_TERMS, GAIT_TERMS, STRIDE_TERMS, VelocityTracking
from policykd.envs.tasks.walk import Walk
from policykd.errors import ConfigError
from policykd.names import Registry

TASKS: Registry[Task] = Registry("task", Task)
"""Tasks by name."""


def register_task(name: str, task: Task) -> None:
    """Make a task available as ``+name`` in skill ids.

    Raises:
        ConfigError: if another task has that name, or the task already has another name.
    """
    other = next((known for known, entry in TASKS.items() if entry == task and known != name), None)
    if other is not None:
        raise ConfigError(f"the task '{name}' is already registered as '{other}'; use that name or other parameters")
    TASKS.register(name, task)


def task_names() -> list[str]:
    """Return the names of the tasks."""
    return list(TASKS)


def get_task(name: str) -> Task:
    """Return the task with a name.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
    """
    return TASKS[name]


def task_name(task: Task) -> str:
    """Return the name of a task.

    A task with other parameters has the name of the first registered task of its type, or the name of its type if there
    is none.
    """
    names = [name for name, known in TASKS.items() if known == task]
    kind = [name for name, known in TASKS.items() if type(known) is type(task)]
    return (names + kind + [type(task).__name__.lower()])[0]


register_task("walk", Walk())
register_task("run", Walk(speed=3.0, speed_width=1.5, least=0.75))
register_task("backwards", Walk(speed=-1.0, speed_width=0.65))
register_task("crouch", Crouch())
register_task("hop", Hop())
register_task("imitate", Imitate())
register_task("velocity", VelocityTracking())
register_task("stride", VelocityTracking(speed=0.8, speeds=(0.3, 1.0), terms=STRIDE_TERMS))
register_task("balance", VelocityTracking(speed=0.8, speeds=(0.3, 1.0), terms=BALANCE_TERMS))
for _name, _gait in {"trot": TROT, "pace": PACE, "bound": BOUND}.items():
    register_task(_name, VelocityTracking(terms=GAIT_TERMS, gait=_gait))
register_task("creep", VelocityTracking(speed=0.6, speeds=(0.3, 0.8), terms=GAIT_TERMS, gait=CROUCH))
register_task("reverse", VelocityTracking(speed=-0.6, speeds=(-0.8, -0.3), terms=GAIT_TERMS, gait=TROT))
register_task(
    "turn", VelocityTracking(speed=0.3, speeds=(0.0, 0.5), turning=(0.6, 1.0), terms=GAIT_TERMS, gait=TROT, least=0.0)
)
register_task("forward", FORWARD)
for _name, _task in GYMNASIUM_TASKS.items():
    register_task(_name, _task)
