"""Adapter that adds mask methods to engines that take simulation numbers.

It changes the form of calls only, not what an engine computes.
"""

from __future__ import annotations

import torch
from typing_extensions import override

from policykd.envs.physics.protocol import Engine, MaskEngine


class ByIds(MaskEngine):
    """Mask methods for an engine that takes simulation numbers.

    It reads the number of simulations that a mask selects, which does not wait for a device on the CPU.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._targets: torch.Tensor | None = None
        self._failed = torch.zeros(engine.num_sims, dtype=torch.bool, device=engine.device)

    @property
    @override
    def failed(self) -> torch.Tensor:
        return self._failed

    @override
    def aim(self, targets: torch.Tensor) -> None:
        if self._targets is None:
            self._targets = torch.empty_like(targets)
        self._targets.copy_(targets)

    @override
    def advance(self) -> None:
        assert self._targets is not None, "aim comes first"
        self._failed.copy_(self._engine.step(self._targets))

    @override
    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        ids = mask.nonzero().squeeze(1)
        if len(ids):
            self._engine.reset(ids, qpos[ids], qvel[ids])

    @override
    def set_ground_where(
        self, mask: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        ids = mask.nonzero().squeeze(1)
        if len(ids):
            self._engine.set_ground(ids, pose[ids], half[ids], None if lane is None else lane[ids])

    @override
    def set_boxes_where(self, mask: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        ids = mask.nonzero().squeeze(1)
        if len(ids):
            self._engine.set_boxes(ids, center[ids], turn[ids], half[ids])


def mask_engine(engine: Engine) -> MaskEngine:
    """Return the engine itself if it takes masks, otherwise a :class:`ByIds` adapter of it."""
    return engine if isinstance(engine, MaskEngine) else ByIds(engine)
