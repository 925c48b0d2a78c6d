"""Masks for engines that know simulation numbers only."""

from __future__ import annotations

import torch

from policykd.envs.engines.protocol import Engine, MaskEngine


class ByIds:
    """A :class:`MaskEngine` over any engine. It asks how many simulations a mask marks, which is free on the CPU.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def num_sims(self) -> int:
        """Number of simulations."""
        return self._engine.num_sims

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self._engine.device

    def field(self, name: str) -> torch.Tensor:
        """See :meth:`Engine.field`."""
        return self._engine.field(name)

    def step(self, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Engine.step`."""
        return self._engine.step(targets)

    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """See :meth:`Engine.reset`."""
        self._engine.reset(ids, qpos, qvel)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """See :meth:`Engine.snapshot`."""
        return self._engine.snapshot()

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """See :meth:`Engine.restore`."""
        self._engine.restore(snapshot)

    def set_ground(self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor) -> None:
        """See :meth:`Engine.set_ground`."""
        self._engine.set_ground(ids, pose, half)

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
