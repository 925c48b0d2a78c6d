"""Backends: the computation of an environment between two physics steps.

``tensors`` is the torch implementation for any device, and the reference for tests. On the CPU a hundred small tensor
operations would cost as much as the physics, so ``fused`` uses the compiled loops of ``kernels``. Tasks and observation
groups without a compiled loop, such as user-defined ones, are computed in torch there, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from policykd.envs.backends.tensors import TensorBackend
from policykd.envs.backends.view import Episodes, Outcome, View, window_width
from policykd.envs.engines import Engine
from policykd.envs.skills import Skill
from policykd.envs.tasks import Task
from policykd.envs.terrains import Tracks

__all__ = ["Episodes", "Outcome", "TensorBackend", "View", "make_backend", "window_width"]


def make_backend(engine: Engine, skill: Skill, tracks: Tracks, boxes: int, tasks: Sequence[Task] = ()) -> TensorBackend:
    """Return the fastest backend for the engine's tensors; see :class:`TensorBackend` for the arguments."""
    if engine.device.type != "cpu" or engine.field("qpos").dtype != torch.float64:
        return TensorBackend(engine, skill, tracks, boxes, tasks)
    from policykd.envs.backends.fused import (
        FusedBackend,
    )  # only the CPU needs the loops

    return FusedBackend(engine, skill, tracks, boxes, tasks)
