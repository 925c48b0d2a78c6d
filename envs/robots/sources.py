"""MuJoCo specifications of robots in space from tables and files, reduced to bodies, joints and simple shapes.

Meshes, actuators, sensors and the ground of a file are dropped: gains come from the robot's table, the ground from the
terrain. That is safe only where inertias are explicit, so a body whose inertia comes from its shapes is refused.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import mujoco
import numpy as np

from policykd.envs.robots.solids import Shape, Solid, SolidTable
from policykd.envs.robots.spatial import ModelFile, SpatialRobot
from policykd.errors import ConfigError

_SHAPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
}
_MESH_LIKE = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_HFIELD, mujoco.mjtGeom.mjGEOM_SDF)
BASE_JOINT = "policykd_base"
"""Name of the free joint of the base in every compiled model."""


def robot_spec(robot: SpatialRobot) -> mujoco.MjSpec:
    """Return the specification of a robot without ground and actuators, with a free base at the origin.

    Raises:
        ConfigError: naming the file, body or joint that cannot be used, and the cure.
    """
    if isinstance(robot.source, SolidTable):
        spec = _from_table(robot.source)
    else:
        spec = read_model(robot.source)
        _strip(spec)
        _name_geoms(spec)
    _weld(spec, robot)
    _free_base(spec, robot)
    _check_bodies(spec, robot)
    return spec


def _from_table(table: SolidTable) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    bodies: dict[str, mujoco.MjsBody] = {}
    for solid in table.solids:
        parent = spec.worldbody if solid.parent is None else bodies[solid.parent]
        bodies[solid.name] = _add_solid(parent, solid)
    return spec


def _add_solid(parent: mujoco.MjsBody, solid: Solid) -> mujoco.MjsBody:
    quat = [math.cos(solid.turn / 2), 0.0, math.sin(solid.turn / 2), 0.0]
    body = parent.add_body(name=solid.name, pos=solid.at, quat=quat)
    body.explicitinertial = True
    body.mass, body.ipos, body.fullinertia = solid.mass, solid.center, solid.inertia
    if solid.joint:
        body.add_joint(
            name=solid.joint, type=mujoco.mjtJoint.mjJNT_HINGE, axis=solid.axis, range=solid.limits, limited=True
        )
    for shape in solid.shapes:
        _add_shape(body, shape)
    return body


def _add_shape(body: mujoco.MjsBody, shape: Shape) -> None:
    geom = body.add_geom(name=shape.name, type=_SHAPES[shape.kind], size=shape.size)
    if shape.kind == "capsule":
        geom.fromto = [*shape.at, *shape.end]
    else:
        geom.pos = shape.at


def read_model(source: ModelFile) -> mujoco.MjSpec:
    """Return the specification in a file, with everything that it has.

    Raises:
        ConfigError: for a file that cannot be read, has changed, or is neither MJCF nor URDF.
    """
    path = Path(source.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the robot's model {path} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if source.sha256 and source.sha256 != found:
        raise ConfigError(
            f"the robot's model {path} has changed since the robot was described (sha256 {found[:12]}, expected "
            f"{source.sha256[:12]}); describe the robot again or restore the file"
        )
    try:
        content.decode()  # names that are not text would fail wherever they are read
        spec = mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise ConfigError(f"the robot's model {path} is not valid MJCF or URDF: {error}") from error
    if path.suffix == ".urdf":
        _complete_urdf(spec)
    return spec


def _complete_urdf(spec: mujoco.MjSpec) -> None:
    """Make a URDF's links bodies.

    A link without an inertial element has no mass; it is fused with the body that it is fixed to.
    Inertias of sensor links are often such that no body can have them; MuJoCo would refuse them.
    """
    spec.compiler.balanceinertia, spec.compiler.fusestatic = True, True
    spec.compiler.boundinertia = spec.compiler.boundmass = 1e-9
    spec.compiler.discardvisual = False  # it would drop every geom that has no contact bits, as ours have none
    for body in spec.bodies:
        if body.name != "world" and not body.explicitinertial:
            body.explicitinertial, body.mass, body.inertia = True, 0.0, [0.0, 0.0, 0.0]


def _strip(spec: mujoco.MjSpec) -> None:
    """Remove everything but bodies, joints and simple shapes."""
    for geom in list(spec.geoms):
        if geom.type in _MESH_LIKE:
            spec.delete(geom)
    for geom in list(spec.worldbody.geoms):
        spec.delete(geom)
    for kind in ("actuators", "sensors", "keys", "cameras", "lights", "pairs", "excludes", "equalities", "tendons",
                 "meshes", "hfields", "skins", "textures", "materials"):  # fmt: skip
        for element in list(getattr(spec, kind)):
            spec.delete(element)
    for geom in spec.geoms:
        geom.material = ""


def _name_geoms(spec: mujoco.MjSpec) -> None:
    for body in spec.bodies:
        for i, geom in enumerate(body.geoms):
            geom.name = geom.name or f"{body.name}/{i}"


def _weld(spec: mujoco.MjSpec, robot: SpatialRobot) -> None:
    for joint in list(spec.joints):
        if robot.lock and joint.name and re.fullmatch(robot.lock, joint.name):
            spec.delete(joint)


def _free_base(spec: mujoco.MjSpec, robot: SpatialRobot) -> None:
    """Give the base a free joint if it has none, and put it at the origin."""
    roots = list(spec.worldbody.bodies)
    named = [body for body in roots if not robot.base or body.name == robot.base]
    if len(named) != 1:
        names = ", ".join(body.name for body in roots)
        raise ConfigError(f"robot {robot.name}: set base to the body that moves freely; bodies of the world: {names}")
    base = named[0]
    for other in roots:
        if other is not base and other.name != base.name:
            spec.delete(other)
    for joint in list(base.joints):
        if joint.type != mujoco.mjtJoint.mjJNT_FREE:
            raise ConfigError(
                f"robot {robot.name}: base {base.name} has joint {joint.name}; only a free base moves over the grounds "
                "of policykd. A robot in a plane keeps its root with actuators: own, on the ground of its model"
            )
        spec.delete(joint)
    base.add_freejoint(name=BASE_JOINT)
    base.pos, base.quat = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]


def _check_bodies(spec: mujoco.MjSpec, robot: SpatialRobot) -> None:
    for body in spec.bodies:
        if body.name != "world" and not body.explicitinertial:
            raise ConfigError(
                f"robot {robot.name}: body {body.name} has no explicit inertia; it would come from meshes, which are "
                "dropped: add an <inertial> element to it"
            )
    for joint in spec.joints:
        if joint.name != BASE_JOINT and joint.type != mujoco.mjtJoint.mjJNT_HINGE:
            raise ConfigError(f"robot {robot.name}: joint {joint.name} is not a hinge; weld it with lock")


# Numbers of a compiled model that follow from those of its file; the last ones follow from all others.
_MODEL_NUMBERS = (
    "body_mass", "body_inertia", "body_pos", "body_quat", "body_ipos", "body_iquat", "geom_pos", "geom_quat",
    "geom_size", "geom_friction", "site_pos", "qpos0", "jnt_pos", "jnt_axis", "jnt_range", "jnt_stiffness",
    "dof_damping", "dof_armature", "dof_frictionloss", "actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange",
    "actuator_forcerange", "actuator_gear", "geom_rbound", "geom_aabb", "dof_M0", "body_invweight0",
)  # fmt: skip


def check_finite(model: mujoco.MjModel, name: str) -> mujoco.MjModel:
    """Return a compiled model; numbers near the largest float overflow when MuJoCo multiplies them.

    Raises:
        ConfigError: naming the robot and the property that is not finite.
    """
    for what in _MODEL_NUMBERS:
        if not np.isfinite(getattr(model, what)).all():
            raise ConfigError(f"robot {name} cannot be simulated: {what} of its compiled model is not finite")
    return model
