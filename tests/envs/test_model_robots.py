"""Robots that are simulated as their files say: step parity with gymnasium, own models, resets, refusals."""

from dataclasses import replace

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from policykd.cli.main import main
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.observations import Surroundings
from policykd.envs.rendering import build_scene
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.robots.check import check_robot
from policykd.envs.robots.description import read_robot
from policykd.envs.robots.gymnasium_bodies import GYMNASIUM_BODIES
from policykd.envs.robots.side_view import standing_outlines
from policykd.envs.skill_records import read_skill, records_of, skill_from_record
from policykd.envs.skills import Skill, get_skill
from policykd.envs.tasks.published import Forward
from policykd.errors import ConfigError, ContractError, PolicykdError

PUBLISHED = {
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "halfcheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "humanoid-v5": "Humanoid-v5",
}
NAMES = [robot.name for robot in GYMNASIUM_BODIES]
CONFIG = EnvConfig(tracks=2)


def env_of(name, num_envs=2, **options):
    return BatchedEnv([get_skill(f"{name}/flat")], num_envs, config=CONFIG, **{"threads": 1, **options})


def observed(env):
    """Return the observation groups of all simulations in float64."""
    backend = env._backend
    view = backend.read_state()
    around = Surroundings(view.ground, view.scan, view.ground, view.ground, lambda x: x)
    return torch.cat([group.compute(view.state, around) for group in backend._groups], dim=1)


def same_state(env, published):
    """Put gymnasium's environment in the state of simulation 0, as its own reset does."""
    mujoco.mj_resetData(published.model, published.data)
    qpos, qvel = (env.engine.field(name)[0].numpy().copy() for name in ("qpos", "qvel"))
    published.set_state(qpos, qvel)
    return published._get_obs()


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_gymnasiums(name):
    env, published = env_of(name), gymnasium.make(PUBLISHED[name]).unwrapped
    first = torch.cat(list(env.reset().values()), dim=1)
    published.reset(seed=0)
    assert np.array_equal(first[0].numpy(), same_state(env, published).astype(np.float32))
    draw, total, ends = torch.Generator().manual_seed(0), 0.0, 0
    for _ in range(1000 if name == "halfcheetah" else 400):  # a cheetah's episode ends with its last step alone
        action = torch.rand(2, env.num_actions, generator=draw, dtype=torch.float64) * 2 - 1
        step = env.step(action, restart=False)
        theirs, reward, terminated, _, _ = published.step(env.targets(action)[0].numpy())
        np.testing.assert_allclose(observed(env)[0].numpy(), theirs, rtol=0, atol=1e-10)
        assert np.array_equal(step.flat[0].numpy(), theirs.astype(np.float32))
        mine = env._backend._total_reward[0].item()
        assert mine - total == pytest.approx(reward, abs=1e-10)
        total = mine
        assert step.terminated[0].item() == terminated
        if terminated or step.truncated[0]:
            first, total, ends = torch.cat(list(env.reset().values()), dim=1), 0.0, ends + 1
            assert np.array_equal(first[0].numpy(), same_state(env, published).astype(np.float32))
    assert ends > 0 or name == "ant"


@pytest.mark.parametrize("name", NAMES)
def test_initial_states_have_the_published_spread(name):
    published = gymnasium.make(PUBLISHED[name]).unwrapped
    env, states = env_of(name, 512), []
    env.reset()
    for seed in range(256):
        published.reset(seed=seed)
        states.append(np.concatenate([published.data.qpos, published.data.qvel]))
    mine = torch.cat([env.engine.field("qpos"), env.engine.field("qvel")], dim=1).numpy()
    noise = env.robot.reset_noise
    np.testing.assert_allclose(mine.mean(0), np.mean(states, axis=0), atol=0.35 * noise)
    np.testing.assert_allclose(mine.std(0), np.std(states, axis=0), atol=0.25 * noise)
    assert (mine.std(0) > 0.4 * noise).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_record_names_what_gymnasium_has(name):
    published = gymnasium.make(PUBLISHED[name])
    skill = get_skill(f"{name}/flat")
    assert skill.episode_steps == published.spec.max_episode_steps
    assert sum(skill.group_sizes.values()) == published.observation_space.shape[0]
    assert skill.robot.num_actions == published.action_space.shape[0]
    assert skill.robot.control_dt == pytest.approx(published.unwrapped.dt)
    bounds, space = np.array([servo.limits for servo in skill.robot.servos]), published.action_space
    np.testing.assert_allclose(bounds, np.stack([space.low, space.high], 1), rtol=1e-6)


@pytest.mark.parametrize("name", ["hopper", "humanoid-v5"])
def test_threads_and_interruptions_change_nothing(name):
    one, two = env_of(name, 6, threads=1), env_of(name, 6, threads=2)
    one.reset(), two.reset()
    draw = torch.Generator().manual_seed(0)
    actions = torch.rand(60, 6, one.num_actions, generator=draw) * 2 - 1
    for action in actions[:30]:
        a, b = one.step(action), two.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)
    resumed = env_of(name, 6)
    resumed.reset()
    resumed.load_state_dict(one.state_dict())
    ended = 0
    for action in actions[30:]:
        a, b = one.step(action), resumed.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)
        ended += len(a.episodes.ids)
    assert ended > 0


def test_simulations_of_two_tasks_each_have_their_own_reward():
    robot, task = get_robot("hopper"), get_skill("hopper/flat").task
    skill = get_skill("hopper/flat")
    other = replace(skill, task=replace(task, healthy_reward=3.0))
    env, alone = (BatchedEnv(skills, 4, config=CONFIG, threads=1) for skills in ([skill, other], [skill]))
    env.reset(), alone.reset()
    action = torch.zeros(4, robot.num_actions)
    a, b = env.step(action, restart=False), alone.step(action, restart=False)
    torch.testing.assert_close(a.reward - b.reward, torch.tensor([0.0, 2.0, 0.0, 2.0]), rtol=0, atol=1e-6)


def test_a_failed_simulation_is_reset_and_earns_nothing():
    env = env_of("ant", 3)
    env.reset()
    actions = torch.zeros(3, env.num_actions)
    actions[1] = torch.nan
    step = env.step(actions)
    assert step.failed.tolist() == [False, True, False]
    assert step.terminated.tolist() == [False, True, False]
    assert step.reward[1] == 0
    assert env.failures == 1
    assert torch.isfinite(step.flat).all()


PLANAR = """<mujoco><compiler angle="radian"/><option timestep="0.005"/><worldbody>
<geom type="plane" size="9 9 1" friction="0.7"/>
<body name="torso" pos="0 0 1"><joint name="x" type="slide" axis="1 0 0"/><joint name="z" type="slide" axis="0 0 1"/>
<joint name="pitch" axis="0 {axis} 0"/><geom type="capsule" size="0.1" fromto="0 0 0 0 0 0.3"/>
<body name="leg"><joint name="hip" axis="0 1 0" range="-1 1" damping="0.3"/>
<geom type="capsule" size="0.05" fromto="0 0 0 0 0 -0.9"/></body></body></worldbody>
<actuator><motor joint="hip" gear="40" {control}/></actuator></mujoco>"""
RANGE = 'ctrlrange="-0.5 1.5" ctrllimited="true"'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pole.xml").write_text(PLANAR.format(axis=1, control=RANGE))
    (tmp_path / "pole.yaml").write_text("name: pole\nmodel: pole.xml\nactuators: own\ndecimation: 4\n")
    with ROBOTS.scope():
        yield tmp_path


def test_a_planar_model_keeps_its_root_actuators_and_ground(folder):
    skill = read_skill(f"{folder}/pole.yaml/flat")
    body = skill.robot.body
    assert body.root == "planar"
    assert not skill.robot.spatial
    servo = body.servos[0]
    assert (servo.joint, servo.stand, servo.scale, servo.limits) == ("hip", 0.5, 1.0, (-0.5, 1.5))
    assert (servo.torque, servo.damping, servo.stiffness) == (60.0, 0.3, 0.0)
    assert body.friction == 0.7
    env = BatchedEnv([skill], 2, config=CONFIG, threads=1)
    env.reset()
    step = env.step(torch.tensor([[-2.0], [1.0]]))
    assert env.engine._ctrl[:, 0].tolist() == [-0.5, 1.5]
    assert step.flat.shape == (2, 3 + 4)
    assert any("planar root 1.000 m high" in line for line in check_robot(skill.robot).lines)
    record = records_of([skill])["pole/flat"]
    ROBOTS.unregister("pole")
    assert skill_from_record(record) == skill


def test_its_default_task_ends_when_it_falls(folder):
    skill = read_skill(f"{folder}/pole.yaml/flat")
    env = BatchedEnv([skill], 1, config=CONFIG, threads=1)
    env.reset()
    heights = []
    for _ in range(300):
        step = env.step(torch.zeros(1, 1), restart=False)
        heights.append(1.0 + env.engine.field("qpos")[0, 1].item())
        if step.terminated:
            break
    assert step.terminated
    assert heights[-1] < 0.6 <= min(heights[:-1])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (PLANAR.format(axis=1, control=""), ["actuator 0", "ctrlrange"]),
        (PLANAR.replace('axis="0 {axis} 0"', 'axis="1 0 0"').format(control=RANGE), ["base", "slides along x and z"]),
        (PLANAR.replace('name="x" type="slide"', 'name="shoulder"').format(axis=1, control=RANGE), ["shoulder"]),
        (PLANAR.partition("<actuator>")[0].format(axis=1) + "</mujoco>", ["no actuators"]),
    ],
)  # fmt: skip
def test_models_without_a_use_are_refused(folder, model, words):
    (folder / "pole.xml").write_text(model)
    with pytest.raises(ConfigError) as raised:
        _ = read_robot(folder / "pole.yaml").body
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name: a\nmodel: gymnasium:ant\nactuators: own\nfeet: x", ["feet"]),
        ("name: a\nmodel: gymnasium:ant\nactuators: springs", ["springs", "own"]),
        ("name: a\nmodel: gymnasium:ant\nfeet: x\nstiffness: 1\ndamping: 1", ["gymnasium:ant", "actuators: own"]),
        ("model: gymnasium:ant\nactuators: own", ["lacks name"]),
        ("name: a\nmodel: pole.xml\nactuators: own\ndecimation: 0", ["decimation", "0"]),
    ],
)
def test_tables_of_own_actuators_with_faults_are_refused(folder, table, words):
    (folder / "pole.yaml").write_text(table)
    with pytest.raises(PolicykdError) as raised:
        read_robot(folder / "pole.yaml")
    for word in words:
        assert word in str(raised.value)


def test_a_table_may_name_a_model_of_gymnasium(folder):
    (folder / "bug.yaml").write_text("name: bug\nmodel: gymnasium:ant\nactuators: own\ntask: ant-v5\n")
    robot = read_robot(folder / "bug.yaml")
    assert robot.body.sha256 == get_robot("ant").body.sha256
    (folder / "bug.yaml").write_text("name: bug\nmodel: gymnasium:bug\nactuators: own\n")
    with pytest.raises(ConfigError, match="gymnasium has no model"):
        _ = read_robot(folder / "bug.yaml").body


def test_skills_that_do_not_fit_are_refused():
    ant = get_skill("ant/flat")
    with pytest.raises(ContractError, match="ground of its own model"):
        get_skill("ant/steps")
    with pytest.raises(ContractError, match="does not fit ant"):
        get_skill("ant/flat+velocity")
    with pytest.raises(ContractError, match="does not fit quadruped"):
        Skill(get_robot("quadruped"), ant.terrain, ant.task, ("imu",))
    with pytest.raises(ContractError, match="no observation group imu"):
        replace(ant, groups=("imu",))
    with pytest.raises(ContractError, match="only device cpu"):
        BatchedEnv([ant], 2, config=CONFIG)._own_ground_engine(torch.device("cuda"), 1)


def test_ranges_of_the_task_are_checked():
    with pytest.raises(ConfigError, match="height"):
        Forward(height=(2.0, 1.0))
    with pytest.raises(ConfigError, match="control_cost"):
        Forward(control_cost=-1.0)


def test_the_scene_is_the_one_of_the_file():
    env = env_of("ant", 1)
    scene = build_scene(env.robot, env.track(0))
    assert scene.nq == len(env.robot.stand_pose)
    assert scene.camera("follow").id >= 0


def test_the_check_of_an_own_model_draws_it_without_its_ground(folder, capsys):
    table, picture = folder / "pole.yaml", folder / "pole.png"
    assert main(["robots", "check", str(table), "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "planar root" in said
    assert "hip" in said
    assert picture.stat().st_size > 1000
    assert len(standing_outlines(read_robot(table))) == 2
    assert main(["robots", "new", str(folder / "pole.xml"), "--out", str(folder / "new.yaml")]) == 2
    assert "actuators: own" in capsys.readouterr().err
