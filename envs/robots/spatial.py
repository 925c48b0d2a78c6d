"""Robots with a free base in space, described by a source and patterns of names; nothing about them is code.

A :class:`SpatialRobot` is a frozen record. Its model is compiled once per process when something asks for joints or
sizes; that is also when a description that does not fit its source is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from typing_extensions import override

from policykd.envs.robots.robot import Family, Robot, Servo
from policykd.envs.robots.solids import SolidTable, Vector
from policykd.errors import ConfigError, check_range

if TYPE_CHECKING:
    from policykd.envs.robots.assembly import Body

Patterns = tuple[tuple[str, float], ...]
"""Numbers by regular expression: the first pattern that matches a whole name counts."""

PRESET_LEG = 0.79
"""Leg length that the sizes of the terrain presets were chosen for, m."""


@dataclass(frozen=True)
class ModelFile:
    """A model in an MJCF or URDF file.

    Attributes:
        path: path of the file.
        sha256: SHA-256 of its content when the robot was described; empty to accept any content.
    """

    path: str
    sha256: str = ""


@dataclass(frozen=True)
class Physics:
    """Settings of the simulation.

    Attributes:
        timestep: physics time step, s.
        decimation: physics steps per policy step.
        iterations: most iterations of the constraint solver.
        ls_iterations: most iterations of its line search.
        shins: whether the geoms of ``SpatialRobot.shins`` collide with the ground, too; slower, and more honest.
    """

    timestep: float = 0.01
    decimation: int = 2
    iterations: int = 4
    ls_iterations: int = 8
    shins: bool = False

    def __post_init__(self) -> None:
        check_range("physics.timestep", self.timestep, 1e-5, 0.1, "s")
        check_range("physics.decimation", self.decimation, 1, 1000)
        check_range("physics.iterations", self.iterations, 1, 1000)
        check_range("physics.ls_iterations", self.ls_iterations, 1, 1000)


@dataclass(frozen=True)
class SpatialRobot(Robot):
    """A robot with a free base.

    Joint properties are :data:`Patterns` over joint names. A geom without a name is called ``<body>/<number>``.

    Attributes:
        name: name in the registry and first part of every skill id.
        source: where its bodies come from.
        feet: pattern of the geoms that touch the ground.
        stiffness: position gain kp of every joint, Nm/rad.
        damping: damping kd of every joint, Nm s/rad.
        effort: largest torque of every joint, Nm; empty for the limits in the source.
        stand: joint angles of the standing pose, rad; 0 for joints that no pattern matches.
        action_scale: change of the target angle per unit of action, rad.
        armature: rotor inertia of the joints, kg m^2; that of the source where no pattern matches.
        friction_loss: dry friction of the joints, Nm; that of the source where no pattern matches.
        friction: sliding friction of the feet.
        base: body with the free joint; empty for the only body that is a child of the world.
        falls: points in the base's frame that must stay above the ground, m; empty for the corners and centers of the
            box that has the base's inertia.
        tilt: the robot has fallen once its base leans more than this from upright, degrees.
        shins: pattern of further geoms that touch the ground under ``Physics.shins``.
        lock: pattern of joints that are welded in their zero pose.
        mirror: pairs of texts that the names of the left and the right side differ by; empty to try the usual ones.
        leg: leg length that scales terrains and scans, m; 0 for the height of the base in the standing pose.
        task: name of the task of skills whose id does not name one.
        physics: settings of the simulation.

    Raises:
        ConfigError: for a setting out of range, or, when the model is first used, for a source or pattern that does
            not fit.
    """

    name: str
    source: SolidTable | ModelFile
    feet: str
    stiffness: Patterns
    damping: Patterns
    effort: Patterns = ()
    stand: Patterns = ()
    action_scale: Patterns = ((".*", 0.5),)
    armature: Patterns = ()
    friction_loss: Patterns = ()
    friction: float = 0.8
    base: str = ""
    falls: tuple[Vector, ...] = ()
    tilt: float = 78.0
    shins: str = ""
    lock: str = ""
    mirror: tuple[tuple[str, str], ...] = ()
    leg: float = 0.0
    task: str = "velocity"
    physics: Physics = field(default_factory=Physics)

    family: ClassVar[Family] = "space"

    def __post_init__(self) -> None:
        if not self.feet:
            raise ConfigError(f"robot {self.name} has no pattern of feet; name the geoms that touch the ground")
        check_range(f"friction of {self.name}", self.friction, 0.0, 10.0)
        check_range(f"tilt of {self.name}", self.tilt, 1.0, 180.0, "degrees")
        check_range(f"leg of {self.name}", self.leg, 0.0, 10.0, "m")

    @cached_property
    def body(self) -> Body:
        """The compiled robot: addresses, masses, standing pose, mirror image."""
        return _body(self)  # equal robots share one, and asking again costs no hash of all fields

    @property
    @override
    def spatial(self) -> bool:
        return True

    @property
    @override
    def episode_steps(self) -> int:
        return 500

    @property
    @override
    def model_sha256(self) -> str | None:
        return self.body.sha256

    @property
    @override
    def default_task(self) -> str:
        return self.task

    @property
    @override
    def servos(self) -> tuple[Servo, ...]:
        return self.body.servos

    @property
    @override
    def stand_pose(self) -> np.ndarray:
        return self.body.stand_pose

    @property
    def leg_length(self) -> float:
        """Leg length, m."""
        return self.leg or float(self.stand_pose[2])

    @property
    @override
    def timestep(self) -> float:  # type: ignore[override]  # derived from the physics settings
        return self.physics.timestep

    @property
    @override
    def decimation(self) -> int:  # type: ignore[override]
        return self.physics.decimation

    @property
    @override
    def reach(self) -> float:  # type: ignore[override]
        return self.body.reach

    @property
    @override
    def slack(self) -> float:
        return self.leg_length

    @property
    @override
    def ground_scale(self) -> float:
        return self.leg_length / PRESET_LEG


@lru_cache(maxsize=64)
def _body(robot: SpatialRobot) -> Body:
    from policykd.envs.robots.assembly import make_body  # loads MuJoCo

    return make_body(robot)
