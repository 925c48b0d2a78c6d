"""Backends: the numeric work of an environment between two physics steps.

``tensors`` does it in torch on any device and is the oracle. On the CPU a hundred small tensor operations would cost
as much as the physics, so ``fused`` does the same with the compiled loops of ``kernels``; what has no loop, such as a
task or an observation group of the user's own, stays with torch there, too.
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
    """The fastest backend for the engine's tensors; see :class:`TensorBackend` for the arguments."""
    if engine.device.type != "cpu" or engine.field("qpos").dtype != torch.float64:
        return TensorBackend(engine, skill, tracks, boxes, tasks)
    from policykd.envs.backends.fused import FusedBackend  # others need no compiled loops

    return FusedBackend(engine, skill, tracks, boxes, tasks)
