"""MuJoCo models of robots over a pool of boxes that become the ground; the planar ones are built here."""

from __future__ import annotations

import mujoco

from policykd.envs.robots.assembly import build_spatial, build_spatial_spec
from policykd.envs.robots.ground_pool import GROUND, add_ground, disable_broad_phase
from policykd.envs.robots.model_robot import ModelRobot
from policykd.envs.robots.own_model import build_own, own_spec
from policykd.envs.robots.planar import Link, PlanarRobot
from policykd.envs.robots.robot import Robot
from policykd.envs.robots.spatial import SpatialRobot

__all__ = ["GROUND", "build_model", "build_spec"]

_PLANE_AXES = {"x": (1.0, 0.0, 0.0), "z": (0.0, 0.0, 1.0)}
_HINGE = (0.0, -1.0, 0.0)  # counter-clockwise in the x-z plane is positive
_OTHER_FRICTION = (0.005, 0.0001)  # torsional and rolling friction; no effect in the plane
_SHAPE_DEPTH = 0.1  # extent of a link across the plane, m; affects only its inertia out of the plane


def build_model(robot: Robot, boxes: int) -> mujoco.MjModel:
    """Compile a robot over ``boxes`` ground boxes, whose poses and sizes are set by the engine.

    Args:
        robot: the robot's table.
        boxes: number of ground boxes, >= 1; 0 for a robot with a ground of its own.

    Returns:
        The model; generalized positions are those of the root (x, z, pitch of a planar one, place and quaternion of a
        free one), then one angle per joint.
    """
    if isinstance(robot, SpatialRobot):
        return build_spatial(robot, boxes)
    if isinstance(robot, ModelRobot):
        return build_own(robot)
    assert isinstance(robot, PlanarRobot)
    spec = build_spec(robot, boxes)
    # Explicit contact pairs replace MuJoCo's broad phase, which sorts bodies along an axis in every step. They save 5 %
    # of the physics for a handful of boxes; contacts are the same.
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    sliding = [robot.friction, robot.friction, *_OTHER_FRICTION, _OTHER_FRICTION[-1]]
    for link in (link for link in robot.links if link.touches):
        for i in range(boxes):
            spec.add_pair(geomname1=f"{GROUND}{i}", geomname2=link.name, condim=3, friction=sliding)
    return spec.compile()


def build_spec(robot: Robot, boxes: int) -> mujoco.MjSpec:
    """Return the model of :func:`build_model` before compilation, for additions such as a visible scene.

    Euler's method treats the joints' damping implicitly, which keeps kd stable at this time step; torque limits apply
    to the position term only.
    """
    if isinstance(robot, SpatialRobot):
        return build_spatial_spec(robot, boxes)
    if isinstance(robot, ModelRobot):
        return own_spec(robot)
    assert isinstance(robot, PlanarRobot)
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = robot.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    spec.option.gravity = [0.0, 0.0, -9.81]
    spec.option.iterations = 20
    spec.option.ls_iterations = 20
    disable_broad_phase(spec)
    add_ground(spec, boxes, robot.friction)
    bodies: dict[str, mujoco.MjsBody] = {}
    for link in robot.links:
        parent = spec.worldbody if link.parent is None else bodies[link.parent]
        bodies[link.name] = _add_link(spec, parent, link, robot.friction)
    return spec


def _add_link(spec: mujoco.MjSpec, parent: mujoco.MjsBody, link: Link, friction: float) -> mujoco.MjsBody:
    body = parent.add_body(name=link.name, pos=[link.anchor[0], 0.0, link.anchor[1]])
    body.explicitinertial = True
    body.mass = link.mass
    body.ipos = [link.center[0], 0.0, link.center[1]]
    (w, h), d = link.size, _SHAPE_DEPTH
    body.inertia = [link.mass * (a * a + b * b) / 12 for a, b in ((h, d), (w, h), (w, d))]
    (x0, z0), (x1, z1) = link.ends
    body.add_geom(
        name=link.name,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[x0, 0.0, z0, x1, 0.0, z1],
        size=[link.radius, 0.0, 0.0],
        contype=0,
        conaffinity=1 if link.touches else 0,
        friction=[friction, *_OTHER_FRICTION],
        rgba=_color(link.name),
    )
    if link.parent is None:
        for name, axis in _PLANE_AXES.items():
            body.add_joint(name=f"root_{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        body.add_joint(name="root_pitch", type=mujoco.mjtJoint.mjJNT_HINGE, axis=_HINGE)
    else:
        _add_motor(spec, body, link)
    return body


def _add_motor(spec: mujoco.MjSpec, body: mujoco.MjsBody, link: Link) -> None:
    joint = body.add_joint(name=link.name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=_HINGE)
    joint.limited, joint.range = True, link.limits
    joint.damping[0] = link.damping
    motor = spec.add_actuator(name=link.name, target=link.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    motor.gainprm[0], motor.biasprm[1] = link.stiffness, -link.stiffness
    motor.forcelimited, motor.forcerange = True, [-link.torque, link.torque]


def _color(name: str) -> list[float]:
    if name.startswith("right"):
        return [0.85, 0.47, 0.25, 1.0]
    return [0.25, 0.47, 0.75, 1.0] if name.startswith("left") else [0.88, 0.84, 0.76, 1.0]
