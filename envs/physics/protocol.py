"""The engine protocol: everything that an environment needs from a physics engine, on any device.

The environment keeps an engine's tensors as live views: it calls ``engine.field("qpos")`` once and reads the tensor
after every ``step``. An engine on another device returns tensors on that device; nothing else changes.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

FIELDS = ("qpos", "qvel", "actuator_force")
"""Fields that every engine offers, named and shaped as in MjData with a leading axis of simulations.

Engines also offer ``geom_xpos``: the centers of all geoms at the beginning of the last physics step.

``qpos`` and ``qvel`` are the state after the last step or reset; ``actuator_force`` has the motors' torques in the last
physics step (after a reset it is meaningless until the next step).
"""


class Engine(Protocol):
    """Many simulations of one robot, each with its own ground boxes."""

    @property
    def num_sims(self) -> int:
        """Number of simulations."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...

    @property
    def threads(self) -> int:
        """Threads that compiled loops over the simulations may use, too; the engine's own rest between its steps."""
        return 1

    def field(self, name: str) -> torch.Tensor:
        """Return the live (num_sims, ...) tensor of one of ``FIELDS``; do not write to it."""
        ...

    def step(self, targets: torch.Tensor) -> torch.Tensor:
        """Advance every simulation by one policy step.

        Args:
            targets: (num_sims, joints) target angles of the position controllers, rad.

        Returns:
            (num_sims,) bool: simulations in which MuJoCo raised an error or met a NaN. Their state is valid but
            meaningless; reset them. The other simulations are not affected.
        """
        ...

    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Set the states of simulations.

        Args:
            ids: (m,) ascending simulation numbers.
            qpos: (m, nq) generalized positions.
            qvel: (m, nv) generalized velocities.
        """
        ...

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return copies of everything that the next steps depend on, including the ground boxes."""
        ...

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """Restore a :meth:`snapshot` of an engine over the same model; the next steps equal those after it."""
        ...

    def check_overflow(self) -> None:
        """Raise if contacts were dropped in more than a thousandth of the steps since the last call.

        Simulations in which that happened count as failed. It may wait for the device, so call it between rollouts.

        Raises:
            ConfigError: naming the kind and the number of dropped contacts. CPU engines never drop contacts.
        """
        ...

    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        """Move and resize the ground boxes of simulations; takes effect at their next step or reset.

        Args:
            ids: (m,) simulation numbers.
            pose: (m, boxes, 3) centers x, z in m and slope angles in rad.
            half: (m, boxes, 2) half extents along and below the surface, m.
            lane: (m, 2) center y and half width of the ground, m; None for planar robots.
        """
        ...

    def set_boxes(self, ids: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        """Move, turn and resize the ground boxes of simulations, as :meth:`set_ground` does, in space.

        Args:
            ids: (m,) simulation numbers.
            center: (m, boxes, 3) centers, m.
            turn: (m, boxes, 2) yaw, and pitch about the turned y axis, positive uphill, rad.
            half: (m, boxes, 3) half extents along the direction, across it and below the surface, m.
        """
        ...


@runtime_checkable
class MaskEngine(Protocol):
    """Engine methods that take masks instead of simulation numbers.

    The number of simulations that a mask selects is known only on the device, and steps with masks do not wait for it.
    A step has three parts over the same tensors every time, so that what comes before and after the physics can be
    recorded (see :mod:`policykd.envs.capture`).
    """

    @property
    def failed(self) -> torch.Tensor:
        """Live (num_sims,) bool of the last step; see :meth:`Engine.step`."""
        ...

    def aim(self, targets: torch.Tensor) -> None:
        """Set the target angles of the next step; see :meth:`Engine.step`."""
        ...

    def advance(self) -> None:
        """Advance every simulation by one policy step towards the targets."""
        ...

    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Set the states of the simulations selected by ``mask`` to their rows of ``qpos`` and ``qvel``.

        Args:
            mask: (num_sims,) bool.
            qpos: (num_sims, nq) generalized positions; unselected rows are ignored.
            qvel: (num_sims, nv) generalized velocities; unselected rows are ignored.
        """
        ...

    def set_ground_where(
        self, mask: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        """Move the ground boxes of the simulations selected by ``mask``; see :meth:`Engine.set_ground`.

        Args:
            mask: (num_sims,) bool.
            pose: (num_sims, boxes, 3) as in :meth:`Engine.set_ground`; unselected rows are ignored.
            half: (num_sims, boxes, 2) as in :meth:`Engine.set_ground`; unselected rows are ignored.
            lane: (num_sims, 2) as in :meth:`Engine.set_ground`.
        """
        ...

    def set_boxes_where(self, mask: torch.Tensor, center: torch.Tensor, turn: torch.Tensor, half: torch.Tensor) -> None:
        """Move the ground boxes of the simulations selected by ``mask``; see :meth:`Engine.set_boxes`.

        Args:
            mask: (num_sims,) bool.
            center: (num_sims, boxes, 3) as in :meth:`Engine.set_boxes`; unselected rows are ignored.
            turn: (num_sims, boxes, 2) as there.
            half: (num_sims, boxes, 3) as there.
        """
        ...
