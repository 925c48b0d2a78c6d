"""Tasks: rewards, initial states, terminations and success of a skill.

``base`` defines the interface, ``walk``, ``crouch``, ``hop`` and ``imitate`` (planar robots) and
``velocity`` (robots in space) implement it, ``registry`` names tasks,
and ``assignment`` assigns them to simulations. To add a task, add a file with a frozen dataclass and register it.
"""

from policykd.envs.tasks.assignment import TaskTable
from policykd.envs.tasks.base import Situation, Start, Task
from policykd.envs.tasks.crouch import Crouch
from policykd.envs.tasks.hop import Hop
from policykd.envs.tasks.imitate import Imitate
from policykd.envs.tasks.registry import get_task, register_task, task_name, task_names
from policykd.envs.tasks.velocity import RewardTerm, VelocityTracking
from policykd.envs.tasks.walk import Walk

__all__ = [
    "Crouch",
    "Hop",
    "Imitate",
    "RewardTerm",
    "Situation",
    "Start",
    "Task",
    "TaskTable",
    "VelocityTracking",
    "Walk",
    "get_task",
    "register_task",
    "task_name",
    "task_names",
]
