"""The compiled loops of robots in space: state, features, falls and reward in one pass over the simulations.

The arithmetic is that of ``spatial_state``, ``observations.spatial`` and ``spatial_torch``, except for the order of
sums. Arrays are grouped in named tuples, so that a loop has a handful of arguments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from policykd.envs.compiled import compiled_at_first_use
from policykd.envs.stepping.ground_kernels import GroundTable, scan_area, scan_line, segment_under, write_heights
from policykd.envs.stepping.numba_kernels import Array
from policykd.envs.tasks.velocity_terms import Motion, evaluate_terms


class RobotTable(NamedTuple):
    """A robot: k joints, g geoms of f feet, p fall points.

    Attributes:
        stand: (k,) standing angles, rad.
        scale: (k,) change of the target angle per unit of action, rad.
        torque: (k,) torque limits, Nm.
        posture: (k,) 1 for joints whose deviation from standing is penalized.
        feet: (g,) geoms of the feet, among all geoms.
        foot_radius: (g,) height of their centers above the sole, m.
        foot_of: (g,) foot of each geom.
        fall_points: (p, 3) points in the base's frame, m.
        upright: largest third component of gravity in the base's frame of a robot that has not fallen.
        contact: height of a sole up to which the foot touches the ground, m.
        height: height of the base in the standing pose, m.
        leg: leg length, m.
        dt: duration of a step, s.
    """

    stand: Array
    scale: Array
    torque: Array
    posture: Array
    feet: Array
    foot_radius: Array
    foot_of: Array
    fall_points: Array
    upright: float
    contact: float
    height: float
    leg: float
    dt: float


class Memory(NamedTuple):
    """What the episodes remember, n rows each.

    Attributes:
        last_action: (n, k) last actions.
        target_change: (n, k) change of the targets by the last action, rad.
        air: (n, f) times since the feet left the ground, s.
        command: (n, 3) commanded velocities and yaw rates.
    """

    last_action: Array
    target_change: Array
    air: Array
    command: Array


class RhythmTable(NamedTuple):
    """Gaits of the tasks; see :class:`policykd.envs.stepping.spatial_torch.Rhythms`."""

    present: Array
    frequency: Array
    offset: Array
    duty: Array
    lowering: Array


class RewardTable(NamedTuple):
    """Rewards of the tasks, and the task of every simulation.

    Attributes:
        task: (n,) task of each simulation.
        weight: (tasks, terms) weights.
        width: (tasks, terms) widths.
        scale: (tasks,) divisor of the sum.
        holds: (tasks,) whether a task holds the heading.
        turn_limit: largest commanded yaw rate while the heading is held, rad/s.
        drift_gain: commanded yaw rate per meter off the middle of the track, rad/s/m.
        rhythm: gaits of the tasks.
    """

    task: Array
    weight: Array
    width: Array
    scale: Array
    holds: Array
    turn_limit: float
    drift_gain: float
    rhythm: RhythmTable


class Columns(NamedTuple):
    """First columns of the groups in a flat observation; -1 for a group that it does not have."""

    imu: int
    base_velocity: int
    joints: int
    last_action: int
    command: int
    gait: int
    scan: int
    area: int


@numba.njit
def _turned(q: Array, turn: Array) -> None:
    """Write the rotation matrix (3, 3) of the quaternion in generalized positions ``q``."""
    w, x, y, z = q[3], q[4], q[5], q[6]
    turn[0, 0], turn[0, 1], turn[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    turn[1, 0], turn[1, 1], turn[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    turn[2, 0], turn[2, 1], turn[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)


@numba.njit(inline="always")
def _write_places(q: Array, turn: Array, geoms: Array, robot: RobotTable, places: Array, levels: Array) -> None:
    """Write where the ground matters: under the feet's g geoms, the p fall points and the base.

    Args:
        q: generalized positions.
        turn: rotation matrix of the base.
        geoms: (geoms, 3) centers of the geoms, m.
        robot: the robot.
        places: (g + p + 1, 2) out: x and y, m.
        levels: (g + p + 1,) out: heights of the soles, of the fall points and of the base, m.
    """
    feet, radius, points = robot.feet, robot.foot_radius, robot.fall_points
    g, p = len(feet), len(points)
    for j in range(g):
        places[j, 0], places[j, 1] = geoms[feet[j], 0], geoms[feet[j], 1]
        levels[j] = geoms[feet[j], 2] - radius[j]
    for j in range(p):
        a, b, c = points[j, 0], points[j, 1], points[j, 2]
        places[g + j, 0] = q[0] + turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
        places[g + j, 1] = q[1] + turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
        levels[g + j] = q[2] + turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
    places[g + p, 0], places[g + p, 1], levels[g + p] = q[0], q[1], q[2]


@numba.njit
def _lies(levels: Array, heights: Array, first: int) -> bool:
    """Return whether one of the fall points, which start at ``first``, is below the ground."""
    lies = False
    for j in range(first, len(levels) - 1):
        lies |= levels[j] < heights[j]
    return lies


@numba.njit
def _step_feet(
    levels: Array, heights: Array, foot_of: Array, reach: float, dt: float, air: Array, before: Array, landed: Array
) -> None:
    """Update the times in the air (f,); write the times before, and which feet landed."""
    before[:] = np.inf
    for j in range(len(foot_of)):
        before[foot_of[j]] = min(before[foot_of[j]], levels[j] - heights[j])
    for f in range(len(air)):
        contact, time = before[f] < reach, air[f]
        before[f] = time
        landed[f] = 1.0 if contact and time > 0.0 else 0.0
        air[f] = 0.0 if contact else time + dt


@numba.njit
def _phase(rhythm: RhythmTable, task: int, clock: float, foot: int) -> float:
    """Return the phase of a foot, cycles in [0, 1)."""
    return (clock * rhythm.frequency[task] + rhythm.offset[task, foot]) % 1.0


@numba.njit
def _write_gait(rhythm: RhythmTable, task: int, clock: float, out: Array) -> None:
    """Write sines and cosines of the phases and the lowering."""
    feet = rhythm.offset.shape[1]
    for f in range(feet):
        angle = 2 * math.pi * _phase(rhythm, task, clock, f)
        out[f], out[feet + f] = math.sin(angle) * rhythm.present[task], math.cos(angle) * rhythm.present[task]
    out[2 * feet] = rhythm.lowering[task]


@compiled_at_first_use(strided=("qpos", "qvel", "force", "geoms", "clock"))
def pass_over(
    ids: Array, robot: RobotTable, ground: GroundTable, qpos: Array, qvel: Array, force: Array, geoms: Array,
    clock: Array, memory: Memory, rewards: RewardTable, columns: Columns, stepped: bool, fell: Array, reward: Array,
    flat: Array,
) -> None:  # fmt: skip
    """Read the simulations ``ids`` (m,) once.

    Args:
        ids: the simulations.
        robot: the robot.
        ground: the ground.
        qpos: (n, nq) generalized positions; like the three below, a live array of the engine.
        qvel: (n, nv) generalized velocities.
        force: (n, k) torques, Nm.
        geoms: (n, geoms, 3) centers of the geoms, m.
        clock: (n,) gait clocks before a step, s.
        memory: memory of the episodes; times in the air are updated after a step.
        rewards: rewards.
        columns: places of the groups in ``flat``.
        stepped: whether a step was made, so that falls and rewards are wanted.
        fell: (m,) out: which robots have fallen.
        reward: (m,) out: rewards before falls are taken into account.
        flat: (m, features) float32 out: observation groups.
    """
    turn, joints = np.empty((3, 3)), len(robot.stand)
    effort, posture = np.empty(joints), np.empty(joints)
    feet, rhythm = memory.air.shape[1], rewards.rhythm
    before, landed, contact, stance = np.empty(feet), np.empty(feet), np.empty(feet), np.zeros(feet)
    soles, spots = len(robot.feet), len(robot.feet) + len(robot.fall_points) + 1
    places, levels, heights = np.empty((spots, 2)), np.empty(spots), np.empty(spots)
    for k in range(len(ids)):
        i = ids[k]
        q, v, row, task = qpos[i], qvel[i], ground.row[i], rewards.task[i]
        at = segment_under(ground, row, q[0])
        _turned(q, turn)
        heading = math.atan2(turn[1, 0], turn[0, 0])
        cosine, sine = math.cos(heading), math.sin(heading)
        forward, aside, yaw = memory.command[i, 0], memory.command[i, 1], memory.command[i, 2]
        if rewards.holds[task]:
            yaw = min(max(-heading - rewards.drift_gain * q[1], -rewards.turn_limit), rewards.turn_limit)
        time = clock[i] + robot.dt if stepped else clock[i]
        out = flat[k]
        if columns.imu >= 0:
            c = columns.imu
            out[c], out[c + 1], out[c + 2] = v[3], v[4], v[5]
            out[c + 3], out[c + 4], out[c + 5] = -turn[2, 0], -turn[2, 1], -turn[2, 2]
        if columns.base_velocity >= 0:
            for j in range(3):
                out[columns.base_velocity + j] = turn[0, j] * v[0] + turn[1, j] * v[1] + turn[2, j] * v[2]
        if columns.joints >= 0:
            for j in range(joints):
                out[columns.joints + j], out[columns.joints + joints + j] = q[7 + j] - robot.stand[j], v[6 + j]
        if columns.last_action >= 0:
            for j in range(joints):
                out[columns.last_action + j] = memory.last_action[i, j]
        if columns.command >= 0:
            c = columns.command
            out[c], out[c + 1], out[c + 2] = forward, aside, yaw
        if columns.gait >= 0:
            _write_gait(rhythm, task, time, out[columns.gait :])
        if columns.scan >= 0:
            scan_line(ground, row, q[0], q[1], q[2], cosine, sine, at, out[columns.scan :])
        if columns.area >= 0:
            scan_area(ground, row, q[0], q[1], q[2], cosine, sine, at, out[columns.area :])
        if stepped:
            _write_places(q, turn, geoms[i], robot, places, levels)
            write_heights(ground, row, at, places, heights)
            fell[k] = -turn[2, 2] > robot.upright or _lies(levels, heights, soles)
            _step_feet(levels, heights, robot.foot_of, robot.contact, robot.dt, memory.air[i], before, landed)
            for j in range(joints):
                effort[j] = force[i, j] / robot.torque[j]
                posture[j] = (q[7 + j] - robot.stand[j]) * robot.posture[j]
            height = 0.0
            if rhythm.present[task]:
                height = (q[2] - heights[spots - 1] - robot.height) / robot.leg + rhythm.lowering[task]
            for f in range(feet):
                contact[f], stance[f] = memory.air[i, f] == 0.0, False
                if rhythm.present[task]:
                    stance[f] = _phase(rhythm, task, time, f) < rhythm.duty[task]
            now = Motion(
                cosine * v[0] + sine * v[1], cosine * v[1] - sine * v[0], v[2], v[3], v[4], v[5],
                -turn[2, 0], -turn[2, 1], forward, aside, yaw, effort, v[6:], posture, memory.target_change[i],
                before, landed, contact, stance, height,
            )  # fmt: skip
            value = evaluate_terms(now, rewards.width[task], rewards.weight[task]) / rewards.scale[task]
            reward[k] = min(max(value, 0.0), 1.0)


@compiled_at_first_use(strided=("actions",))
def act(actions: Array, robot: RobotTable, low: Array, high: Array, memory: Memory, targets: Array) -> None:
    """Compute target angles (n, k) of actions (n, k), and remember the actions and the changes of the targets."""
    for i in range(len(actions)):
        for j in range(len(robot.scale)):
            action = float(actions[i, j])
            if action > 1.0:
                action = 1.0
            elif action < -1.0:
                action = -1.0
            memory.target_change[i, j] = (action - memory.last_action[i, j]) * robot.scale[j]
            memory.last_action[i, j] = action
            angle = robot.stand[j] + robot.scale[j] * action  # NaN stays NaN, and MuJoCo reports it
            if angle > high[j]:
                angle = high[j]
            elif angle < low[j]:
                angle = low[j]
            targets[i, j] = angle


@compiled_at_first_use(strided=("ids", "chance"))
def start_memory(
    ids: Array, chance: Array, task: Array, low: Array, high: Array, memory: Memory, aside: Array
) -> None:  # fmt: skip
    """Empty the memory of new episodes in the simulations ``ids`` (m,), and choose their commands.

    Args:
        ids: the simulations.
        chance: (m, 3) random numbers in [0, 1) that choose from the ranges.
        task: (n,) task of each simulation.
        low: (tasks, 3) smallest commands.
        high: (tasks, 3) largest commands.
        memory: memory of the episodes.
        aside: (n,) out: infinite, so that the window of ground boxes is moved.
    """
    for k in range(len(ids)):
        i = ids[k]
        memory.last_action[i], memory.target_change[i], memory.air[i], aside[i] = 0.0, 0.0, 0.0, np.inf
        for j in range(3):
            a, b, share = low[task[i], j], high[task[i], j], chance[k, j]
            # As torch.lerp, which is exact at both ends.
            memory.command[i, j] = a + share * (b - a) if share < 0.5 else b - (b - a) * (1.0 - share)
