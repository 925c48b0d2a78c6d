"""The example of a robot from deployment settings: what it observes and how its torques follow from the actions."""

import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import yaml

from policykd.envs.foreign.skill import gym_skill
from policykd.envs.make import make_env
from policykd.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import unitree_g1

SETTINGS = {
    "simulation_dt": 0.005, "control_decimation": 4, "kps": [40.0, 30.0], "kds": [1.0, 2.0],
    "default_angles": [0.1, -0.2], "ang_vel_scale": 0.25, "dof_pos_scale": 1.0, "dof_vel_scale": 0.05,
    "action_scale": 0.25, "cmd_scale": [2.0, 2.0, 0.25], "num_obs": 17, "cmd_init": [0.5, 0, 0],
}  # fmt: skip
MODEL = """<mujoco>
  <asset><mesh name="shell" file="missing.stl"/></asset>
  <worldbody><body pos="0 0 0.6"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="2"/>
    <geom type="mesh" mesh="shell"/>
    <body pos="0 0.05 -0.1"><joint name="a" axis="0 1 0"/>
      <geom type="capsule" size="0.03" fromto="0 0 0 0 0 -0.4"/></body>
    <body pos="0 -0.05 -0.1"><joint name="b" axis="0 1 0"/>
      <geom type="capsule" size="0.03" fromto="0 0 0 0 0 -0.4"/></body>
  </body></worldbody>
  <actuator><motor joint="a"/><motor joint="b"/></actuator>
</mujoco>"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "r.xml").write_text(MODEL)
    return {"settings": str(tmp_path / "r.yaml"), "model": str(tmp_path / "r.xml")}


def text(files):
    return f'gym:unitree_g1:UnitreeG1-v0?{{"settings": "{files["settings"]}", "model": "{files["model"]}"}}'


def test_a_step_equals_the_same_control_loop_written_out(files):
    env = unitree_g1.UnitreeG1(**files, command=[0.3, 0.1, -0.2])
    env.reset(seed=4)
    data = mujoco.MjData(env._model)
    for name in ("qpos", "qvel", "qacc_warmstart"):
        getattr(data, name)[:] = getattr(env._data, name)
    data.time, action = env._data.time, np.array([0.8, -1.5], np.float32)
    target = np.array([0.1, -0.2]) + 0.25 * action
    for _ in range(4):
        data.ctrl[:] = [40.0, 30.0] * (target - data.qpos[7:]) - [1.0, 2.0] * data.qvel[6:]
        mujoco.mj_step(env._model, data)
    seen, reward, fell, _, info = env.step(action)
    w, x, y, z = data.qpos[3:7]
    gravity = [2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1]
    clock = 2 * np.pi * 0.04 / 0.8  # two actions of 0.02 s
    expected = [*(data.qvel[3:6] / 4), *gravity, 0.6, 0.2, -0.05, *(data.qpos[7:] - [0.1, -0.2])]
    expected += [*(data.qvel[6:] * 0.05), *action, np.sin(clock), np.cos(clock)]
    assert np.allclose(seen, expected, atol=1e-5)
    assert not fell
    assert info["is_success"]
    forward = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]) @ data.qvel[:3]
    left = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]) @ data.qvel[:3]
    assert reward == pytest.approx(np.exp(-4 * ((forward - 0.3) ** 2 + (left - 0.1) ** 2)), abs=1e-6)


def test_its_id_imports_it(files):
    skill = gym_skill(text(files))
    assert (skill.group_sizes, skill.episode_steps, skill.robot.control_dt) == ({"observation": 17}, 1000, 0.02)
    env = make_env([skill], 2)
    env.reset()
    steps = [env.step(torch.ones(2, 2)) for _ in range(150)]
    assert any(s.terminated.any() for s in steps)  # two sticks fall


def test_settings_of_another_robot_are_refused(files):
    Path(files["settings"]).write_text(yaml.safe_dump({**SETTINGS, "default_angles": [0.0] * 3}))
    with pytest.raises(ConfigError, match="settings are of 3 joints, the model has 2 motors"):
        gym_skill(text(files))
    Path(files["settings"]).write_text(yaml.safe_dump({**SETTINGS, "num_obs": 16}))
    with pytest.raises(ConfigError, match=r"settings observe 16 numbers; 2 joints give 15, the clock 2"):
        gym_skill(text(files))
    Path(files["settings"]).write_text(yaml.safe_dump({**SETTINGS, "control_decimation": 2}))
    with pytest.raises(ConfigError, match=r"settings act every 0.01 s; 0.02 is needed"):
        gym_skill(text(files))


URDF = """<robot name="r">
  <link name="base"><inertial><mass value="2"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="a" type="continuous"><parent link="base"/><child link="left"/><axis xyz="0 1 0"/></joint>
  <joint name="b" type="continuous"><parent link="base"/><child link="right"/><axis xyz="0 1 0"/></joint>
  {legs}
</robot>"""
LEG = """<link name="{0}">
  <inertial><mass value="1"/><inertia ixx=".1" iyy=".1" izz=".1" ixy="0" ixz="0" iyz="0"/></inertial>
  <collision><origin xyz="0 0 -0.2"/><geometry><sphere radius="0.02"/></geometry></collision></link>"""


def test_a_urdf_gets_a_free_base_and_motors(tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**SETTINGS, "num_obs": 15}))
    (tmp_path / "r.urdf").write_text(URDF.format(legs=LEG.format("left") + LEG.format("right")))
    env = unitree_g1.UnitreeG1(str(tmp_path / "r.yaml"), str(tmp_path / "r.urdf"), height=0.5)
    start, _ = env.reset(seed=0)
    assert env._data.qpos[2] == pytest.approx(0.5 - 9.81 * 0.005**2 * 10, abs=1e-3)  # fell freely for four steps
    assert start.shape == (15,), "settings without a clock"
    before = env._data.qpos[7:].copy()
    env.step(np.array([3.0, -3.0], np.float32))
    assert (np.sign(env._data.qpos[7:] - before) == [1.0, -1.0]).all()


def test_meshes_that_are_kept_must_be_there(files):
    with pytest.raises(ValueError, match=r"missing.stl"):
        unitree_g1.UnitreeG1(**files, meshes=True)


ROBOT = Path(__file__).parents[3] / "shared" / "policies" / "unitree_rl_gym"


@pytest.mark.skipif(not ROBOT.is_dir(), reason="the robot's files are not on this machine")
def test_the_robot_itself_stands_for_a_moment():
    env = unitree_g1.UnitreeG1(str(ROBOT / "g1.yaml"), str(ROBOT / "g1_12dof.xml"))
    observation, _ = env.reset(seed=0)
    assert (observation.shape, env.action_space.shape) == ((47,), (12,))
    assert np.linalg.norm(observation[3:6]) == pytest.approx(1.0, abs=1e-5)
    assert not any(env.step(np.zeros(12, np.float32))[2] for _ in range(20))
