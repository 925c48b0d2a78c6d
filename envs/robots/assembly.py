"""Compilation of a robot in space: servos, contacts, standing pose and mirror image, found once per robot.

``make_body`` reads a description and gives the numbers that environments, policies and pages use; ``build_spatial``
gives the model that is simulated.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

import mujoco
import numpy as np

from policykd.envs.robots.ground_pool import GROUND, add_ground, disable_broad_phase
from policykd.envs.robots.robot import Servo, check_servo
from policykd.envs.robots.sources import BASE_JOINT, check_finite, robot_spec
from policykd.envs.robots.spatial import Patterns, SpatialRobot
from policykd.errors import ConfigError

_OTHER_FRICTION = (0.005, 0.0001, 0.0001)  # torsional and rolling; spheres and capsules have condim 3, so no effect
_SIDES = (("left", "right"), ("FL", "FR"), ("RL", "RR"), ("LF", "RF"), ("LH", "RH"), ("L_", "R_"), ("_l", "_r"))
_FREE = 7  # generalized positions of the base: place and quaternion
_LIKE_AXIS = 0.99  # cosine above which two axes count as parallel


@dataclass(frozen=True)
class Body:
    """A compiled robot. Arrays are read-only; k joints, f feet, g geoms of the feet.

    Attributes:
        servos: position controllers, in the order of the joints.
        stand_pose: (7 + k,) generalized positions of the standing pose on ground of height 0.
        feet: (g,) numbers of the feet's geoms among the robot's geoms.
        foot_radius: (g,) distance of a foot geom's center from its lowest point, m.
        foot_of: (g,) the foot that a geom belongs to, in [0, f).
        foot_names: names of the f bodies with feet.
        foot_place: (f, 2) places of the feet in the standing pose, ahead of the base and to its left, m.
        foot_mirrored: (f,) counterpart of each foot on the other side.
        fall_points: (p, 3) points in the base's frame that must stay above the ground, m.
        posture: (k,) 1 for joints that turn sideways (about x or z), whose deviation from standing is penalized.
        mirrored: (k,) counterpart of each joint on the other side.
        mirror_sign: (k,) sign of a joint's angle after the exchange of left and right.
        symmetric: whether the robot equals its mirror image.
        reach: largest horizontal distance of a foot from the base that windows of the ground allow for, m.
        mass: mass, kg.
        sha256: hash of the compiled model, without ground.
    """

    servos: tuple[Servo, ...]
    stand_pose: np.ndarray
    feet: np.ndarray
    foot_radius: np.ndarray
    foot_of: np.ndarray
    foot_names: tuple[str, ...]
    foot_place: np.ndarray
    foot_mirrored: np.ndarray
    fall_points: np.ndarray
    posture: np.ndarray
    mirrored: np.ndarray
    mirror_sign: np.ndarray
    symmetric: bool
    reach: float
    mass: float
    sha256: str


def build_spatial_spec(robot: SpatialRobot, boxes: int) -> mujoco.MjSpec:
    """Return the specification of a robot with servos over ``boxes`` ground boxes, without contact pairs."""
    spec = robot_spec(robot)
    option, physics = spec.option, robot.physics
    option.timestep, option.gravity = physics.timestep, [0.0, 0.0, -9.81]
    # Euler's method treats the joints' damping implicitly, which keeps kd stable at this time step.
    option.integrator, option.cone = mujoco.mjtIntegrator.mjINT_EULER, mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.iterations, option.ls_iterations, option.impratio = physics.iterations, physics.ls_iterations, 1.0
    disable_broad_phase(spec)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    add_ground(spec, boxes, robot.friction)
    for joint in spec.joints:
        if joint.name != BASE_JOINT:
            _add_servo(spec, joint, robot)
    return spec


def build_spatial(robot: SpatialRobot, boxes: int) -> mujoco.MjModel:
    """Return the model that is simulated: the robot over ``boxes`` ground boxes that only its feet touch."""
    spec = build_spatial_spec(robot, boxes)
    sliding = [robot.friction, robot.friction, *_OTHER_FRICTION]
    for name in _touching(spec, robot):
        for i in range(boxes):
            spec.add_pair(geomname1=f"{GROUND}{i}", geomname2=name, condim=3, friction=sliding)
    return _compiled(spec, robot)


def make_body(robot: SpatialRobot) -> Body:
    """Compile a robot and find everything that its description leaves to the model.

    Raises:
        ConfigError: naming the part of the description that does not fit the model, and the cure.
    """
    model = build_spatial(robot, 0)
    joints = [model.joint(i).name for i in range(1, model.njnt)]
    if not joints:
        raise ConfigError(f"robot {robot.name} has no joints left; lock fewer")
    feet = [i for i in range(model.ngeom) if re.fullmatch(robot.feet, model.geom(i).name)]
    _check_feet(model, robot, feet)
    servos = tuple(_servo(model, robot, name) for name in joints)
    data, pose = mujoco.MjData(model), model.qpos0.copy()
    pose[_FREE:] = [servo.stand for servo in servos]
    lowest = _settle(model, data, pose, feet)
    pose[2] = -lowest
    mirrored, sign, symmetric = _mirror(model, robot, joints)
    bodies = sorted({int(model.geom_bodyid[i]) for i in feet})
    foot_of = np.array([bodies.index(int(model.geom_bodyid[i])) for i in feet])
    place = np.stack([data.geom_xpos[feet][foot_of == f, :2].mean(0) for f in range(len(bodies))])
    data.qpos[:] = model.qpos0
    mujoco.mj_kinematics(model, data)
    return Body(
        servos=servos,
        stand_pose=_frozen(pose),
        feet=_frozen(np.array(feet)),
        foot_radius=_frozen(np.array([_lowest_extent(model, i) for i in feet])),
        foot_of=_frozen(foot_of),
        foot_names=tuple(model.body(i).name for i in bodies),
        foot_place=_frozen(place),
        foot_mirrored=_frozen(np.array([np.argmin(np.hypot(*(place - [x, -y]).T)) for x, y in place])),
        fall_points=_frozen(_fall_points(model, robot)),
        posture=_frozen((np.abs(data.xaxis[1:, 1]) < 1 - _LIKE_AXIS).astype(float)),
        mirrored=_frozen(mirrored),
        mirror_sign=_frozen(sign),
        symmetric=symmetric,
        reach=_reach(model, pose, feet),
        mass=float(model.body_mass.sum()),
        sha256=_hash(model),
    )


def pattern_value(patterns: Patterns, name: str) -> float | None:
    """Return the number of the first pattern that matches a whole name; None without one."""
    return next((value for pattern, value in patterns if re.fullmatch(pattern, name)), None)


def _add_servo(spec: mujoco.MjSpec, joint: mujoco.MjsJoint, robot: SpatialRobot) -> None:
    for name in ("armature", "friction_loss"):
        value = pattern_value(getattr(robot, name), joint.name)
        if value is not None:
            setattr(joint, name.replace("_", ""), value)
    joint.damping[0] = _required(robot, "damping", joint.name)
    joint.stiffness[0] = 0.0
    motor = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    stiffness = _required(robot, "stiffness", joint.name)
    motor.gainprm[0], motor.biasprm[1] = stiffness, -stiffness
    effort = pattern_value(robot.effort, joint.name)
    if effort is None:
        effort = float(joint.actfrcrange[1])
        if effort <= 0.0:
            raise ConfigError(f"robot {robot.name}: the source has no torque limit of joint {joint.name}; set effort")
    motor.forcelimited, motor.forcerange = True, [-effort, effort]


def _required(robot: SpatialRobot, field: str, joint: str) -> float:
    value = pattern_value(getattr(robot, field), joint)
    if value is None:
        patterns = ", ".join(pattern for pattern, _ in getattr(robot, field)) or "none"
        raise ConfigError(f"robot {robot.name}: no pattern of {field} matches the joint {joint} (patterns: {patterns})")
    return value


def _servo(model: mujoco.MjModel, robot: SpatialRobot, name: str) -> Servo:
    joint, motor = model.joint(name), model.actuator(name)
    limits = (float(joint.range[0]), float(joint.range[1])) if model.jnt_limited[joint.id] else (-math.pi, math.pi)
    stand = pattern_value(robot.stand, name) or 0.0
    if not limits[0] <= stand <= limits[1]:
        raise ConfigError(
            f"robot {robot.name}: joint {name} stands at {stand:g} rad, outside its limits "
            f"[{limits[0]:g}, {limits[1]:g}] rad; change stand"
        )
    damping, torque = float(model.dof_damping[model.jnt_dofadr[joint.id]]), float(motor.forcerange[1])
    scale = _required(robot, "action_scale", name)
    return check_servo(Servo(name, stand, scale, limits, float(motor.gainprm[0]), damping, torque))


def _touching(spec: mujoco.MjSpec, robot: SpatialRobot) -> list[str]:
    """Return the names of the geoms that collide with the ground."""
    pattern = f"(?:{robot.feet})|(?:{robot.shins})" if robot.physics.shins and robot.shins else robot.feet
    return [geom.name for geom in spec.geoms if re.fullmatch(pattern, geom.name)]


def _check_feet(model: mujoco.MjModel, robot: SpatialRobot, feet: list[int]) -> None:
    names = [model.geom(i).name for i in range(model.ngeom)]
    if not feet:
        shown = ", ".join(names[:40]) or "none: all are meshes"
        raise ConfigError(f"robot {robot.name}: feet '{robot.feet}' matches no geom; geoms of the model: {shown}")
    if len(feet) == len(names) and len(names) > 8:
        raise ConfigError(f"robot {robot.name}: feet '{robot.feet}' matches every geom; narrow it to those that tread")


def _compiled(spec: mujoco.MjSpec, robot: SpatialRobot) -> mujoco.MjModel:
    try:
        model = spec.compile()
    except ValueError as error:
        raise ConfigError(f"robot {robot.name} cannot be simulated: {error}") from error
    return check_finite(model, robot.name)


def _settle(model: mujoco.MjModel, data: mujoco.MjData, pose: np.ndarray, feet: list[int]) -> float:
    """Return the height of the lowest point of the feet in a pose with the base at height 0, m."""
    data.qpos[:] = pose
    data.qpos[2] = 0.0
    mujoco.mj_kinematics(model, data)
    return min(_lowest_point(model, data, i) for i in feet)


def _lowest_point(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    up, size, height = data.geom_xmat[geom].reshape(3, 3)[2], model.geom_size[geom], float(data.geom_xpos[geom, 2])
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return height - float(size[0])
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return height - float(size[0] + abs(up[2]) * size[1])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return height - float(np.abs(up) @ size)
    return height - float(model.geom_rbound[geom])


def _lowest_extent(model: mujoco.MjModel, geom: int) -> float:
    """Return the distance from the center of a foot's geom to its sole, m."""
    size = model.geom_size[geom]
    return float(size[2] if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX else size[0])


def _fall_points(model: mujoco.MjModel, robot: SpatialRobot) -> np.ndarray:
    if robot.falls:
        return np.array(robot.falls)
    inertia, mass = model.body_inertia[1], float(model.body_mass[1])
    half = np.sqrt(np.maximum(inertia.sum() / 2 - inertia, 0.0) * 3 / mass)  # of the box with this inertia
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.body_iquat[1])
    return np.vstack([corners, np.zeros(3)]) @ turn.reshape(3, 3).T + model.body_ipos[1]


def _reach(model: mujoco.MjModel, pose: np.ndarray, feet: list[int]) -> float:
    """Return how far a foot gets from the base: its distance when standing, plus half of the standing height."""
    data = mujoco.MjData(model)
    data.qpos[:] = pose
    mujoco.mj_kinematics(model, data)
    return float(np.abs(data.geom_xpos[feet, 0]).max() + 0.5 * pose[2])


def _mirror(model: mujoco.MjModel, robot: SpatialRobot, joints: list[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return counterpart and sign of every joint, and whether all of them fit.

    Exchanging left and right turns a rotation about (x, y, z) into one about (-x, y, -z).
    """
    other = np.array([joints.index(_counterpart(name, joints, robot)) for name in joints])
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    axes = data.xaxis[1:]
    cosine = ((axes * [-1.0, 1.0, -1.0]) * axes[other]).sum(axis=1)
    places = data.xanchor[1:] * [1.0, -1.0, 1.0]
    fits = np.abs(cosine) > _LIKE_AXIS
    fits &= np.abs(places - data.xanchor[1:][other]).max(axis=1) < 0.01
    return other, np.where(cosine < 0, -1.0, 1.0), bool(fits.all())


def _counterpart(name: str, joints: list[str], robot: SpatialRobot) -> str:
    for left, right in robot.mirror or _SIDES:
        for mine, theirs in ((left, right), (right, left)):
            other = name.replace(mine, theirs, 1)
            if other != name and other in joints:
                return other
    return name


_HASHED = (
    "body_parentid", "body_pos", "body_quat", "body_mass", "body_ipos", "body_iquat", "body_inertia", "jnt_axis",
    "jnt_pos", "jnt_range", "dof_damping", "dof_armature", "dof_frictionloss", "geom_type", "geom_size", "geom_pos",
    "geom_quat", "geom_bodyid", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange",
)  # fmt: skip
_DIGITS = 6  # after the point: versions of MuJoCo differ in the last ones


def _hash(model: mujoco.MjModel) -> str:
    """Return a hash of everything that the robot's motion depends on, equal for equal models in any order of files."""
    digest = hashlib.sha256()
    for name in _HASHED:
        values = np.round(np.asarray(getattr(model, name), dtype=np.float64), _DIGITS) + 0.0  # no negative zeros
        digest.update(f"{name}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
