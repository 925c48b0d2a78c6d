"""The compiled model has the masses, limits and gains of the published character."""

import mujoco
import numpy as np
import pytest

from policykd.envs.robots import get_robot, robot_names
from policykd.envs.robots.mjcf import build_model

# TerrainRLSim, data/characters/biped2D_full.txt:
# body -> mass kg, box (x, z) m, joint limits rad, torque limit Nm, kp Nm/rad, kd Nm s/rad, may touch the ground
_LEG = {
    "thigh": (5.0, (0.0846, 0.40), (-0.5, 2.57), 150, 200, 20, False),
    "shank": (2.5, (0.065, 0.416), (-3.0, 0.0), 125, 200, 20, True),
    "foot": (0.5, (0.177, 0.05), (-1.57, 1.57), 100, 100, 10, True),
}
_ARM = {
    "arm": (1.5, (0.07, 0.325), (-1.2, 3.0), 100, 150, 15, False),
    "forearm": (0.75, (0.0546, 0.30), (0.0, 2.8), 75, 100, 10, False),
}
TABLE = {f"{side}_{name}": row for part in (_LEG, _ARM) for side in ("right", "left") for name, row in part.items()}
TABLE["head"] = (3.5, (0.10, 0.15), (-0.57, 0.57), 50, 100, 10, False)
ORDER = ["right_thigh", "right_shank", "right_foot", "left_thigh", "left_shank", "left_foot",
         "right_arm", "right_forearm", "left_arm", "left_forearm", "head"]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return build_model(get_robot("biped"), boxes=3)


def test_the_tree_has_twelve_bodies_and_eleven_motors_in_the_published_order(model):
    assert (model.nbody - 1, model.nu, model.nq, model.nv) == (12, 11, 14, 14)
    assert [model.actuator(i).name for i in range(model.nu)] == ORDER
    assert [model.joint(i).name for i in range(3)] == ["root_x", "root_z", "root_pitch"]
    assert model.body_mass.sum() == pytest.approx(49.0)
    assert model.body("torso").mass == pytest.approx(25.0)


@pytest.mark.parametrize("name", ORDER)
def test_every_joint_matches_the_table(model, name):
    mass, size, limits, torque, kp, kd, touches = TABLE[name]
    body, joint, motor = model.body(name), model.joint(name), model.actuator(name)
    assert body.mass == pytest.approx(mass)
    assert joint.range == pytest.approx(np.array(limits))  # rad: degrees would come out 57 times smaller
    assert model.jnt_limited[joint.id] == 1
    assert motor.forcerange == pytest.approx(np.array([-torque, torque]))
    assert model.actuator_forcelimited[motor.id] == 1
    assert motor.gainprm[0] == pytest.approx(kp)
    assert motor.biasprm[:3] == pytest.approx(np.array([0.0, -kp, 0.0]))
    assert model.dof_damping[joint.dofadr[0]] == pytest.approx(kd)
    across = mass * (size[0] ** 2 + size[1] ** 2) / 12  # a box turning in the plane
    assert body.inertia[1] == pytest.approx(across)
    assert grounds_that_touch(model, name) == ({"ground0", "ground1", "ground2"} if touches else set())


def grounds_that_touch(model, name):
    """Names of the geoms that a geom's contacts may be with: MuJoCo finds no others than the named pairs."""
    assert not model.geom_contype.any()
    assert not model.geom_conaffinity.any()
    pairs = zip(model.pair_geom1, model.pair_geom2, strict=True)
    names = [{model.geom(first).name, model.geom(second).name} for first, second in pairs]
    return {(pair - {name}).pop() for pair in names if name in pair}


def test_contacts_have_the_robots_friction(model):
    assert model.npair == 3 * 4
    assert (model.pair_friction[:, :2] == get_robot("biped").friction).all()
    assert (model.pair_dim == 3).all()


def test_the_zero_pose_is_upright_with_the_joints_where_the_character_has_them(model):
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    assert data.body("right_shank").xpos == pytest.approx(np.array([0, 0, -0.352]))
    assert data.body("left_foot").xpos == pytest.approx(np.array([0, 0, -0.352 - 0.391]))
    assert data.body("left_forearm").xpos == pytest.approx(np.array([0, 0, 0.41 - 0.31]))
    assert data.body("head").xpos == pytest.approx(np.array([0, 0, 0.42]))
    assert data.body("right_foot").xipos == pytest.approx(np.array([0.052, 0, -0.743 - 0.022]))


def test_a_positive_angle_swings_a_thigh_forward_and_a_negative_one_bends_the_knee(model):
    data = mujoco.MjData(model)
    data.joint("right_thigh").qpos = 0.3
    data.joint("left_shank").qpos = -0.5
    mujoco.mj_kinematics(model, data)
    assert data.body("right_foot").xpos[0] > 0.1
    assert data.body("left_foot").xpos[0] < -0.1


def test_the_standing_pose_stands_on_the_ground(model):
    data = mujoco.MjData(model)
    data.qpos[:] = get_robot("biped").stand_pose
    mujoco.mj_kinematics(model, data)
    lowest = [data.geom(f"{side}_foot").xpos[2] for side in ("left", "right")]
    radius = model.geom("left_foot").size[0]
    assert max(lowest) - radius == pytest.approx(0.0, abs=0.02)
    assert min(lowest) - radius >= -1e-9


def test_robots_are_listed():
    assert robot_names() == [
        "ant", "biped", "halfcheetah", "hopper", "humanoid", "humanoid-full", "humanoid-v5", "quadruped",
        "quadruped-large", "walker2d",
    ]  # fmt: skip
