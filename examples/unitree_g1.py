"""Unitree's G1 as a gymnasium environment, from the robot's own deployment settings (YAML) and model (MJCF).

Sizes, scales, gains and the command come from the settings; the files stay where you have them. docs/import.md has the
figures. Import, distill, measure:

    export PYTHONPATH=examples G1='unitree_g1:UnitreeG1-v0?{"settings": "g1.yaml", "model": "g1_12dof.xml"}'
    policykd import motion.pt --out expert --env "$G1"
    policykd merge expert --out student --hidden 256 256
    python examples/unitree_g1.py expert student
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
import yaml
from gymnasium import spaces

PERIOD = 0.8  # s, of the walking clock; the settings do not name it
LARGEST_ACTION = 4.0  # the public policy stays within 3
SECONDS = 20.0
CONTROL_DT = 0.02  # s
_STEPS = round(SECONDS / CONTROL_DT)
_SHAKEN = 0.05  # rad, largest change of the initial joint angles


class UnitreeG1(gymnasium.Env[np.ndarray, np.ndarray]):
    """The robot follows a velocity command on flat ground; torques are proportional-derivative control of its joints.

    The reward of a step is ``exp(-4 |v - command|^2)`` in the plane, v the velocity in the robot's frame, m/s. An
    episode ends early with a fall. Settings and models of Unitree's H1, H1-2 and Go2 have the same form.

    Args:
        settings: the deployment settings, as unitree_rl_gym has them for MuJoCo.
        model: the MJCF or URDF, in the order of joints of the settings.
        command: forward and sideward velocity, m/s, and turning rate, rad/s; None for that of the settings.
        meshes: keep the meshes, whose files the model names. G1's masses and feet do not depend on them; H1's feet do.
        height: height of the base at the beginning, m; None for that of the model, which a URDF does not have.

    Raises:
        ValueError: if settings and model have another number of joints, observations of another size, or another
            control rate than 50 Hz.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "render_fps": round(1 / CONTROL_DT)}

    def __init__(
        self,
        settings: str,
        model: str,
        command: list[float] | None = None,
        meshes: bool = False,
        height: float | None = None,
    ) -> None:
        self._set: dict[str, Any] = yaml.safe_load(Path(settings).read_text())
        self._kp, self._kd, self._default, self._command_scale = (
            np.array(self._set[name], dtype=float) for name in ("kps", "kds", "default_angles", "cmd_scale")
        )
        self._command = np.array(self._set["cmd_init"] if command is None else command, dtype=float)
        self._model = on_flat_ground(Path(model), meshes)
        self._model.opt.timestep = self._set["simulation_dt"]
        self._data = mujoco.MjData(self._model)
        joints, substeps = len(self._default), int(self._set["control_decimation"])
        if not self._model.nu == len(self._kp) == len(self._kd) == joints == self._model.nv - 6:
            raise ValueError(f"the settings are of {joints} joints, the model has {self._model.nu} motors")
        if (size := int(self._set["num_obs"])) not in (9 + 3 * joints, 11 + 3 * joints):
            raise ValueError(f"the settings observe {size} numbers; {joints} joints give {9 + 3 * joints}, the clock 2")
        if not np.isclose(period := substeps * self._set["simulation_dt"], CONTROL_DT):
            raise ValueError(f"the settings act every {period} s; {CONTROL_DT} is needed")
        self._substeps, self._action = substeps, np.zeros(joints)
        self._height = float(self._model.qpos0[2]) if height is None else height
        self._fallen = 0.5 * self._height  # of the base, m
        self.action_space = spaces.Box(-LARGEST_ACTION, LARGEST_ACTION, (joints,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Put the robot on its feet, with joint angles a little off."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[2] = self._height
        self._data.qpos[7:] = self._default + self.np_random.uniform(-_SHAKEN, _SHAKEN, len(self._default))
        self._action[:] = 0.0
        self._simulate()  # the controllers take hold
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one action: offsets of the joint targets, in units of the settings' ``action_scale``."""
        self._action[:] = action
        self._simulate()
        fell = bool(self._data.qpos[2] < self._fallen or self._gravity()[2] > -0.5)
        error = (self._rotation().T @ self._data.qvel[:3])[:2] - self._command[:2]
        reward = 0.0 if fell else float(np.exp(-4.0 * error @ error))
        return self._observe(), reward, fell, False, {"is_success": not fell, "x": float(self._data.qpos[0])}

    def _simulate(self) -> None:
        target = self._default + self._set["action_scale"] * self._action
        for _ in range(self._substeps):
            self._data.ctrl[:] = self._kp * (target - self._data.qpos[7:]) - self._kd * self._data.qvel[6:]
            mujoco.mj_step(self._model, self._data)

    def _rotation(self) -> np.ndarray:
        """Return (3, 3) the rotation from the pelvis to the world."""
        found = np.empty(9)
        mujoco.mju_quat2Mat(found, self._data.qpos[3:7])
        return found.reshape(3, 3)

    def _gravity(self) -> np.ndarray:
        """Return the direction of gravity in the pelvis' frame."""
        return -self._rotation()[2]

    def _observe(self) -> np.ndarray:
        given, clock = self._set, 2 * np.pi * self._data.time / PERIOD
        parts = (
            self._data.qvel[3:6] * given["ang_vel_scale"],
            self._gravity(),
            self._command * self._command_scale,
            (self._data.qpos[7:] - self._default) * given["dof_pos_scale"],
            self._data.qvel[6:] * given["dof_vel_scale"],
            self._action,
            (np.sin(clock), np.cos(clock)),
        )
        return np.concatenate(parts).astype(np.float32)[: self.observation_space.shape[0]]  # Go2 has no clock


def on_flat_ground(path: Path, meshes: bool) -> mujoco.MjModel:
    """Return a model on flat ground, with its meshes or without them."""
    spec = mujoco.MjSpec.from_file(str(path))
    for geom in [] if meshes else list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
    for mesh in [] if meshes else list(spec.meshes):
        spec.delete(mesh)
    if path.suffix == ".urdf":
        _release(spec)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 1.0])
    return spec.compile()


def _release(spec: mujoco.MjSpec) -> None:
    """Give a URDF's robot what only MJCF can say: a base that moves, and a motor at every joint."""
    spec.compiler.fusestatic = False
    for joint in spec.joints:
        spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    spec.worldbody.first_body().add_freejoint()


gymnasium.register("UnitreeG1-v0", entry_point=UnitreeG1, max_episode_steps=_STEPS)


def walk(path: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Return seconds upright and meters covered in each episode of a policy that was imported or distilled here."""
    import torch

    from policykd.agents.acting import Acting
    from policykd.agents.files.policy_file import load_policy

    policy, manifest = load_policy(path)
    skill = manifest.skill(manifest.skills[0])
    env = gymnasium.make("UnitreeG1-v0", **json.loads(skill.kwargs))  # type: ignore[attr-defined]  # a gymnasium skill
    acting, began = Acting(policy), time.process_time()
    seconds, meters = [], []
    for episode in range(episodes):
        acting.begin()
        observation, _ = env.reset(seed=seed + episode)
        for step in range(_STEPS):
            with torch.no_grad():
                unit = acting(torch.from_numpy(observation)[None])[0].clamp(-1.0, 1.0).numpy()
            observation, _, terminated, _, info = env.step(LARGEST_ACTION * unit)
            if terminated:
                seconds.append((step + 1) * CONTROL_DT)
                break
        else:
            seconds.append(SECONDS)
        meters.append(info["x"])
    return {"policy": path.name, "seconds": seconds, "meters": meters, "processor_seconds": time.process_time() - began}


def main() -> None:
    """Print, and store, how policies walk."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("policies", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = [walk(path, options.episodes, options.seed) for path in options.policies]
    for one in found:
        upright = sum(s >= SECONDS for s in one["seconds"])
        print(f"{one['policy']}: {upright} of {options.episodes} episodes upright, {np.mean(one['meters']):.2f} m")
    if options.out:
        content = {"episodes": options.episodes, "seed": options.seed, "walks": found}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
