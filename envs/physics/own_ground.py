"""The CPU engine of models with a ground of their own: derived fields after resets, and contact forces on request."""

from __future__ import annotations

import mujoco
import torch
from typing_extensions import override

from policykd.envs.physics.mujoco_batch import BatchEngine

FORCES = "cfrc_ext"
"""Field of the contact forces on the bodies, which MuJoCo computes only where it is asked to."""


class OwnGroundEngine(BatchEngine):
    """Engine of a model with a ground of its own.

    After a step, all fields but the state are those before the last physics step, as after ``mj_step``; after a reset
    they are current. The forces of contacts cost a copy of every simulation and step, about 10 microseconds.

    Args:
        model: the compiled model.
        num_sims: number of simulations.
        boxes: 0; the ground is part of the model.
        decimation: physics steps per policy step.
        threads: worker threads; None for one per core that this process may use.
        forces: whether :data:`FORCES` is a field.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int,
        boxes: int,
        decimation: int,
        *,
        threads: int | None = None,
        forces: bool = False,
    ) -> None:
        # Forces need the contacts of the last physics step, which only simulations with data of their own keep.
        super().__init__(model, num_sims, 0, decimation, threads, persistent=forces)
        self._model, self._one = model, mujoco.MjData(model) if forces else None
        if forces:
            self._fields[FORCES] = torch.zeros(num_sims, model.nbody, 6, dtype=torch.float64)

    @override
    def step(self, targets: torch.Tensor) -> torch.Tensor:
        failed = super().step(targets)
        if self._one is not None:
            self._read_forces(self._one)
        return failed

    def _read_forces(self, one: mujoco.MjData) -> None:
        forces, found = self._fields[FORCES].numpy(), one.cfrc_ext
        for i in range(self.num_sims):
            self._batch.get_data(i, one)
            mujoco.mj_rnePostConstraint(self._model, one)
            forces[i] = found

    @override
    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        super().reset(ids, qpos, qvel)
        self._batch.forward(ids.numpy())
        if self._one is not None:
            self._fields[FORCES][ids] = 0.0

    @override
    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        raise NotImplementedError("the ground is part of the model")
