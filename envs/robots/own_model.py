"""Compilation of robots that are simulated as their files say; sizes, actuators and root are found in the model.

Nothing of the model is changed. A file whose root or actuators no task can use is refused with the reason.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np

from policykd.envs.robots.model_robot import GymnasiumModel, ModelRobot
from policykd.envs.robots.robot import Servo, check_servo
from policykd.envs.robots.sources import check_finite, read_model
from policykd.errors import ConfigError, MissingDependencyError

Root = Literal["free", "planar"]

_PARALLEL = 1.0 - 1e-9  # cosine above which an axis counts as parallel
_DIGITS = 6  # after the point: versions of MuJoCo differ in the last ones


@dataclass(frozen=True)
class OwnBody:
    """A compiled model. Arrays are read-only.

    Attributes:
        servos: actuators, in the order of the actions.
        root: ``free`` for a free joint, ``planar`` for slides along x and z and a hinge about y.
        initial: (nq,) generalized positions of the file.
        velocities: number of generalized velocities.
        bodies: number of bodies, without the world.
        masses: (bodies + 1,) their masses, that of the world first, kg.
        timestep: physics time step, s.
        friction: sliding friction of the first geom of the world.
        height: height of the root's body above the ground in the initial state, m.
        sha256: hash of the compiled model.
    """

    servos: tuple[Servo, ...]
    root: Root
    initial: np.ndarray
    velocities: int
    bodies: int
    masses: np.ndarray
    timestep: float
    friction: float
    height: float
    sha256: str

    @property
    def root_places(self) -> int:
        """Number of generalized positions that only say where on the ground the robot is: x, or x and y."""
        return 2 if self.root == "free" else 1

    @property
    def height_index(self) -> int:
        """Index of the root's height in the generalized positions."""
        return self.root_places


def own_spec(robot: ModelRobot) -> mujoco.MjSpec:
    """Return the specification of a robot as its file has it.

    Raises:
        ConfigError: for a file that cannot be read, or that is not MJCF.
        MissingDependencyError: if gymnasium is not installed.
    """
    if isinstance(robot.source, GymnasiumModel):
        return mujoco.MjSpec.from_file(str(_asset(robot.source)))
    return read_model(robot.source)


def build_own(robot: ModelRobot) -> mujoco.MjModel:
    """Return the model that is simulated.

    Raises:
        ConfigError: as :func:`own_spec`, or for a model that does not compile.
    """
    try:
        with warnings.catch_warnings():  # gymnasium's files use attributes that MuJoCo is about to drop
            warnings.filterwarnings("ignore", message="compiler attribute", category=UserWarning)
            model = own_spec(robot).compile()
    except ValueError as error:
        raise ConfigError(f"robot {robot.name} cannot be simulated: {error}") from error
    return check_finite(model, robot.name)


def make_own_body(robot: ModelRobot) -> OwnBody:
    """Compile a robot and find its sizes, actuators and root.

    Raises:
        ConfigError: naming the root or actuator that cannot be used, and the cure.
    """
    model = build_own(robot)
    root = _root(model, robot)
    if not model.nu:
        raise ConfigError(
            f"the model of robot {robot.name} has no actuators, so actuators: own leaves none to act with"
        )
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    ground = [i for i in range(model.ngeom) if model.geom_bodyid[i] == 0]
    return OwnBody(
        servos=tuple(_servo(model, robot, i) for i in range(model.nu)),
        root=root,
        initial=_frozen(model.qpos0.copy()),
        velocities=model.nv,
        bodies=model.nbody - 1,
        masses=_frozen(model.body_mass.copy()),
        timestep=float(model.opt.timestep),
        friction=float(model.geom_friction[ground[0], 0]) if ground else 0.0,
        height=float(data.xpos[1, 2]),
        sha256=_hash(model),
    )


def _asset(source: GymnasiumModel) -> Path:
    found = find_spec("gymnasium")
    if found is None or found.origin is None:
        raise MissingDependencyError(f"the model {source.asset} comes with gymnasium, which is not installed")
    path = Path(found.origin).parent / "envs" / "mujoco" / "assets" / source.asset
    if not path.is_file():
        raise ConfigError(f"gymnasium has no model {source.asset} in {path.parent}; install gymnasium 1.0 or newer")
    return path


def _root(model: mujoco.MjModel, robot: ModelRobot) -> Root:
    if model.njnt and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
        return "free"
    if model.njnt >= 3 and (model.jnt_bodyid[:3] == model.jnt_bodyid[0]).all():
        slide, hinge = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
        along = np.abs([model.jnt_axis[0, 0], model.jnt_axis[1, 2], model.jnt_axis[2, 1]])
        if model.jnt_type[:3].tolist() == [slide, slide, hinge] and (along > _PARALLEL).all():
            return "planar"
    first = model.joint(0).name or "0" if model.njnt else "none"
    raise ConfigError(
        f"the base of robot {robot.name} is fixed or moves in another way (first joint: {first}). The tasks of "
        "policykd move a base over the ground: give the model a free joint first, or slides along x and z and a hinge "
        "about y"
    )


def _servo(model: mujoco.MjModel, robot: ModelRobot, index: int) -> Servo:
    actuator = model.actuator(index)
    name = actuator.name or str(index)
    if not model.actuator_ctrllimited[index]:
        raise ConfigError(
            f"actuator {name} of robot {robot.name} has no ctrlrange, so an action in [-1, 1] has no scale; add one"
        )
    low, high = (float(bound) for bound in model.actuator_ctrlrange[index])
    damping = 0.0
    if model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT:
        joint = model.joint(int(model.actuator_trnid[index, 0]))
        name, damping = joint.name or name, float(model.dof_damping[model.jnt_dofadr[joint.id]])
    # An affine bias -kp * q makes a position servo; its largest force is known only if the file limits it.
    stiffness = max(0.0, -float(model.actuator_biasprm[index, 1]))
    gear = abs(float(model.actuator_gear[index, 0]))
    force = float(model.actuator_forcerange[index, 1]) if model.actuator_forcelimited[index] else 0.0
    torque = gear * (force or abs(float(model.actuator_gainprm[index, 0])) * max(abs(low), abs(high)))
    return check_servo(Servo(name, (low + high) / 2, (high - low) / 2, (low, high), stiffness, damping, torque))


_HASHED = (
    "body_parentid", "body_pos", "body_quat", "body_mass", "body_ipos", "body_iquat", "body_inertia", "jnt_type",
    "jnt_axis", "jnt_pos", "jnt_range", "jnt_limited", "jnt_stiffness", "qpos0", "qpos_spring", "dof_damping",
    "dof_armature", "dof_frictionloss", "geom_type", "geom_size", "geom_pos", "geom_quat", "geom_bodyid",
    "geom_friction", "geom_contype", "geom_conaffinity", "geom_condim", "geom_solref", "geom_solimp", "geom_margin",
    "actuator_gainprm", "actuator_biasprm", "actuator_gear", "actuator_ctrlrange", "actuator_forcerange",
)  # fmt: skip
_OPTIONS = ("timestep", "gravity", "integrator", "cone", "solver", "iterations", "density", "viscosity", "impratio")


def _hash(model: mujoco.MjModel) -> str:
    """Return a hash of everything that the motion depends on."""
    digest = hashlib.sha256()
    parts = [(name, getattr(model, name)) for name in _HASHED]
    parts += [(name, getattr(model.opt, name)) for name in _OPTIONS]
    for name, value in parts:
        values = np.round(np.asarray(value, dtype=np.float64), _DIGITS) + 0.0  # no negative zeros
        digest.update(f"{name}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
