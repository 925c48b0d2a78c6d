"""Tasks: what a skill rewards, how its episodes begin and end, and when they are a success.

``base`` says what a task is, every other file holds one, ``registry`` names them, and ``table`` gives every simulation
its own. Adding a task means adding a file with a frozen dataclass and a name in the registry.
"""

from policykd.envs.tasks.base import Situation, Start, Task
from policykd.envs.tasks.crouch import Crouch
from policykd.envs.tasks.hop import Hop
from policykd.envs.tasks.imitate import Imitate
from policykd.envs.tasks.registry import get_task, register_task, task_name, task_names
from policykd.envs.tasks.table import TaskTable
from policykd.envs.tasks.walk import Walk

__all__ = [
    "Crouch",
    "Hop",
    "Imitate",
    "Situation",
    "Start",
    "Task",
    "TaskTable",
    "Walk",
    "get_task",
    "register_task",
    "task_name",
    "task_names",
]
