"""Assignment of tasks to simulations.

It maps simulations to rows of tasks and calls the tasks' own functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from policykd.envs.robots import Robot
from policykd.envs.tasks.base import Rows, Situation, Start, Task


class TaskTable:
    """Tasks of n simulations: simulation i has task ``tasks[i % len(tasks)]``.

    Args:
        tasks: the tasks.
        robot: the robot.
        num_sims: number of simulations.
        seconds: length of an episode, s.
        like: a tensor with the device and dtype of the simulations.

    Attributes:
        tasks: the tasks; one if all simulations have the same.
        common: the task of all simulations; None if they differ.
        command: (n, features) commands, see :data:`policykd.envs.observations.COMMAND`.
        goal: (n, 2) smallest and largest x at which an episode must end to count as a success, m.
    """

    def __init__(self, tasks: Sequence[Task], robot: Robot, num_sims: int, seconds: float, like: torch.Tensor) -> None:
        same = all(task == tasks[0] for task in tasks)
        self.common = tasks[0] if same else None
        self._robot, self.tasks = robot, tuple(tasks[:1] if same else tasks)
        which = torch.arange(num_sims, device=like.device) % len(self.tasks)
        self.command, self.goal = (
            torch.tensor(rows, dtype=like.dtype, device=like.device)[which]
            for rows in ([t.command for t in self.tasks], [t.goal(seconds) for t in self.tasks])
        )
        self._which = which

    def reward(self, now: Situation) -> torch.Tensor:
        """Return (n,) rewards of all simulations, before falls are taken into account."""
        if self.common is not None:
            return self.common.reward(now)
        reward = torch.zeros_like(now.around.cycles)
        for rows, task in self._parts():
            reward[rows] = task.reward(now.rows(rows)).to(reward)
        return reward

    def forbidden(self, now: Situation) -> torch.Tensor | None:
        """Return (n,) which simulations violate a rule of their task; None if the tasks have no rules."""
        if self.common is not None:
            return self.common.forbidden(now)
        found: torch.Tensor | None = None
        for rows, task in self._parts():
            part = task.forbidden(now.rows(rows))
            if part is not None:
                found = torch.zeros_like(self._which, dtype=torch.bool) if found is None else found
                found[rows] = part
        return found

    def start(self, start: Start, ids: torch.Tensor | None = None) -> Start:
        """Return the initial states of new episodes; see :meth:`Task.start`.

        Args:
            start: default initial states, one row per episode.
            ids: (m,) simulations of the episodes; None for all, which never waits for the device.
        """
        if self.common is not None:
            return self.common.start(self._robot, start)
        qpos, qvel, clock = (part.clone() for part in start)
        for rows, task in self._parts(ids):
            given = (start[0][rows], start[1][rows], start[2][rows])
            qpos[rows], qvel[rows], clock[rows] = task.start(self._robot, given)
        return qpos, qvel, clock

    def _parts(self, ids: torch.Tensor | None = None) -> list[tuple[Rows, Task]]:
        """Return each task with its rows: slices of all simulations, whose tensors are views, or rows of ``ids``."""
        count = len(self.tasks)
        if ids is None:
            return [(slice(i, None, count), task) for i, task in enumerate(self.tasks)]
        return [(torch.nonzero(self._which[ids] == i).squeeze(1), task) for i, task in enumerate(self.tasks)]
