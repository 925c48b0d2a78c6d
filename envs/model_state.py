"""State of robots that are simulated as their files say, batched over the simulations.

Tasks and observation groups read MuJoCo's own fields, which are one physics step older than the positions, as they are
in the published environments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from policykd.envs.kinematics import Fields
from policykd.envs.robots import ModelRobot


@dataclass
class ModelState:
    """State of ``n`` simulations.

    Attributes:
        robot: the robot.
        qpos: (n, nq) generalized positions.
        qvel: (n, nv) generalized velocities.
        control: (n, nu) controls of the last step.
        derived: further fields of MjData by name, each (n, ...).
    """

    robot: ModelRobot
    qpos: torch.Tensor
    qvel: torch.Tensor
    control: torch.Tensor
    derived: Mapping[str, torch.Tensor]

    @property
    def height(self) -> torch.Tensor:
        """(n,) height coordinate of the root, m."""
        return self.qpos[:, self.robot.body.height_index]

    def rows(self, which: slice | torch.Tensor) -> ModelState:
        """Return the state of the simulations ``which``."""
        derived = {name: field[which] for name, field in self.derived.items()}
        return ModelState(self.robot, self.qpos[which], self.qvel[which], self.control[which], derived)


def clipped(values: torch.Tensor, limit: float | None) -> torch.Tensor:
    """Return values with magnitudes of at most ``limit``; None for no limit."""
    return values if limit is None else values.clamp(-limit, limit)


class ModelReader:
    """Reads :class:`ModelState` from an engine.

    Args:
        engine: the engine.
        robot: the robot that it simulates.
        fields: names of the derived fields to read.
        control: (n, nu) live controls of the last step.
    """

    def __init__(self, engine: Fields, robot: ModelRobot, fields: Collection[str], control: torch.Tensor) -> None:
        derived = {name: engine.field(name) for name in fields}
        self._live = ModelState(robot, engine.field("qpos"), engine.field("qvel"), control, derived)

    def read(self, ids: torch.Tensor | None = None) -> ModelState:
        """Return the state of the simulations ``ids`` (m,), or of all."""
        return self._live if ids is None else self._live.rows(ids)
