"""The tables of the shipped robots against the published models, where a folder of those is at hand.

Set POLICYKD_ROBOT_MODELS to a folder with go1.xml, g1_12dof.xml, g1.xml and anymal_c.urdf; the tests skip without it.
"""

import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from policykd.envs.robots import ModelFile, SpatialRobot, get_robot
from policykd.envs.robots.sources import robot_spec

FILES = {
    "quadruped": "go1.xml",
    "quadruped-large": "anymal_c.urdf",
    "humanoid": "g1_12dof.xml",
    "humanoid-full": "g1.xml",
}


def mass_matrix(model, joints, angles):
    """Return the mass matrix without rotors, in the order of ``joints``."""
    data, places = mujoco.MjData(model), [model.joint(name).id - 1 for name in joints]
    data.qpos[3] = 1.0
    data.qpos[7 + np.array(places)] = angles
    model.dof_armature[:] = 0.0
    mujoco.mj_forward(model, data)
    whole = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, whole)
    order = [*range(6), *(6 + place for place in places)]
    return whole[np.ix_(order, order)]


@pytest.mark.parametrize("name", FILES)
def test_tables_have_the_published_dynamics(name):
    folder = os.environ.get("POLICYKD_ROBOT_MODELS")
    if not folder or not (Path(folder) / FILES[name]).is_file():
        pytest.skip("POLICYKD_ROBOT_MODELS names no folder with the published models")
    robot = get_robot(name)
    source = ModelFile(str(Path(folder) / FILES[name]))
    mine = robot_spec(robot).compile()
    published = robot_spec(SpatialRobot("published", source, feet=".*", stiffness=(), damping=())).compile()
    joints = [servo.joint for servo in robot.servos]
    assert sorted(joints) == sorted(published.joint(i).name for i in range(1, published.njnt))
    angles = np.random.default_rng(0).uniform(-0.3, 0.3, len(joints))
    found, expected = (mass_matrix(model, joints, angles) for model in (mine, published))
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=0.008)  # exact symmetry moves centers
    np.testing.assert_allclose(found[0, 0], expected[0, 0], rtol=1e-4)
    for joint in joints:
        if published.joint(joint).range.any():
            np.testing.assert_allclose(mine.joint(joint).range, published.joint(joint).range, atol=1e-3)
