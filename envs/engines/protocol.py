"""The engine protocol: everything that an environment needs from a physics engine, on any device.

The environment holds an engine's tensors as live views: ``engine.field("qpos")`` is fetched once and read after every
``step``. An engine on another device returns tensors of that device and nothing else changes.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

FIELDS = ("qpos", "qvel", "actuator_force")
"""Fields that every engine offers, named and shaped as in MjData with a leading axis of simulations.

``qpos`` and ``qvel`` describe the state after the last step or reset; ``actuator_force`` what the motors did in the
last physics step (after a reset it is meaningless until the next step).
"""


class Engine(Protocol):
    """Many simulations of one robot, each over ground boxes of its own."""

    @property
    def num_sims(self) -> int:
        """Number of simulations."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...

    def field(self, name: str) -> torch.Tensor:
        """Live (num_sims, ...) tensor of one of ``FIELDS``; read-only by contract."""
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
        """Put simulations into given states.

        Args:
            ids: (m,) ascending simulation numbers.
            qpos: (m, nq) generalized positions.
            qvel: (m, nv) generalized velocities.
        """
        ...

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Copies of everything that the next steps depend on, the ground boxes included."""
        ...

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """Go back to a :meth:`snapshot` of an engine over the same model; the next steps equal those after it."""
        ...

    def check_overflow(self) -> None:
        """Raise if contacts were dropped since the last look; may wait for the device, so ask between rollouts.

        Raises:
            ConfigError: saying what was dropped. Engines that grow with their contacts drop none.
        """
        ...

    def set_ground(self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor) -> None:
        """Move and resize the ground boxes of simulations; takes effect at their next step or reset.

        Args:
            ids: (m,) simulation numbers.
            pose: (m, boxes, 3) centers x, z in m and slope angles in rad.
            half: (m, boxes, 2) half extents along and below the surface, m.
        """
        ...


@runtime_checkable
class MaskEngine(Protocol):
    """What takes masks in place of simulation numbers.

    How many simulations a mask marks is known on the device only, so a step that uses masks need not wait for it.
    """

    def reset_where(self, mask: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        """Put the simulations that ``mask`` (num_sims,) marks into their rows of ``qpos`` and ``qvel``.

        Args:
            mask: (num_sims,) bool.
            qpos: (num_sims, nq) generalized positions; the other rows do not matter.
            qvel: (num_sims, nv) generalized velocities; likewise.
        """
        ...

    def set_ground_where(self, mask: torch.Tensor, pose: torch.Tensor, half: torch.Tensor) -> None:
        """Move the ground boxes of the simulations that ``mask`` marks; see :meth:`Engine.set_ground`.

        Args:
            mask: (num_sims,) bool.
            pose: (num_sims, boxes, 3) as in :meth:`Engine.set_ground`; the other rows do not matter.
            half: (num_sims, boxes, 2) likewise.
        """
        ...
