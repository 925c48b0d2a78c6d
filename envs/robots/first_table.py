"""A first table for a model: what can be guessed from names, joints and masses, for a person to correct.

It returns text; writing the file is the command's work.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from policykd.envs.robots.sources import BASE_JOINT, robot_spec
from policykd.envs.robots.spatial import ModelFile, SpatialRobot
from policykd.errors import ConfigError, OutputError
from policykd.storage import write_text

_FEET = ("foot", "toe", "sole", "ankle_roll", "ankle")
_FREQUENCY = 2.0  # natural frequency of a joint that the guessed stiffness gives, Hz, for the mass that it carries
_DAMPING = 0.05  # damping over stiffness, s


def write_first_table(model: Path, out: Path) -> list[str]:
    """Write a table for a model.

    Args:
        model: MJCF or URDF file.
        out: YAML file to write.

    Returns:
        What was guessed, one sentence each.

    Raises:
        ConfigError: for a model that cannot be used, or without geoms that look like feet.
        OutputError: if the file exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"{out} exists; choose another name with --out, or delete it")
    spec = robot_spec(SpatialRobot(model.stem, ModelFile(str(model)), feet=".*", stiffness=(), damping=()))
    joints = [joint for joint in spec.joints if joint.name != BASE_JOINT]
    geoms = [geom.name for geom in spec.geoms]
    feet = next((pattern for word in _FEET if _some(pattern := f".*{word}.*", geoms)), None)
    if feet is None:
        raise ConfigError(f"no geom of {model} looks like a foot; geoms: {', '.join(geoms[:40]) or 'only meshes'}")
    mass = sum(float(body.mass) for body in spec.bodies)
    stiffness = round(mass * (0.3 * 2 * math.pi * _FREQUENCY) ** 2 / 5)
    table = {
        "name": re.sub(r"[^A-Za-z0-9_-]", "-", model.stem),
        "model": str(model.resolve() if out.resolve().parent != model.resolve().parent else model.name),
        "feet": feet,
        "stiffness": {".*": stiffness},
        "damping": {".*": round(_DAMPING * stiffness, 2)},
        "stand": {joint.name: 0.0 for joint in joints},
    }
    if not all(float(joint.actfrcrange[1]) > 0 for joint in joints):
        table["effort"] = {".*": round(mass * 9.81 * 0.3)}
    write_text(out, yaml.safe_dump(table, sort_keys=False))
    return [
        f"feet: the geoms that match {feet}: {', '.join(name for name in geoms if re.fullmatch(feet, name))}",
        f"stiffness {stiffness} Nm/rad and damping for {mass:.1f} kg; take your robot's own if you know them",
        "stand: 0 for every joint; set the angles of a standing pose with slightly bent knees",
    ]


def _some(pattern: str, names: list[str]) -> bool:
    return any(re.fullmatch(pattern, name) for name in names)
