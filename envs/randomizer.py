"""Random physics of the simulations of an environment on the CPU engine; see :class:`Randomization` for what varies.

It draws from a stream of its own, so that tracks and initial states are those of an environment without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch

from policykd.envs.physics import BatchEngine
from policykd.envs.randomization import Randomization, Range
from policykd.envs.robots import Robot
from policykd.seeding import integer_seed

_BASE = 1  # the body of the base: the world comes first, and ground boxes are parts of the world


class Randomizer:
    """Draws and applies the random physics of n simulations.

    Args:
        randomization: what varies.
        engine: the engine; model fields that vary become per-simulation fields.
        model: the engine's model.
        robot: the robot.
        standing: (joints,) targets of the actuators before the first action of an episode arrives.
    """

    def __init__(
        self,
        randomization: Randomization,
        engine: BatchEngine,
        model: mujoco.MjModel,
        robot: Robot,
        standing: torch.Tensor,
    ) -> None:
        self._what, self._engine, self._robot, self._standing = randomization, engine, robot, standing
        self._generator = torch.Generator()
        self._fields = _fields(randomization, engine, model, robot)
        n, self._actuators = engine.num_sims, model.nu
        self._delay = torch.zeros(n, dtype=torch.long)
        self._sent = standing.repeat(n, randomization.latest + 1, 1)
        self._count = 0
        self._factors = torch.ones(n, 2 + 2 * model.nu, dtype=torch.float64)
        self._away = 2 if robot.spatial else 1

    def seed(self, seed: int) -> None:
        """Restart the random stream."""
        self._generator.manual_seed(integer_seed(seed, "randomization"))

    def start_episodes(self, ids: torch.Tensor) -> None:
        """Draw the physics of new episodes in the simulations ``ids`` (m,)."""
        what, width = self._what, self._factors.shape[1]
        chance = torch.rand(len(ids), width + 1, dtype=torch.float64, generator=self._generator)
        joints = self._actuators
        spans = [what.friction, what.mass, *[what.stiffness] * joints, *[what.damping] * joints]
        low, high = torch.tensor([span or (1.0, 1.0) for span in spans], dtype=torch.float64).unbind(1)
        self._factors[ids] = torch.lerp(low.expand(len(ids), -1), high.expand(len(ids), -1), chance[:, :width])
        least, most = what.latency
        self._delay[ids] = least + (chance[:, width] * (most - least + 1)).long().clamp_max(most - least)
        self._sent[ids] = self._standing
        self._write(ids)

    def step(self, targets: torch.Tensor) -> torch.Tensor:
        """Push some robots, and return the targets (n, joints) that arrive at the actuators in this step."""
        if self._what.push_speed > 0:
            self._push()
        if not self._what.latest:
            return targets
        slots = self._sent.shape[1]
        self._sent[:, self._count % slots] = targets
        arrived = self._sent[torch.arange(len(targets)), (self._count - self._delay) % slots]
        self._count += 1
        return arrived

    def snapshot(self) -> dict[str, Any]:
        """Return the drawn physics and the state of the stream."""
        return {
            "generator": self._generator.get_state(),
            "factors": self._factors.clone(),
            "delay": self._delay.clone(),
            "sent": self._sent.clone(),
            "count": self._count,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a :meth:`snapshot`."""
        self._generator.set_state(snapshot["generator"])
        for mine, name in ((self._factors, "factors"), (self._delay, "delay"), (self._sent, "sent")):
            mine.copy_(snapshot[name])
        self._count = snapshot["count"]
        self._write(torch.arange(self._engine.num_sims))

    def _push(self) -> None:
        what, n = self._what, self._engine.num_sims
        drawn = torch.rand(n, 1 + self._away, dtype=torch.float64, generator=self._generator)
        pushed = drawn[:, 0] < self._robot.control_dt / what.push_interval
        change = (2 * drawn[:, 1:] - 1) * what.push_speed * pushed[:, None]
        self._engine.add_velocity(change)

    def _write(self, ids: torch.Tensor) -> None:
        rows, factors = ids.numpy(), self._factors[ids].numpy()
        if not len(rows):
            return
        for field in self._fields:
            field.write(rows, factors)
        if self._what.mass is not None:
            self._engine.derive_constants(rows)


class _Field:
    """Elements of a model field that are multiples of their nominal values.

    Args:
        values: (n, ...) per-simulation values.
        elements: index of the elements in one simulation's field.
        columns: columns of the factors, as many as the elements have entries in their first axis; or one column.
    """

    def __init__(self, values: np.ndarray, elements: Any, columns: list[int]) -> None:
        self._values, self._elements, self._columns = values, elements, columns
        self._nominal = np.array(values[0])

    def write(self, rows: np.ndarray, factors: np.ndarray) -> None:
        """Write the values of the simulations ``rows`` (m,) for factors (m, columns)."""
        block = np.repeat(self._nominal[None], len(rows), axis=0)
        place = (slice(None), *self._elements)
        chosen = factors[:, self._columns]
        while chosen.ndim < block[place].ndim:
            chosen = chosen[..., None]
        block[place] *= chosen
        self._values[rows] = block


def _fields(what: Randomization, engine: BatchEngine, model: mujoco.MjModel, robot: Robot) -> list[_Field]:
    """Return the model fields that vary; columns of the factors are friction, mass, stiffnesses, dampings."""
    everything, first = slice(None), 2
    stiff = list(range(first, first + model.nu))
    damped = [first + model.nu + i for i in range(model.nu)]
    dofs = [int(model.jnt_dofadr[model.actuator_trnid[i, 0]]) for i in range(model.nu)]
    pairs = ("pair_friction", slice(0, 2)) if model.npair else ("geom_friction", slice(0, 1))
    candidates: list[tuple[Range | None, str, Any, list[int]]] = [
        (what.friction, pairs[0], (everything, pairs[1]), [0]),
        (what.mass, "body_mass", ([_BASE],), [1]),
        (what.mass, "body_inertia", ([_BASE],), [1]),
        (what.stiffness, "actuator_gainprm", (everything, 0), stiff),
        (what.stiffness, "actuator_biasprm", (everything, 1), stiff),
        (what.damping, "dof_damping", (dofs,), damped),
    ]
    return [_Field(engine.model_field(name), at, columns) for span, name, at, columns in candidates if span is not None]
