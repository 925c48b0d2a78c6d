"""Tasks: what a skill rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policykd.envs.kinematics import PlanarState
from policykd.errors import ConfigError, check_range


@dataclass(frozen=True)
class Walk:
    """Walk forward at a given speed, upright, with little effort.

    The reward of a step is a weighted sum of three terms in [0, 1] with weights that sum to 1, and 0 after a fall::

        speed_weight   * exp(-((v - speed) / speed_width)^2)      v: forward velocity of the centre of mass
        upright_weight * exp(-(pitch / upright_width)^2)
        effort_weight  * exp(-mean(effort^2) / effort_width^2)    effort: torque over its limit

    Attributes:
        speed: commanded speed, m/s; PLAID's walking cycle advances 1.535 m a second.
        speed_width: error at which the speed term falls to 1/e, m/s.
        upright_width: pitch at which the uprightness term falls to 1/e, rad.
        effort_width: root mean square of the effort at which its term falls to 1/e.
        speed_weight: weight of the speed term.
        upright_weight: weight of the uprightness term.
        effort_weight: weight of the effort term.

    Raises:
        ConfigError: if the weights do not sum to 1 or a width is not positive.
    """

    speed: float = 1.54
    speed_width: float = 1.0
    upright_width: float = 0.5
    effort_width: float = 0.5
    speed_weight: float = 0.8
    upright_weight: float = 0.1
    effort_weight: float = 0.1

    def __post_init__(self) -> None:
        total = self.speed_weight + self.upright_weight + self.effort_weight
        if abs(total - 1.0) > 1e-9:
            raise ConfigError(f"the weights of the walk task sum to {total}; they must sum to 1")
        for field in ("speed_width", "upright_width", "effort_width"):
            check_range(field, getattr(self, field), 1e-6, float("inf"))

    def reward(self, state: PlanarState, mass: torch.Tensor) -> torch.Tensor:
        """Reward before falls are taken into account.

        Args:
            state: the new state of n simulations.
            mass: (links,) fraction of the robot's mass in each link.

        Returns:
            (n,) rewards in [0, 1].
        """
        speed = state.com_velocity[:, :, 0] @ mass
        effort = torch.linalg.vector_norm(state.effort, dim=1)
        errors = torch.stack([
            (speed - self.speed) / self.speed_width,
            state.pitch / self.upright_width,
            effort / (self.effort_width * state.effort.shape[1] ** 0.5),
        ])  # fmt: skip
        weights = errors.new_tensor((self.speed_weight, self.upright_weight, self.effort_weight))
        return weights @ errors.square_().neg_().exp_()

    def least_distance(self, seconds: float) -> float:
        """Distance that an episode must cover to count as a success, m: half of the commanded one."""
        return 0.5 * self.speed * seconds
