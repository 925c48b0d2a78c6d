"""Stepping: the computation of an environment between two physics steps.

``torch_backend`` is the implementation for any device, and the reference for tests. On the CPU a hundred small tensor
operations would cost as much as the physics, so ``numba_backend`` uses the compiled loops of ``numba_kernels``. Tasks
and observation groups without a compiled loop, such as user-defined ones, are computed in torch there, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from policykd.envs.physics import Engine
from policykd.envs.skills import Skill
from policykd.envs.stepping.model_backend import ModelBackend
from policykd.envs.stepping.protocol import Outcome, View
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.stepping.torch_backend import TorchBackend
from policykd.envs.tasks import Task
from policykd.envs.terrains import Maps, Tracks
from policykd.errors import ContractError

__all__ = ["Outcome", "TorchBackend", "View", "make_backend"]


def make_backend(
    engine: Engine,
    skill: Skill,
    tracks: Tracks | Maps,
    boxes: int,
    tasks: Sequence[Task] = (),
    *,
    fixed_commands: bool = False,
) -> TorchBackend:
    """Return the fastest backend for the engine's tensors.

    See :class:`TorchBackend` for the arguments, and :class:`SpatialTorchBackend` for ``fixed_commands``, which only
    robots in space have.
    """
    if skill.robot.family == "model":
        return ModelBackend(engine, skill, tracks, boxes, tasks)
    compiled = engine.device.type == "cpu" and engine.field("qpos").dtype == torch.float64
    if skill.robot.spatial:
        return _spatial(compiled)(engine, skill, tracks, boxes, tasks, fixed_commands=fixed_commands)
    if isinstance(tracks, Maps):
        raise ContractError(f"{skill.id} has a ground that varies across the track, where planar robots cannot move")
    if not compiled:
        return TorchBackend(engine, skill, tracks, boxes, tasks)
    from policykd.envs.stepping.numba_backend import (
        NumbaBackend,
    )  # only the CPU needs the loops

    return NumbaBackend(engine, skill, tracks, boxes, tasks)


def _spatial(compiled: bool) -> type[SpatialTorchBackend]:
    if not compiled:
        return SpatialTorchBackend
    from policykd.envs.stepping.spatial_numba import SpatialNumbaBackend  # only the CPU needs the loops

    return SpatialNumbaBackend
