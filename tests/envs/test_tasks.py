"""Tasks: rewards against formulas on MuJoCo's own kinematics, what they forbid, how episodes begin and succeed."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from worlds import FEW, assert_same, random_actions

from policykd.envs import batched_env
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.physics import LoopEngine
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.envs.stepping import TorchBackend
from policykd.envs.suites import get_suite
from policykd.envs.tasks import Crouch, Hop, Imitate, Walk, get_task, register_task, task_name, task_names
from policykd.envs.tasks.reference_cycle import walking_cycle
from policykd.envs.tasks.registry import TASKS
from policykd.errors import ConfigError, UnknownNameError

SHARE = {"torso": 1.0, "foot": 0.2}


def env_of(skill_id, num_envs=6, groups=("proprio", "phase", "command"), **options):
    return BatchedEnv([get_skill(skill_id, groups)], num_envs, config=FEW, **options)


def measured(env, i):
    """What MuJoCo says of simulation i: effort, centers of mass, their velocities, and the generalized state."""
    model, data = env.engine._models[i], env.engine._data[i]
    mujoco.mj_forward(model, data)  # positions and velocities after the step
    links = [model.body(link.name).id for link in env.robot.links]
    velocity = np.zeros((len(links), 6))
    for row, body in enumerate(links):
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, velocity[row], 0)
    mass = model.body_mass[links]
    soles = []
    for i in env.robot.foot_pair:
        geom = model.geom(env.robot.links[i].name).id
        radius, half = model.geom_size[geom, :2]
        soles.append(data.geom_xpos[geom, 2] - half * abs(data.geom_xmat[geom].reshape(3, 3)[2, 2]) - radius)
    return {
        "clearance": min(soles),
        "com": data.xipos[links][:, [0, 2]],
        "velocity": velocity[:, [3, 5]],
        "share": mass / mass.sum(),
        "qpos": data.qpos.copy(),
        "qvel": data.qvel.copy(),
    }


def hop_reward(now, effort, clock, robot):
    right, left = robot.foot_pair
    apart = np.linalg.norm(now["com"][right] - now["com"][left])
    against = np.linalg.norm(now["velocity"][right] - now["velocity"][left])
    speed = now["velocity"][:, 0] @ now["share"]
    lack = max(0.0, 0.1 - now["clearance"])
    return (
        0.4 * np.exp(-((speed - 1.0) ** 2)) + 0.25 * np.exp(-((apart / 0.1) ** 2) - against**2)
        + 0.25 * np.exp(-((lack / 0.06) ** 2)) + 0.1 * np.exp(-np.mean(effort**2) / 0.25)
    )  # fmt: skip


def imitate_reward(now, effort, clock, robot):
    qpos, qvel = (row[0].numpy() for row in walking_cycle(robot).at(torch.tensor([clock])))
    model = env_of("biped/flat", 1, make_engine=LoopEngine).engine._models[0]
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    shell = type("Env", (), {"engine": type("E", (), {"_models": [model], "_data": [data]}), "robot": robot})
    wanted = measured(shell, 0)
    weight = np.array([SHARE.get(link.name.split("_")[-1], 0.3) for link in robot.links])
    pose = weight @ (now["qpos"][2:] - qpos[2:]) ** 2
    velocity = weight @ (now["qvel"][2:] - qvel[2:]) ** 2
    feet = list(robot.foot_pair)
    error = []
    for side in (now, wanted):
        places = side["com"][feet].copy()
        places[:, 0] -= side["com"][:, 0] @ side["share"]
        error.append(places)
    off = np.mean(np.sum((error[0] - error[1]) ** 2, axis=1))
    com = np.sum((now["share"] @ now["velocity"] - wanted["share"] @ wanted["velocity"]) ** 2)
    height = (now["qpos"][1] - qpos[1]) ** 2
    return (
        0.5 * np.exp(-2 * pose) + 0.05 * np.exp(-0.005 * velocity) + 0.15 * np.exp(-40 * off)
        + 0.1 * np.exp(-10 * height) + 0.2 * np.exp(-com)
    )  # fmt: skip


@pytest.mark.parametrize(("name", "formula"), [("hop", hop_reward), ("imitate", imitate_reward)])
def test_rewards_equal_their_formulas(name, formula):
    env = env_of(f"biped/flat+{name}", make_engine=LoopEngine)
    env.reset()
    limits = np.array([link.torque for link in env.robot.joints])
    compared = 0
    for action in random_actions(8, 6, scale=0.3):
        clock = env._backend.clock.clone() + env.robot.control_dt
        step = env.step(action, restart=False)
        for i, data in enumerate(env.engine._data):
            effort = data.actuator_force / limits
            if not step.terminated[i]:
                expected = formula(measured(env, i), effort, float(clock[i]), env.robot)
                assert float(step.reward[i]) == pytest.approx(expected, abs=2e-6)
                compared += 1
    assert compared > 15


def test_crouching_pays_for_being_low_and_ends_at_the_ceiling():
    env = env_of("biped/flat+crouch", 3)
    env.reset()
    now = env._backend._situation(env._backend.read_state())
    now.state.com_velocity, now.state.effort = torch.tensor([1.0, 0.0]).expand(3, 12, 2), torch.zeros(3, 11)
    now.mass = now.mass.float()
    points = now.state.fall_points
    points[:] = 0.5
    ceiling = env.robot.stand_top - 0.3
    points[1, 2, 1], points[2, 2, 1] = ceiling, ceiling + 0.15
    task = Crouch()
    torch.testing.assert_close(task.reward(now).double(), torch.tensor([1.0, 1.0, 0.8 + 0.2 / np.e]).double())
    points[:, :, 0] = torch.tensor([1.5, 1.5, 0.9])[:, None]
    points[0, 0, 1] = ceiling + 0.01
    assert task.forbidden(now).tolist() == [True, False, False], "the ceiling begins 1 m ahead of the start"


def test_kneeling_ends_a_crouch():
    """A shank that is level, with its center just above or below the bound in MuJoCo's own kinematics."""
    env = env_of("biped/flat+crouch", 3, make_engine=LoopEngine)
    env.reset()
    data, model = env.engine._data[0], env.engine._models[0]
    qpos = torch.as_tensor(env.robot.stand_pose).repeat(3, 1)
    for side in ("right", "left"):
        knee = model.joint(f"{side}_shank").qposadr[0]
        qpos[1:, knee] = -np.pi / 2 - qpos[1:, knee - 1] - qpos[1:, 2]
    data.qpos[:] = qpos[1].numpy()
    mujoco.mj_kinematics(model, data)
    height = data.xipos[model.body("right_shank").id, 2]
    qpos[1:, 1] += torch.tensor([0.11, 0.09]) - height
    assert qpos[1, 1] > env.robot.stand_top / 4
    env.engine.reset(torch.arange(3), qpos, torch.zeros(3, model.nv, dtype=torch.float64))
    assert Crouch(lowering=0.0).forbidden(env._backend._situation(env._backend.read_state())).tolist() == [
        False,
        False,
        True,
    ]


def test_the_height_of_the_standing_robot_is_that_of_mujoco():
    env = env_of("biped/flat", 1, make_engine=LoopEngine)
    data, model = env.engine._data[0], env.engine._models[0]
    data.qpos[:] = env.robot.stand_pose
    mujoco.mj_kinematics(model, data)
    head = model.geom("head").id
    assert data.geom_xpos[head, 2] + model.geom_size[head, 1] == pytest.approx(env.robot.stand_top)


@pytest.mark.parametrize("loop", [False, True])
def test_feet_that_leave_the_sack_end_a_hop(loop):
    env = env_of("biped/flat+hop", 4, make_engine=LoopEngine if loop else None)
    env.reset()
    apart = env.engine.field("qpos").clone()
    apart[:, 3], apart[:, 6] = 0.5, -0.2
    ids = torch.tensor([1])
    env.engine.reset(ids, apart[ids], env.engine.field("qvel")[ids].clone())
    step = env.step(torch.zeros(4, 11), restart=False)
    assert step.terminated.tolist() == [False, True, False, False]
    assert float(step.reward[1]) == 0.0


def test_goals_follow_the_commanded_direction():
    seconds = 256 / 30
    assert get_task("walk").goal(seconds) == pytest.approx((0.5 * 1.54 * seconds, np.inf))
    assert get_task("run").goal(seconds) == pytest.approx((0.75 * 3.0 * seconds, np.inf))
    assert get_task("backwards").goal(seconds) == pytest.approx((-np.inf, -0.5 * seconds))


@pytest.mark.parametrize("backend", ["fused", "tensors"])
def test_each_simulation_succeeds_at_its_own_goal(backend, monkeypatch):
    if backend == "tensors":
        monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    skills = [
        replace(get_skill(f"biped/flat+{name}", ("proprio",)), episode_steps=2) for name in ("walk", "backwards", "run")
    ]
    env = BatchedEnv(skills, 6, config=replace(FEW, speed_noise=0.0))
    env.reset()
    env.step(torch.zeros(6, 11))
    env.engine.field("qpos")[:, 0] += torch.tensor([0.07, -0.07, 0.2, -0.07, 0.07, 0.07])
    assert env.step(torch.zeros(6, 11)).episodes.success.tolist() == [True, True, True, False, False, False]


def test_whoever_goes_backwards_has_ground_behind():
    """A robot that is put down 20 m behind the start stands on something; the height function says so, too."""
    env = env_of("biped/flat+backwards", 2)
    env.reset()
    qpos = torch.as_tensor(env.robot.stand_pose).repeat(2, 1)
    qpos[1, 0] = -20.0
    env.engine.reset(torch.arange(2), qpos, torch.zeros(2, env.engine.field("qvel").shape[1], dtype=torch.float64))
    env._backend.move_ground()
    for _ in range(12):
        env.step(torch.zeros(2, env.num_actions), restart=False)
    height = env.engine.field("qpos")[:, 1]
    assert float(height[1]) == pytest.approx(float(height[0]), abs=0.02)
    assert float(height[1]) > 0.5 * float(qpos[0, 1])
    assert env.ground_height(torch.full((2, 1), -20.0, dtype=torch.float64)).abs().max() == 0.0


def test_whoever_goes_backwards_begins_backwards():
    env = env_of("biped/flat+backwards", 64)
    env.reset()
    speed = env.engine.field("qvel")[:, 0]
    assert (speed <= 0).all()
    assert speed.min() < -0.8


def test_imitation_begins_in_the_cycle_and_is_perfect_there():
    env = BatchedEnv([get_skill("biped/flat+imitate")], 200, config=replace(FEW, joint_noise=0.0))
    first = env.reset()["phase"][:, 0].double()
    assert len(set((first * 20).round().tolist())) == 20
    torch.testing.assert_close(first * 20, (first * 20).round(), rtol=0, atol=1e-5)
    qpos, qvel = walking_cycle(env.robot).at(env._backend.clock)
    assert torch.equal(env.engine.field("qpos"), qpos)
    assert torch.equal(env.engine.field("qvel"), qvel)
    now = env._backend._situation(env._backend.read_state())
    now.around.cycles -= env.robot.control_dt  # the state of this step and not of the next
    torch.testing.assert_close(Imitate().reward(now), torch.ones(200, dtype=torch.float64))
    noisy = env_of("biped/flat+imitate", 50)
    noisy.reset()
    off = noisy.engine.field("qpos") - walking_cycle(env.robot).at(noisy._backend.clock)[0]
    assert 0.04 < off[:, 3:].abs().max() <= 0.05 + 1e-9
    assert (off[:, :3] == 0).all()


def test_simulations_of_different_tasks_share_an_environment():
    """Every simulation gets what it would get in an environment of its skill alone."""
    skills = get_suite("gaits")
    both = BatchedEnv(skills, 10, config=FEW)
    both.reset()
    alone = [BatchedEnv([skill], 10, config=FEW) for skill in skills]
    for env in alone:
        env.reset()
        env.engine.restore(both.engine.snapshot())
        env._backend._statistics.copy_(both._backend._statistics)
    commands = both.step(torch.zeros(10, 11), restart=False).observations["command"]
    assert commands[:5].tolist() == commands[5:].tolist()
    assert len({tuple(row) for row in commands.tolist()}) == 5
    for env in alone:
        env.step(torch.zeros(10, 11), restart=False)
    ended = 0
    for action in random_actions(20, 10, scale=1.0):
        step = both.step(action, restart=False)
        ended += int(step.terminated.sum())
        singles = [env.step(action, restart=False) for env in alone]
        for i in range(10):
            for field in ("reward", "terminated"):
                assert torch.equal(getattr(step, field)[i], getattr(singles[i % 5], field)[i]), (
                    field,
                    skills[i % 5].id,
                )
    assert ended > 0


def test_both_backends_agree_on_gaits(monkeypatch):
    skills = [
        *get_suite("gaits", ("proprio", "phase", "command")),
        get_skill("biped/flat+imitate", ("proprio", "phase", "command")),
    ]
    fused = BatchedEnv(skills, 12, config=FEW)
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    tensors = BatchedEnv(skills, 12, config=FEW)
    assert all(torch.equal(a, b) for a, b in zip(fused.reset().values(), tensors.reset().values(), strict=True))
    ended = 0
    for action in random_actions(25, 12, scale=0.5):
        mine, theirs = fused.step(action), tensors.step(action)
        assert mine.episodes.ids.tolist() == theirs.episodes.ids.tolist()
        for field in ("flat", "final_flat", "reward"):
            torch.testing.assert_close(getattr(mine, field), getattr(theirs, field), rtol=0, atol=1e-4)
        ended += len(mine.episodes.ids)
    assert ended > 3


def test_an_environment_of_several_tasks_goes_on_from_a_checkpoint():
    a, b = (BatchedEnv(get_suite("gaits"), 10, config=FEW, seed=3) for _ in "ab")
    a.reset()
    for action in random_actions(20, 10, scale=0.5):
        a.step(action)
    b.reset()
    b.load_state_dict(a.state_dict())
    for action in random_actions(15, 10, scale=0.5, seed=1):
        assert_same(a.step(action), b.step(action))


@pytest.mark.parametrize("name", task_names())
def test_tasks_have_names_in_skill_ids(name):
    robot, group = next(
        (robot, group)
        for robot, group in (("quadruped", "imu"), ("biped", "proprio"), ("hopper", "positions"))
        if get_task(name).fits(get_robot(robot))
    )
    terrain = "flat@0.5" if robot == "hopper" else "steps:hard@0.5"
    skill = get_skill(f"{robot}/{terrain}+{name}")
    assert skill.task == get_task(name)
    assert skill.groups == get_task(name).groups
    assert skill.id == f"{robot}/{terrain}" + ("" if name == get_robot(robot).default_task else f"+{name}")
    assert get_skill(skill.id) == skill
    assert get_skill(f"{robot}/flat+{name}", (group,)).groups == (group,)


def test_ids_of_tasks_with_other_parameters_name_their_kind():
    assert replace(get_skill("biped/flat"), task=Walk(speed=1.2)).id == "biped/flat"
    assert replace(get_skill("biped/flat"), task=Hop(speed=0.5)).id == "biped/flat+hop"


def test_names_of_tasks_are_checked():
    with pytest.raises(UnknownNameError, match="unknown task 'crouhc'; did you mean crouch"):
        get_skill("biped/flat+crouhc")
    with pytest.raises(ConfigError, match="another task is already called 'hop'"):
        register_task("hop", Walk(speed=0.3))
    with pytest.raises(ConfigError, match="the task 'jog' is already registered as 'run'"):
        register_task("jog", get_task("run"))
    with TASKS.scope():
        register_task("stroll", Walk(speed=0.7))
        assert get_skill("biped/gaps+stroll").task.speed == 0.7
        assert task_name(Walk(speed=0.7)) == "stroll"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hop(speed_weight=0.9),
        lambda: Hop(together_width=0.0),
        lambda: Hop(sack=-0.1),
        lambda: Crouch(low_weight=0.5),
        lambda: Crouch(lowering=float("nan")),
        lambda: Imitate(pose_weight=0.6),
        lambda: Imitate(feet_scale=0.0),
        lambda: Walk(least=1.5),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()
