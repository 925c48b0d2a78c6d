"""The baseline: the walking skill as a plain gymnasium environment, written the usual way.

It has one MjModel and one MjData per track, ``mj_step``, and observations in NumPy. Observations, rewards and
terminations equal those of ``policykd.envs``; tests/benchmarks/test_plain_env.py compares them. It is written to be
fast: the models of all tracks are compiled in advance with their bounding volumes, physics runs in one call per action,
and every observation takes a handful of array operations. It uses our solver settings, and MuJoCo's profiler is off.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from policykd.envs.observations import SCAN_AHEAD, SCAN_BEHIND, SCAN_POINTS
from policykd.envs.physics.ground_boxes import ground_fields
from policykd.envs.physics.mujoco_batch import stop_profiler
from policykd.envs.robots import PlanarRobot
from policykd.envs.robots.mjcf import build_spec
from policykd.envs.skills import get_skill
from policykd.envs.terrains import TrackBank, Tracks

Observation = np.ndarray


class PlainWalker(gymnasium.Env[Observation, np.ndarray]):
    """One simulation of a skill with the concatenated groups ``proprio`` and ``terrain``.

    Args:
        skill_id: id of the skill.
        tracks: number of tracks.
        seed: seed of the tracks.
        bank: tracks to use instead of generated ones.
    """

    def __init__(
        self, skill_id: str = "biped/flat", tracks: int = 8, seed: int = 0, bank: Tracks | None = None
    ) -> None:
        stop_profiler()
        self.skill = get_skill(skill_id)
        robot = self.skill.robot
        bank = bank or TrackBank([self.skill.terrain], tracks, seed).tracks
        self._edges, self._left, self._grade = (t.numpy() for t in (bank.edges, bank.left, bank.grade))
        self._models = [_compile(robot, bank, row) for row in range(len(bank.left))]
        self._data = [mujoco.MjData(model) for model in self._models]
        self._scan = np.linspace(SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS)
        size = 1 + 4 * len(robot.links) + SCAN_POINTS
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (len(robot.joints),), np.float32)
        self._read_table(robot)

    def _read_table(self, robot: PlanarRobot) -> None:
        joints = robot.joints
        self._robot, self._stand_pose = robot, robot.stand_pose
        self._stand, self._scale = (np.array([getattr(j, n) for j in joints]) for n in ("stand", "action_scale"))
        self._low, self._high = np.array([j.limits for j in joints]).T
        self._torque = np.array([j.torque for j in joints])
        mass = np.array([link.mass for link in robot.links])
        self._mass = mass / mass.sum()
        model = self._models[0]
        # From the end: tracks differ in their number of ground boxes, which are the first geoms.
        geoms = [model.geom(link.name).id - model.ngeom for link in robot.links if link.falls]
        self._fall_geoms = np.array(geoms)
        self._fall_half = model.geom_size[geoms, 1]
        self._fall_radius = np.repeat(model.geom_size[geoms, 0], 3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode on a random track, or from ``track``, ``qpos`` and ``qvel`` in ``options``."""
        super().reset(seed=seed)
        given = options or {}
        self._row = given.get("track", int(self.np_random.integers(len(self._models))))
        self._model, self._now = self._models[self._row], self._data[self._row]
        mujoco.mj_resetData(self._model, self._now)
        qpos = self._stand_pose.copy()
        qpos[3:] += self.np_random.uniform(-0.05, 0.05, len(self._stand))
        qpos[3:] = np.clip(qpos[3:], self._low, self._high)
        self._now.qpos[:] = given.get("qpos", qpos)
        self._now.qvel[0] = self.np_random.uniform(0.0, 1.0)
        self._now.qvel[:] = given.get("qvel", self._now.qvel)
        self._steps = 0
        return self._observe()[0], {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one action."""
        target = self._stand + self._scale * np.clip(action, -1.0, 1.0)
        self._now.ctrl[:] = np.clip(target, self._low, self._high)
        mujoco.mj_step(self._model, self._now, self._robot.decimation)
        self._steps += 1
        observation, velocity, fallen = self._observe()
        reward = 0.0 if fallen else self._reward(velocity)
        return observation, reward, fallen, not fallen and self._steps >= self.skill.episode_steps, {}

    def _observe(self) -> tuple[Observation, np.ndarray, bool]:
        model, data = self._model, self._now
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        root, com = data.xpos[1, ::2], data.xipos[1:, ::2]
        spin, arm = data.cvel[1:, 1], com - data.subtree_com[1, ::2]
        velocity = data.cvel[1:, 3::2].copy()
        velocity[:, 0] += spin * arm[:, 1]
        velocity[:, 1] -= spin * arm[:, 0]
        points = self._fall_points()
        height = self._height(np.concatenate([root[:1], root[0] + self._scan, points[:, 0]]))
        ground, scan, below = height[0], height[1 : 1 + SCAN_POINTS], height[1 + SCAN_POINTS :]
        parts = ([root[1] - ground], (com - root).ravel(), velocity.ravel(), scan - ground)
        fallen = bool((points[:, 1] - self._fall_radius < below).any())
        return np.concatenate(parts, dtype=np.float32, casting="same_kind"), velocity, fallen

    def _fall_points(self) -> np.ndarray:
        """Return (points, 2) ends and middles of the capsules that must not touch the ground."""
        middle = self._now.geom_xpos[self._fall_geoms][:, ::2]
        along = self._now.geom_xmat[self._fall_geoms][:, [2, 8]] * self._fall_half[:, None]
        return np.stack([middle - along, middle, middle + along], axis=1).reshape(-1, 2)

    def _height(self, x: np.ndarray) -> np.ndarray:
        edges = self._edges[self._row]
        i = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, self._left.shape[1] - 1)
        return self._left[self._row, i] + (x - edges[i]) * self._grade[self._row, i]

    def _reward(self, velocity: np.ndarray) -> float:
        task, pitch = self.skill.task, self._now.qpos[2]
        effort = self._now.actuator_force / self._torque
        speed = np.exp(-(((velocity[:, 0] @ self._mass - task.speed) / task.speed_width) ** 2))
        upright = np.exp(-((pitch / task.upright_width) ** 2))
        ease = np.exp(-(effort @ effort / len(effort)) / task.effort_width**2)
        return float(task.speed_weight * speed + task.upright_weight * upright + task.effort_weight * ease)


def _compile(robot: PlanarRobot, bank: Tracks, row: int) -> mujoco.MjModel:
    """Return the model of the robot over the boxes of one whole track."""
    track = Tracks(*(t[row : row + 1] for t in (bank.edges, bank.left, bank.grade)))
    real = int((track.edges[0, 1:] > track.edges[0, :-1]).sum())
    pose, half = track.boxes_from(track.edges[:, 0], real)
    fields = ground_fields(pose[0].numpy(), half[0].numpy())
    spec = build_spec(robot, real)
    spec.option.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)  # these boxes never move
    for i, geom in enumerate(spec.worldbody.geoms):
        geom.pos, geom.quat, geom.size = (fields[name][i] for name in ("geom_pos", "geom_quat", "geom_size"))
    return spec.compile()


def make_plain(skill_id: str, tracks: int, seed: int) -> PlainWalker:
    """Return a plain environment; a module-level function, so that worker processes can import it."""
    return PlainWalker(skill_id, tracks, seed)
