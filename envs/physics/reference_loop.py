"""The reference engine: one MjModel and one MjData per simulation, stepped one after the other. Slow and simple."""

from __future__ import annotations

import copy

import mujoco
import numpy as np
import torch
from typing_extensions import override

from policykd.envs.physics.ground_boxes import GROUND_FIELDS, box_fields, ground_fields
from policykd.envs.physics.protocol import FIELDS, Engine

_BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)


class LoopEngine(Engine):
    """Reference engine for tests; use the batch engine for real work.

    Args:
        model: the compiled model; its first ``boxes`` geoms are the ground boxes.
        num_sims: number of simulations.
        boxes: number of ground boxes.
        decimation: physics steps per policy step.
    """

    def __init__(self, model: mujoco.MjModel, num_sims: int, boxes: int, decimation: int) -> None:
        self._models = [copy.copy(model) for _ in range(num_sims)]
        self._data = [mujoco.MjData(m) for m in self._models]
        self._boxes, self._decimation = boxes, decimation
        self._fields = {name: np.stack([np.array(getattr(d, name)) for d in self._data]) for name in FIELDS}

    @property
    @override
    def num_sims(self) -> int:
        return len(self._data)

    @property
    @override
    def device(self) -> torch.device:
        return torch.device("cpu")

    @override
    def field(self, name: str) -> torch.Tensor:
        if name not in self._fields:
            self._fields[name] = np.stack([np.array(getattr(d, name)) for d in self._data])
        return torch.from_numpy(self._fields[name])

    @override
    def step(self, targets: torch.Tensor) -> torch.Tensor:
        failed = [self._step_one(i, target) for i, target in enumerate(targets.numpy())]
        return torch.tensor(failed)

    @override
    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        for i, q, v in zip(ids.tolist(), qpos.numpy(), qvel.numpy(), strict=True):
            model, data = self._models[i], self._data[i]
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = q, v
            self._copy_out(i)

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        rows = [_state_of(m, d) for m, d in zip(self._models, self._data, strict=True)]
        ground = {
            name: torch.from_numpy(np.stack([getattr(m, name)[: self._boxes] for m in self._models]))
            for name in GROUND_FIELDS
        }
        return {"state": torch.from_numpy(np.stack(rows)), **ground}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        for i, (model, data) in enumerate(zip(self._models, self._data, strict=True)):
            mujoco.mj_setState(model, data, snapshot["state"][i].numpy(), _WHOLE)
            for name in GROUND_FIELDS:
                getattr(model, name)[: self._boxes] = snapshot[name][i].numpy()
            self._copy_out(i)

    def check_overflow(self) -> None:
        """Do nothing: contacts are never dropped; a tumbling robot has at most two dozen, and MuJoCo's arena 15 MB."""

    @override
    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        self._write(ids, ground_fields(pose.numpy(), half.numpy(), None if lane is None else lane.numpy()))

    @override
    def set_boxes(self, ids: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        self._write(ids, box_fields(center.numpy(), turn.numpy(), half.numpy()))

    def _write(self, ids: torch.Tensor, fields: dict[str, np.ndarray]) -> None:
        for row, i in enumerate(ids.tolist()):
            for name, value in fields.items():
                getattr(self._models[i], name)[: self._boxes] = value[row]

    def _step_one(self, i: int, target: np.ndarray) -> bool:
        model, data = self._models[i], self._data[i]
        data.ctrl[:] = target
        for _ in range(self._decimation):
            mujoco.mj_step(model, data)
        self._copy_out(i)
        return bool(data.warning.number[_BAD].any())

    def _copy_out(self, i: int) -> None:
        for name, values in self._fields.items():
            values[i] = getattr(self._data[i], name)


_WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION


def _state_of(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, _WHOLE))
    mujoco.mj_getState(model, data, state, _WHOLE)
    return state
