"""A robot's table put to the test: masses, standing, falling, mirror image and speed of the simulation.

It simulates on its own and changes no file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import mujoco
import numpy as np

from policykd.envs.robots.mjcf import build_model
from policykd.envs.robots.model_robot import ModelRobot
from policykd.envs.robots.robot import Robot, Servo
from policykd.envs.robots.spatial import SpatialRobot

_SECONDS = 2.0  # of standing
_DROP = 0.5  # height of the drop, leg lengths
_SINKS = 0.3  # loss of height that counts as not standing, as a share of the standing height


@dataclass(frozen=True)
class Findings:
    """Outcome of a check.

    Attributes:
        servos: the position controllers.
        mirrors: counterpart of every joint on the other side, with its sign; empty texts where it is not known.
        lines: sentences for a person.
        stands: whether the robot stands for two seconds with its standing pose as target, or without control.
    """

    servos: tuple[Servo, ...]
    mirrors: tuple[str, ...]
    lines: tuple[str, ...]
    stands: bool


def check_robot(robot: Robot) -> Findings:
    """Compile a robot, let it stand and fall, and describe what was found.

    Args:
        robot: a robot from a table: in space, or simulated as its file says.

    Raises:
        ConfigError: naming the part of its description that does not fit its model.
    """
    if isinstance(robot, ModelRobot):
        return _check_own(robot)
    assert isinstance(robot, SpatialRobot)  # tables describe no other robots
    body = robot.body
    names = [servo.joint for servo in body.servos]
    mirrors = tuple(
        f"{'-' if sign < 0 else ''}{names[i]}" for i, sign in zip(body.mirrored, body.mirror_sign, strict=True)
    )
    kept, lean = _stand(robot)
    stands = kept > 1.0 - _SINKS and lean < robot.tilt
    lines = [
        f"{body.mass:.2f} kg, {len(names)} joints, base {body.stand_pose[2]:.3f} m above the ground when standing",
        f"feet: {', '.join(body.foot_names)} ({len(body.feet)} geoms touch the ground)",
        "left and right are mirror images"
        if body.symmetric
        else "left and right are not mirror images: symmetric "
        "training and mirrored data do not apply; set mirror to the texts that the sides' names differ by",
        f"stands for {_SECONDS:g} s: keeps {kept:.0%} of its height and leans {lean:.0f} degrees"
        if stands
        else f"FALLS within {_SECONDS:g} s with the standing pose as target: keeps {kept:.0%} of its height and leans "
        f"{lean:.0f} degrees; a robot on two legs may need a policy to balance, others need more stiffness or a pose "
        "with the base above the feet",
        f"dropped from {_DROP * robot.leg_length:.2f} m it comes to rest with a speed of {_drop(robot):.2f} m/s",
        f"one simulation makes {_throughput(robot):,.0f} policy steps per second on one core",
        f"sha256 of the compiled model: {body.sha256[:16]}",
    ]
    return Findings(body.servos, mirrors, tuple(lines), stands)


def _check_own(robot: ModelRobot) -> Findings:
    """Describe a robot that is simulated as its file says."""
    body, model = robot.body, build_model(robot, 0)
    data = mujoco.MjData(model)
    for _ in range(round(_SECONDS / robot.timestep)):
        mujoco.mj_step(model, data)
    lost = float(body.initial[body.height_index] - data.qpos[body.height_index]) / body.height
    lines = (
        f"{body.masses.sum():.2f} kg, {len(body.servos)} actuators, {body.root} root {body.height:.3f} m high",
        f"the ground of the model has a friction of {body.friction:g}",
        f"without control it keeps {1 - lost:.0%} of its height for {_SECONDS:g} s",
        f"{1 / robot.control_dt:.0f} actions per second, {robot.decimation} physics steps of "
        f"{1000 * robot.timestep:.1f} ms each",
        f"one simulation makes {_steps_per_second(model, data, robot):,.0f} policy steps per second on one core",
        f"sha256 of the compiled model: {body.sha256[:16]}",
    )
    return Findings(body.servos, ("",) * len(body.servos), lines, lost < _SINKS)


def _on_ground(robot: SpatialRobot, height: float) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Return a simulation of the standing robot ``height`` m above level ground."""
    model = build_model(robot, 1)
    model.geom_pos[0], model.geom_quat[0], model.geom_size[0] = [0, 0, -1], [1, 0, 0, 0], [50, 50, 1]
    model.geom_rbound[0] = 100.0
    data = mujoco.MjData(model)
    data.qpos[:] = robot.stand_pose
    data.qpos[2] += height
    data.ctrl[:] = [servo.stand for servo in robot.servos]
    return model, data


def _stand(robot: SpatialRobot) -> tuple[float, float]:
    """Return the share of its height that a robot keeps, and how far it leans after standing, degrees."""
    model, data = _on_ground(robot, 0.0)
    for _ in range(round(_SECONDS / robot.timestep)):
        mujoco.mj_step(model, data)
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 0.0, 1.0]), data.qpos[3:7])
    return float(data.qpos[2] / robot.stand_pose[2]), float(np.degrees(np.arccos(np.clip(up[2], -1, 1))))


def _drop(robot: SpatialRobot) -> float:
    model, data = _on_ground(robot, _DROP * robot.leg_length)
    for _ in range(round(3.0 / robot.timestep)):
        mujoco.mj_step(model, data)
    return float(np.linalg.norm(data.qvel[:3]))


def _throughput(robot: SpatialRobot) -> float:
    return _steps_per_second(*_on_ground(robot, 0.0), robot)


def _steps_per_second(model: mujoco.MjModel, data: mujoco.MjData, robot: Robot) -> float:
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 0.3:
        mujoco.mj_step(model, data, robot.decimation)
        steps += 1
    return steps / (time.perf_counter() - began)
