"""Whether two robots are one body whose parts stand in different orders: a comparison by the names of the parts.

It compares compiled models, and tables of links; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np

from policykd.envs.robots.planar import PlanarRobot
from policykd.envs.robots.robot import Robot
from policykd.envs.robots.spatial import SpatialRobot
from policykd.errors import ContractError

if TYPE_CHECKING:
    import mujoco

_BODY = {"mass": "body_mass", "place": "body_pos", "turn": "body_quat", "inertia": "body_inertia",
         "center of mass": "body_ipos", "axes of inertia": "body_iquat"}  # fmt: skip
_JOINT = {"axis": "jnt_axis", "place": "jnt_pos", "range": "jnt_range"}
_DOF = {"damping": "dof_damping", "armature": "dof_armature", "friction loss": "dof_frictionloss"}
_GEOM = {"size": "geom_size", "place": "geom_pos", "turn": "geom_quat", "kind": "geom_type"}
_DIGITS = 6  # after the point: as in the hash of a model


def check_same_body(before: Robot, after: Robot) -> None:
    """Raise unless two robots differ in names of the robot and in the order of their parts only.

    Args:
        before: the robot of a policy.
        after: another robot.

    Raises:
        ContractError: naming the part and the property that differ, with both values; for robots whose parts cannot be
            compared by name.
    """
    if isinstance(before, SpatialRobot) and isinstance(after, SpatialRobot):
        parts = [_model_parts(robot) for robot in (before, after)]
    elif isinstance(before, PlanarRobot) and isinstance(after, PlanarRobot):
        parts = [_link_parts(robot) for robot in (before, after)]
    else:
        raise ContractError(
            f"{before.name} and {after.name} cannot be compared by the names of their parts; both must be robots in "
            f"space with servos, or both tables of links"
        )
    for part in {**parts[0], **parts[1]}:
        called = " ".join(part).strip()
        mine, theirs = (found.get(part) for found in parts)
        if mine is None or theirs is None:
            where = before.name if theirs is None else after.name
            raise ContractError(f"{before.name} and {after.name} are not one body: only {where} has {called}")
        for what, value in mine.items():
            if value != theirs[what]:
                raise ContractError(
                    f"{before.name} and {after.name} are not one body: {what} of {called} is {value} in "
                    f"{before.name} and {theirs[what]} in {after.name}; train a policy for {after.name}, or merge into "
                    f"one (policykd merge)"
                )


Parts = Mapping[tuple[str, str], Mapping[str, object]]
"""Properties of every part, by its kind and name."""


def _link_parts(robot: PlanarRobot) -> Parts:
    whole = {name: getattr(robot, name) for name in ("timestep", "decimation", "friction")}
    links = {("link", link.name): {f.name: getattr(link, f.name) for f in fields(link)} for link in robot.links}
    return {**links, ("robot", ""): whole}


def _model_parts(robot: SpatialRobot) -> Parts:
    from policykd.envs.robots.assembly import build_spatial  # loads MuJoCo

    model = build_spatial(robot, 0)
    whole = {name: getattr(robot, name) for name in ("timestep", "decimation", "friction", "tilt")}
    feet = {"feet": sorted(model.geom(int(i)).name for i in robot.body.feet)}
    servos = {("servo", servo.joint): asdict(servo) for servo in robot.servos}
    return {**dict(_named(model)), **servos, ("robot", ""): {**whole, **feet}}


def _named(model: mujoco.MjModel) -> Iterator[tuple[tuple[str, str], dict[str, object]]]:
    for i in range(1, model.nbody):
        parent = {"parent": model.body(int(model.body_parentid[i])).name}
        yield ("body", model.body(i).name), parent | _values(model, _BODY, i)
    for i in range(model.njnt):
        place = {"body": model.body(int(model.jnt_bodyid[i])).name}
        motion = _values(model, _DOF, int(model.jnt_dofadr[i]))
        yield ("joint", model.joint(i).name), place | _values(model, _JOINT, i) | motion
    for i in range(model.ngeom):
        place = {"body": model.body(int(model.geom_bodyid[i])).name}
        yield ("geom", model.geom(i).name), place | _values(model, _GEOM, i)


def _values(model: mujoco.MjModel, names: Mapping[str, str], i: int) -> dict[str, object]:
    rows = {what: np.asarray(getattr(model, name)[i], dtype=np.float64) for what, name in names.items()}
    return {what: (np.round(row, _DIGITS) + 0.0).tolist() for what, row in rows.items()}  # no negative zeros
