"""The GPU engine: mujoco_warp with one world per simulation and a captured graph per policy step.

Importing this module needs the extra ``[gpu]``. On a CUDA device nothing in a step waits for the host. On Warp's CPU
device the same kernels run sequentially: useful for tests, too slow for real work.

mujoco_warp computes the frames of static geoms only once, when its data are created. A ground box of a world is
therefore its frame in the data (``geom_xpos``, ``geom_xmat``) and its extent in the model (``geom_size``,
``geom_rbound``, ``geom_aabb``), each with a leading axis of worlds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from typing_extensions import override

from policykd.envs.capture import no_garbage_collection
from policykd.envs.physics.contact_budget import ContactSizes
from policykd.envs.physics.protocol import Engine, MaskEngine
from policykd.envs.terrains.tracks import HALF_DEPTH
from policykd.envs.world_counts import round_worlds
from policykd.errors import ConfigError, check_range

_EXTENT = ("geom_size", "geom_rbound", "geom_aabb")
_STATE = ("qpos", "qvel", "qacc_warmstart", "time", "actuator_force")
_LOST = (
    mjw.OverflowType.NEFC | mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE | mjw.OverflowType.CCD
)  # contacts or constraints were dropped; other kinds mean that an iteration stopped at its limit
_LOST_KINDS = wp.constant(int(_LOST))
_WORST = wp.constant(float(mujoco.mjMAXVAL))
_LOST_SHARE = 1e-3  # largest share of the worlds' steps that may fail because contacts were dropped


@wp.kernel
def _prepare(
    targets: wp.array2d[float], restarted: wp.array[bool],
    ctrl: wp.array2d[float], failed: wp.array[bool], warmstart: wp.array2d[float], time: wp.array[float],
) -> None:  # fmt: skip
    """Copy the targets, and clear the memory of the last episode in restarted worlds."""
    i = wp.tid()
    bad = bool(False)  # noqa: UP018 - a constant would not change in Warp's loops
    for j in range(ctrl.shape[1]):
        bad = bad or not wp.isfinite(targets[i, j])
    for j in range(ctrl.shape[1]):
        ctrl[i, j] = wp.where(bad, 0.0, targets[i, j])
    failed[i] = bad
    if restarted[i]:
        for j in range(warmstart.shape[1]):
            warmstart[i, j] = 0.0
        time[i] = 0.0
        restarted[i] = False


@wp.kernel
def _guard(
    qpos0: wp.array2d[float],
    qpos: wp.array2d[float], qvel: wp.array2d[float], warmstart: wp.array2d[float], force: wp.array2d[float],
    jacobian: wp.array3d[float], aref: wp.array2d[float], efc_force: wp.array2d[float], efc_vel: wp.array2d[float],
    overflow: wp.array[int], seen: wp.array[int], lost: wp.array[int], failed: wp.array[bool],
) -> None:  # fmt: skip
    """Mark worlds with NaN, huge values or dropped contacts as failed and set them to the model's initial pose.

    Unused constraint rows stay in memory and enter the solver's products with weight 0, so a NaN among them would
    corrupt the next step, too.
    """
    i = wp.tid()
    bad = bool(False)  # noqa: UP018 - a constant would not change in Warp's loops
    for j in range(qpos.shape[1]):
        bad = bad or not (wp.abs(qpos[i, j]) <= _WORST)  # NaN compares false
    for j in range(qvel.shape[1]):
        bad = bad or not (wp.abs(qvel[i, j]) <= _WORST) or not (wp.abs(warmstart[i, j]) <= _WORST)
    kinds = overflow[i]
    if kinds != 0:
        seen[i] = seen[i] | kinds
        overflow[i] = 0
    if (kinds & _LOST_KINDS) != 0:
        lost[i] = lost[i] + 1
        bad = True
    if bad:
        for j in range(qpos.shape[1]):
            qpos[i, j] = qpos0[0, j]
        for j in range(qvel.shape[1]):
            qvel[i, j] = 0.0
            warmstart[i, j] = 0.0
        for j in range(force.shape[1]):
            force[i, j] = 0.0
        for row in range(jacobian.shape[1]):
            for j in range(jacobian.shape[2]):
                jacobian[i, row, j] = 0.0
        for row in range(aref.shape[1]):
            aref[i, row] = 0.0
            efc_force[i, row] = 0.0
            efc_vel[i, row] = 0.0
        failed[i] = True


class WarpEngine(Engine, MaskEngine):
    """Engine on mujoco_warp with mask methods; its tensors are float32.

    Unlike on the CPU engines, results on a CUDA device differ between runs in the last bits: contacts are collected in
    the order in which threads find them.

    Args:
        model: the compiled model; its first ``boxes`` geoms are the ground boxes.
        num_sims: number of simulations.
        boxes: number of ground boxes.
        decimation: physics steps per policy step.
        sizes: allocated contacts and constraints, from :func:`~policykd.envs.physics.contact_budget.measure_contacts`.
        device: a CUDA device, or Warp's CPU device.
        worlds: worlds that are simulated, of which the first ``num_sims`` are used; None for ``num_sims``, rounded up
            on a CUDA device, where every number of worlds compiles kernels of its own.

    Raises:
        ConfigError: for a device that Warp does not know.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int,
        boxes: int,
        decimation: int,
        *,
        sizes: ContactSizes,
        device: torch.device | str = "cuda",
        worlds: int | None = None,
    ) -> None:
        check_range("num_sims", num_sims, 1, 1_000_000)
        self._num_sims, self._boxes, self._decimation = num_sims, boxes, decimation
        self._device = _with_index(torch.device(device))
        wp.config.quiet = True  # Warp would print a line per kernel
        wp.init()
        try:
            self._warp_device = wp.device_from_torch(self._device)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(f"Warp has no device '{device}' ({error}); it has {_device_names()}") from error
        usual = round_worlds(num_sims) if self._device.type == "cuda" else num_sims
        self._worlds = usual if worlds is None else worlds
        check_range("worlds", self._worlds, num_sims, 1_000_000)
        own = copy.copy(model)
        own.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)  # mujoco_warp has no mid-phase
        with wp.ScopedDevice(self._warp_device):
            self._model = mjw.put_model(own, batch_sizes=dict.fromkeys(_EXTENT, self._worlds))
            self._model.opt.warn_overflow = 0  # printing from a kernel stalls the device; see overflow()
            if self._device.type == "cuda" and not wp.is_conditional_graph_supported():
                self._model.opt.graph_conditional = (
                    False  # drivers before CUDA 12.4 lack conditional graphs: solvers run all iterations
                )
            self._data = mjw.make_data(own, nworld=self._worlds, nconmax=sizes.contacts, njmax=sizes.rows)
            n = self._worlds
            self._targets = wp.zeros((n, own.nu), dtype=float)
            self._restarted, self._failed = wp.ones(n, dtype=bool), wp.zeros(n, dtype=bool)
            self._seen, self._lost = wp.zeros(n, dtype=int), wp.zeros(n, dtype=int)
        self._steps = 0
        self._state = {name: self._view(getattr(self._data, name)) for name in _STATE}
        self._views()
        self._launch: Callable[[], None] = self._capture() if self._device.type == "cuda" else self._advance

    def _views(self) -> None:
        """Create torch tensors that share memory with Warp's arrays."""
        first = slice(0, self._boxes)
        self._ground = {name: self._view(getattr(self._model, name))[:, first] for name in _EXTENT}
        self._ground |= {name: self._view(getattr(self._data, name))[:, first] for name in ("geom_xpos", "geom_xmat")}
        self._targets_view, self._restarted_view, self._failed_view, self._seen_view, self._lost_view = (
            self._view(part) for part in (self._targets, self._restarted, self._failed, self._seen, self._lost)
        )

    def _view(self, array: wp.array) -> torch.Tensor:
        """Return a torch tensor on the memory of one of Warp's arrays, of the worlds that are used."""
        return wp.to_torch(array)[: self._num_sims]

    @property
    @override
    def num_sims(self) -> int:
        return self._num_sims

    @property
    @override
    def device(self) -> torch.device:
        return self._device

    @override
    def field(self, name: str) -> torch.Tensor:
        if name not in self._state:
            return self._view(getattr(self._data, name))  # follows from the state, so snapshots leave it out
        return self._state[name]

    @override
    def step(self, targets: torch.Tensor) -> torch.Tensor:
        self.aim(targets)
        self.advance()
        return self.failed.clone()

    @override
    def aim(self, targets: torch.Tensor) -> None:
        self._targets_view.copy_(targets)

    @override
    def advance(self) -> None:
        self._steps += 1
        self._launch()

    @property
    @override
    def failed(self) -> torch.Tensor:
        return self._failed_view

    @override
    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        for name, value in (("qpos", qpos), ("qvel", qvel)):
            self._state[name][ids] = value.to(self._state[name])
        self._restarted_view[ids] = True

    @override
    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        for name, value in (("qpos", qpos), ("qvel", qvel)):
            _put_where(mask, value, self._state[name])
        self._restarted_view.logical_or_(mask)

    @override
    def set_boxes(self, ids: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        self._set(ids, _boxes_in_space(center, turn, half))

    @override
    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        self._set(ids, _boxes(pose, half, lane))

    def _set(self, ids: torch.Tensor, boxes: dict[str, torch.Tensor]) -> None:
        for name, value in boxes.items():
            self._ground[name][ids] = value.to(self._ground[name])

    @override
    def set_ground_where(
        self, mask: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        self._set_where(mask, _boxes(pose, half, lane))

    @override
    def set_boxes_where(self, mask: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        self._set_where(mask, _boxes_in_space(center, turn, half))

    def _set_where(self, mask: torch.Tensor, boxes: dict[str, torch.Tensor]) -> None:
        for name, value in boxes.items():
            _put_where(mask, value, self._ground[name])

    @override
    def snapshot(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self._remembered().items()}

    @override
    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        for name, value in self._remembered().items():
            value.copy_(snapshot[name])

    def overflow(self) -> dict[str, int]:
        """Return the number of worlds with each kind of overflow since the last call; waits for the device.

        Returns:
            Number of worlds by kind, without kinds that did not occur. ``NEFC``, ``BROADPHASE``, ``NARROWPHASE`` and
            ``CCD`` mean that contacts were dropped, and that the world failed: increase ``sizes``. ``ITERATIONS``
            and ``LS_ITERATIONS`` mean that a solver stopped at its limit.
        """
        masks = self._seen_view.to("cpu", copy=True)
        self._seen_view.zero_()
        counts = {kind.name or "": int((masks & kind.value != 0).sum()) for kind in mjw.OverflowType if kind.value}
        return {name: count for name, count in counts.items() if count and name not in ("ALL", "NONE")}

    @override
    def check_overflow(self) -> None:
        lost, steps = int(self._lost_view.sum()), self._steps * self._num_sims
        kinds = {name: n for name, n in self.overflow().items() if mjw.OverflowType[name] & _LOST}
        self._lost_view.zero_()
        self._steps = 0
        if lost > _LOST_SHARE * steps:
            raise ConfigError(
                f"contacts were dropped in mujoco_warp in {lost} of {steps} steps "
                f"({', '.join(f'{k} in {n} worlds' for k, n in kinds.items())}); "
                f"there was room for {self._data.naconmax} contacts and {self._data.njmax} constraints per world: "
                "increase MARGIN in policykd.envs.physics.contact_budget, or pass larger ContactSizes to the engine"
            )

    def _remembered(self) -> dict[str, torch.Tensor]:
        return {**self._state, **self._ground, "restarted": self._restarted_view}

    def _advance(self) -> None:
        """Launch the kernels of one policy step."""
        data, n = self._data, self._worlds
        with wp.ScopedDevice(self._warp_device):
            wp.launch(
                _prepare, dim=n, inputs=[self._targets, self._restarted],
                outputs=[data.ctrl, self._failed, data.qacc_warmstart, data.time],
            )  # fmt: skip
            for _ in range(self._decimation):
                mjw.step(self._model, data)
            wp.launch(
                _guard, dim=n, inputs=[self._model.qpos0],
                outputs=[
                    data.qpos, data.qvel, data.qacc_warmstart, data.actuator_force,
                    data.efc.J, data.efc.aref, data.efc.force, data.efc.vel,
                    data.overflow, self._seen, self._lost, self._failed,
                ],
            )  # fmt: skip

    def _capture(self) -> Callable[[], None]:
        """Capture the kernels of a policy step as a CUDA graph, and return a function that launches it."""
        before = self.snapshot()
        torch.cuda.synchronize(self._device)  # Warp's stream does not wait for torch's by itself
        self._advance()  # compile and load every kernel, which is not possible during a capture
        with wp.ScopedDevice(self._warp_device), no_garbage_collection(), wp.ScopedCapture() as capture:
            self._advance()
        wp.synchronize_device(self._warp_device)
        self.restore(before)
        self._seen_view.zero_()
        self._lost_view.zero_()
        graph, device, streams = capture.graph, self._device, dict[int, wp.Stream]()

        def launch() -> None:
            current = torch.cuda.current_stream(device)
            if current.cuda_stream not in streams:
                streams[current.cuda_stream] = wp.stream_from_torch(current)
            wp.capture_launch(graph, stream=streams[current.cuda_stream])

        return launch


def _boxes(pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return ground boxes (m, k, ...) as fields of mujoco_warp, like ``ground_fields`` for MjModel."""
    x, z, angle = pose.unbind(-1)
    length, depth = half.unbind(-1)
    if lane is None:
        y, across, radius = torch.zeros_like(x), torch.full_like(x, HALF_DEPTH), torch.hypot(length, depth)
    else:
        y, across = (part[:, None].expand_as(x) for part in lane.to(x).unbind(-1))
        radius = torch.sqrt(length * length + depth * depth + across * across)
    fields = _box_fields(
        torch.stack([x, y, z], dim=-1), torch.zeros_like(x), angle, torch.stack([length, across, depth], dim=-1)
    )
    return {**fields, "geom_rbound": radius}  # of the section at y = 0 for planar robots, which stay in that plane


def _boxes_in_space(center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return ground boxes (m, k, ...) as fields of mujoco_warp, like ``box_fields`` for MjModel."""
    yaw, pitch = turn.unbind(-1)
    return {**_box_fields(center, yaw, pitch, half), "geom_rbound": half.norm(dim=-1)}


def _box_fields(
    center: torch.Tensor, yaw: torch.Tensor, pitch: torch.Tensor, size: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return extents and frames of boxes turned by ``yaw`` about z, then by ``-pitch`` about their y axis.

    A positive pitch therefore leads uphill along the box.
    """
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    rotation = torch.stack([cy * cp, -sy, -cy * sp, sy * cp, cy, -sy * sp, sp, torch.zeros_like(sp), cp], dim=-1)
    return {
        "geom_size": size,
        "geom_aabb": torch.stack([torch.zeros_like(size), size], dim=-2),
        "geom_xpos": center,
        "geom_xmat": rotation.unflatten(-1, (3, 3)),
    }


def _put_where(mask: torch.Tensor, value: torch.Tensor, target: torch.Tensor) -> None:
    """Overwrite the rows of ``target`` (n, ...) selected by ``mask`` (n,), without reading how many there are."""
    rows = mask.view(-1, *(1,) * (target.ndim - 1))
    target.copy_(torch.where(rows, value.to(target), target))


def _with_index(device: torch.device) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def _device_names() -> str:
    return ", ".join(str(device) for device in wp.get_devices())
