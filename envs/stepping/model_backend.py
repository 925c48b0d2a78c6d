"""The backend of robots that are simulated as their model files say, in torch.

Their observations are the simulation's own fields and their rewards a handful of sums, which take little time compared
with the physics; ``docs/robots.md`` has the measured share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from policykd.envs.model_state import ModelReader, ModelState
from policykd.envs.observations.model_groups import DERIVED
from policykd.envs.robots import ModelRobot
from policykd.envs.skills import Skill
from policykd.envs.stepping.protocol import View
from policykd.envs.stepping.torch_backend import TorchBackend
from policykd.envs.tasks import Task
from policykd.envs.tasks.published import Forward


@dataclass
class ModelView:
    """A :class:`~policykd.envs.stepping.protocol.View` of robots on a ground of their own."""

    state: ModelState
    ground: torch.Tensor
    scan: torch.Tensor
    touching: torch.Tensor
    which: torch.Tensor | slice


def derived_fields(skill: Skill, tasks: tuple[Task, ...] | list[Task]) -> tuple[str, ...]:
    """Return the fields of MjData, besides the state, that a skill's groups and the tasks read."""
    fields = {DERIVED[name] for name in skill.groups if name in DERIVED}
    for task in tasks or (skill.task,):
        assert isinstance(task, Forward)  # skills refuse other tasks of these robots
        fields.update(task.fields)
    return tuple(sorted(fields))


class ModelBackend(TorchBackend):
    """Robots on a ground of their own; see :class:`TorchBackend` for the arguments and methods."""

    @override
    def _allocate(self) -> None:
        n, like = self._engine.num_sims, self._engine.field("qpos")
        self._control, self._before = like.new_zeros(n, len(self._stand)), like.new_zeros(n)
        self._model_tasks = [task for task in self.tasks.tasks if isinstance(task, Forward)]
        self._task_of = torch.arange(n, device=like.device) % len(self._model_tasks)
        super()._allocate()

    @override
    def _make_reader(self) -> Any:
        robot = self._skill.robot
        assert isinstance(robot, ModelRobot)
        return ModelReader(self._engine, robot, derived_fields(self._skill, self.tasks.tasks), self._control)

    @override
    def apply(self, actions: torch.Tensor) -> torch.Tensor:
        self._control.copy_(self.targets(actions))
        return self._control

    @override
    def move_ground(self) -> None:
        """Do nothing: the ground is part of the model."""

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        return {**super().snapshot(), "before": self._before.clone(), "control": self._control.clone()}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        super().restore(snapshot)
        self._before.copy_(snapshot["before"])
        self._control.copy_(snapshot["control"])

    @override
    def read_state(self, ids: torch.Tensor | None = None) -> View:
        state = self._reader.read(ids)
        if ids is not None:  # after a reset of these simulations
            self._before[ids] = self._places(state, ids)
        nothing = state.qpos.new_zeros(len(state.qpos))
        which = slice(None) if ids is None else ids
        return ModelView(state, nothing, nothing[:, None][:, :0], nothing.bool(), which)

    def _parts(self, which: torch.Tensor | slice) -> list[tuple[torch.Tensor | slice, Forward]]:
        """Return each task with its rows among the simulations ``which``."""
        if len(self._model_tasks) == 1:
            return [(slice(None), self._model_tasks[0])]
        return [(self._task_of[which] == i, task) for i, task in enumerate(self._model_tasks)]

    def _places(self, state: ModelState, which: torch.Tensor | slice) -> torch.Tensor:
        places = torch.empty_like(state.qpos[:, 0])
        for rows, task in self._parts(which):
            places[rows] = task.place(state.rows(rows))
        return places

    @override
    def _assess_step(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        state = view.state
        places = self._places(state, slice(None))
        velocity = (places - self._before) / self._skill.robot.control_dt
        self._before.copy_(places)
        reward, fell = torch.empty_like(velocity), torch.empty_like(velocity, dtype=torch.bool)
        for rows, task in self._parts(slice(None)):
            part = state.rows(rows)
            healthy = task.healthy(part)
            reward[rows], fell[rows] = task.earned(part, velocity[rows], healthy), ~healthy
        return fell, reward

    @override
    def _enter(self, view: View, failed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Unlike on grounds of policykd, the step of a fall is rewarded; that of a failure is not, as it has no meaning.
        fell, reward = self._assess_step(view)
        reward = reward.masked_fill_(failed, 0.0)
        terminated = fell | failed
        self._statistics += self._advance
        self._total_reward += reward
        return reward, terminated, (self.elapsed >= self._skill.episode_steps) & ~terminated

    @override
    def _distance(self, view: View) -> torch.Tensor:
        state: ModelState = view.state
        return state.qpos[:, 0]
