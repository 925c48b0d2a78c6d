"""Masks for engines that know simulation numbers only."""

from __future__ import annotations

import torch

from policykd.envs.engines.protocol import Engine, MaskEngine


class ByIds:
    """Masks for an engine that takes numbers. It asks how many simulations a mask marks, which is free on the CPU.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """See :meth:`MaskEngine.reset_where`."""
        ids = mask.nonzero().squeeze(1)
        if len(ids):
            self._engine.reset(ids, qpos[ids], qvel[ids])

    def set_ground_where(self, mask: torch.Tensor, pose: torch.Tensor, half: torch.Tensor) -> None:
        """See :meth:`MaskEngine.set_ground_where`."""
        ids = mask.nonzero().squeeze(1)
        if len(ids):
            self._engine.set_ground(ids, pose[ids], half[ids])


def mask_engine(engine: Engine) -> MaskEngine:
    """The engine itself if it takes masks, otherwise :class:`ByIds` over it."""
    return engine if isinstance(engine, MaskEngine) else ByIds(engine)
