"""Robots that are simulated exactly as a model file says: its ground, its actuators, its time step and its solver.

This is how published environments stay what they are. The record loads neither MuJoCo nor the package of the file; the
model is compiled once per process when something asks for joints or sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from typing_extensions import override

from policykd.envs.robots.robot import Family, Robot, Servo
from policykd.envs.robots.spatial import PRESET_LEG, ModelFile
from policykd.errors import check_range

if TYPE_CHECKING:
    from policykd.envs.robots.own_model import OwnBody


@dataclass(frozen=True)
class GymnasiumModel:
    """A model that the installed package gymnasium comes with; no file is copied.

    Attributes:
        asset: name of the file among gymnasium's MuJoCo models.
    """

    asset: str


@dataclass(frozen=True)
class ModelRobot(Robot):
    """A robot that is simulated as its file says, on the ground of the file.

    Its actions are the controls of the file's actuators, scaled from [-1, 1] to their ranges. The root is a free joint,
    or slides along x and z and a hinge about y, in this order; that is found in the model.

    Attributes:
        name: name in the registry and first part of every skill id.
        source: the model.
        actuators: ``own``, the only choice: those of the file.
        decimation: physics steps per policy step.
        task: name of the task of skills whose id does not name one.
        reset_noise: half width of the uniform noise on the initial generalized positions (m, rad, parts of a
            quaternion) and velocities, which are those of the file otherwise.
        reset_normal: whether the noise on the velocities is normal, with this standard deviation, instead.
        velocity_limit: largest magnitude of an observed velocity, m/s and rad/s; None for no limit.
        force_limit: largest magnitude of an observed contact force, N and Nm; the cost of contacts counts the same;
            None for no limit.
        steps: policy steps after which episodes of skills from an id are truncated.

    Raises:
        ConfigError: for a setting out of range, or, when the model is first used, for a model that cannot be used.
    """

    name: str
    source: ModelFile | GymnasiumModel
    actuators: Literal["own"] = "own"
    decimation: int = 5
    task: str = "forward"
    reset_noise: float = 0.005
    reset_normal: bool = False
    velocity_limit: float | None = None
    force_limit: float | None = None
    steps: int = 1000

    family: ClassVar[Family] = "model"
    terrains: ClassVar[tuple[str, ...] | None] = ("flat",)

    def __post_init__(self) -> None:
        check_range(f"decimation of {self.name}", self.decimation, 1, 1000)
        check_range(f"reset_noise of {self.name}", self.reset_noise, 0.0, 1.0)
        for name in ("velocity_limit", "force_limit"):
            if getattr(self, name) is not None:
                check_range(f"{name} of {self.name}", getattr(self, name), 1e-6, float("inf"))
        check_range(f"steps of {self.name}", self.steps, 1, 10**6)

    @cached_property
    def body(self) -> OwnBody:
        """The compiled model's sizes, actuators and initial state."""
        return _body(self)  # equal robots share one, and asking again costs no hash of all fields

    @property
    @override
    def spatial(self) -> bool:
        return self.body.root == "free"

    @property
    @override
    def episode_steps(self) -> int:
        return self.steps

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
        return self.body.initial

    @property
    @override
    def timestep(self) -> float:  # type: ignore[override]  # that of the file
        return self.body.timestep

    @property
    @override
    def friction(self) -> float:  # type: ignore[override]  # that of the file
        return self.body.friction

    @property
    @override
    def reach(self) -> float:  # type: ignore[override]  # no window of ground moves with it
        return 0.0

    @property
    @override
    def slack(self) -> float:
        return float("inf")

    @property
    @override
    def ground_scale(self) -> float:
        return self.body.height / PRESET_LEG


@lru_cache(maxsize=64)
def _body(robot: ModelRobot) -> OwnBody:
    from policykd.envs.robots.own_model import make_own_body  # loads MuJoCo

    return make_own_body(robot)
