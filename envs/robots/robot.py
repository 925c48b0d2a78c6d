"""What every robot tells the rest of the package, whether its motion is planar or free in space.

Environments, policy files and pages read robots through :class:`Robot` only. ``planar`` has robots that move in a plane
and are tables of links; ``spatial`` has robots with a free base that are described by a model and patterns of names;
``model_robot`` has robots that are simulated as their model files say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from policykd.errors import ConfigError

Family = Literal["plane", "space", "model", "gymnasium"]
"""What a robot's tasks and observation groups must fit: a robot in a plane or in space on grounds of policykd, or one
that is simulated as its model file says, ground and actuators included."""


@dataclass(frozen=True)
class Servo:
    """The position controller of one joint; its target angle is ``stand + scale * action``, within the limits.

    For an actuator of a model file, the target is a control instead of an angle, and the limits are the control's.

    Attributes:
        joint: name of the joint.
        stand: joint angle of the standing pose, rad; the target angle of an action of 0.
        scale: change of the target angle per unit of action, rad.
        limits: joint limits, rad.
        stiffness: position gain kp, Nm/rad; 0 for motors, whose control is a torque.
        damping: damping of the joint kd, Nm s/rad.
        torque: limit of the controller's torque, Nm.
    """

    joint: str
    stand: float
    scale: float
    limits: tuple[float, float]
    stiffness: float
    damping: float
    torque: float


def check_servo(servo: Servo) -> Servo:
    """Return a servo made from numbers of a file, whose products may be too large for a float.

    Raises:
        ConfigError: naming joint and property.
    """
    for name in ("stand", "scale", "limits", "stiffness", "damping", "torque"):
        if not np.isfinite(value := getattr(servo, name)).all():
            raise ConfigError(f"joint {servo.joint}: {name} is {value}; it must be finite")
    return servo


class Robot(ABC):
    """A robot; subclasses are frozen dataclasses, so robots with equal fields are equal.

    Attributes:
        name: name in the registry and first part of every skill id.
        friction: sliding friction against the ground.
        timestep: physics time step, s.
        decimation: physics steps per policy step.
        reach: largest horizontal distance of a colliding part from the base, m.
        family: what its tasks and observation groups must fit.
        terrains: terrains that it can move on; None for all.
    """

    name: str
    friction: float
    timestep: float
    decimation: int
    reach: float
    family: ClassVar[Family] = "plane"
    terrains: ClassVar[tuple[str, ...] | None] = None

    @property
    @abstractmethod
    def servos(self) -> tuple[Servo, ...]:
        """Position controllers, in the order of the actions."""

    @property
    @abstractmethod
    def stand_pose(self) -> np.ndarray:
        """(nq,) generalized positions of the standing pose over ground of height 0."""

    @property
    @abstractmethod
    def slack(self) -> float:
        """Distance of the base from the center of its ground window at which the window is moved, m."""

    @property
    @abstractmethod
    def ground_scale(self) -> float:
        """Factor from the sizes of terrain presets, which fit legs of 0.79 m, to this robot's ground."""

    @property
    @abstractmethod
    def default_task(self) -> str:
        """Name of the task of skills whose id does not name one."""

    @property
    def spatial(self) -> bool:
        """Whether the base moves freely in space instead of in the plane y = 0."""
        return False

    @property
    def episode_steps(self) -> int:
        """Policy steps after which episodes of skills from an id are truncated."""
        return 256

    @property
    def model_sha256(self) -> str | None:
        """Hash of the compiled model; None for planar robots, which their tables determine."""
        return None

    @property
    def control_dt(self) -> float:
        """Time between two actions, s."""
        return self.timestep * self.decimation

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(self.servos)

    @property
    def window_width(self) -> float:
        """Width of the ground that the feet can reach before the window moves, m; 0.6 slack is for one step."""
        return 2 * (self.reach + 1.6 * self.slack)
