"""Robots in space: the compiled backend against torch, state against MuJoCo, ground, mirror image, failure paths."""

import mujoco
import numpy as np
import pytest
import torch

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.observations import get_group
from policykd.envs.physics import LoopEngine
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.skills import get_skill
from policykd.envs.spatial_state import SpatialReader
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.symmetry import mirror_symmetry
from policykd.envs.tasks.velocity_terms import TERMS, Motion, evaluate_terms, sum_terms
from policykd.errors import ContractError

ROBOT = get_robot("quadruped")
CONFIG = EnvConfig(tracks=8)


class TorchEnv(BatchedEnv):
    """The environment with the backend in torch."""

    def _make_backend(self, tracks, tasks):
        fixed = self.config.ordered
        return SpatialTorchBackend(self.engine, self.skill, tracks, self._boxes, tasks, fixed_commands=fixed)


IN_SPACE = [robot.name for robot in ROBOTS.values() if robot.family == "space"]


def actions_of(steps, n, seed=0, robot=ROBOT):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(steps, n, robot.num_actions, generator=draw) * 0.4


@pytest.mark.parametrize("terrain", ["flat", "slopes", "gaps", "steps:hard", "slopes+bound", "flat+creep"])
def test_compiled_loops_equal_torch(terrain):
    skills = [get_skill(f"quadruped/{terrain}")]
    mine, oracle = (kind(skills, 6, seed=3, config=CONFIG, threads=1) for kind in (BatchedEnv, TorchEnv))
    first, other = mine.reset(), oracle.reset()
    for name, part in first.items():
        torch.testing.assert_close(part, other[name], rtol=0, atol=1e-6)
    ended = 0
    for action in actions_of(60, 6):
        a, b = mine.step(action), oracle.step(action)
        torch.testing.assert_close(a.flat, b.flat, rtol=0, atol=2e-5)
        torch.testing.assert_close(a.reward, b.reward, rtol=0, atol=1e-6)
        assert torch.equal(a.terminated, b.terminated)
        assert torch.equal(a.episodes.ids, b.episodes.ids)
        torch.testing.assert_close(a.episodes.total_reward, b.episodes.total_reward)
        torch.testing.assert_close(a.episodes.distance, b.episodes.distance)
        ended += len(a.episodes.ids)
    assert ended > 0


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_the_same_compiled_and_in_torch(name):
    """One term at a time, so that a wrong order in the compiled sum is seen."""
    draw = torch.Generator().manual_seed(0)
    wide = {"effort": 4, "joint_velocity": 4, "posture": 4, "target_change": 4, "air_time": 2, "landed": 2}
    wide |= {"contact": 3, "stance": 3}
    fields = [torch.randn(8, *([wide[f]] if f in wide else []), generator=draw).double() for f in Motion._fields]
    fields[Motion._fields.index("contact")][:6] = fields[Motion._fields.index("stance")][:6]
    weight, width = np.zeros(len(TERMS)), np.ones(len(TERMS))
    weight[list(TERMS).index(name)], width[list(TERMS).index(name)] = 1.5, 0.7
    whole = sum_terms(Motion(*fields), {name: (1.5, 0.7)})
    for i, value in enumerate(whole.tolist()):
        one = Motion(*(f[i].numpy() if f.ndim > 1 else float(f[i]) for f in fields))
        assert evaluate_terms(one, width, weight) == pytest.approx(value, rel=1e-12)


def test_state_equals_mujocos_own_frames():
    env = BatchedEnv([get_skill("quadruped/flat")], 3, config=CONFIG, threads=1, make_engine=LoopEngine)
    env.reset()
    for action in actions_of(10, 3):
        env.step(action, restart=False)
    state = SpatialReader(env.engine, ROBOT, env._boxes).read()
    for i, (model, data) in enumerate(zip(env.engine._models, env.engine._data, strict=True)):
        mujoco.mj_forward(model, data)
        turn = data.body("trunk").xmat.reshape(3, 3)
        velocity = np.zeros(6)
        trunk = model.body("trunk").id
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, trunk, velocity, 1)
        np.testing.assert_allclose(state.angular_velocity[i], velocity[:3], atol=1e-9)
        np.testing.assert_allclose(state.linear_velocity[i], velocity[3:], atol=1e-9)
        np.testing.assert_allclose(state.gravity[i], turn.T @ [0, 0, -1], atol=1e-12)
        np.testing.assert_allclose(state.heading[i], np.arctan2(turn[1, 0], turn[0, 0]), atol=1e-12)
        forward = np.array([np.cos(state.heading[i]), np.sin(state.heading[i]), 0])
        np.testing.assert_allclose(state.velocity[i, 0], data.qvel[:3] @ forward, atol=1e-12)
        points = data.body("trunk").xpos + ROBOT.body.fall_points @ turn.T
        np.testing.assert_allclose(state.fall_points[i], points, atol=1e-12)


@pytest.mark.parametrize(("name", "steps"), [(n, 100 if n.startswith("quadruped") else 15) for n in IN_SPACE])
def test_the_standing_pose_touches_the_ground_and_stands(name, steps):
    """Four legs stand for two seconds without a policy, two legs for a third of one."""
    env = BatchedEnv([get_skill(f"{name}/flat")], 1, config=EnvConfig(tracks=1, joint_noise=0, speed_noise=0))
    env.reset()
    for _ in range(steps):
        step = env.step(torch.zeros(1, env.num_actions))
        assert not step.terminated.any()
    height, standing = env.engine.field("qpos")[0, 2].item(), env.robot.stand_pose[2]
    assert height == pytest.approx(standing, abs=0.05)  # the servos give way a little under its weight


def reflected(body, qpos, qvel):
    """Reflect states in space at the plane y = 0."""
    sign = torch.as_tensor(body.mirror_sign.copy())
    order = torch.as_tensor(body.mirrored.copy())
    place = qpos[:, :3] * torch.tensor([1.0, -1.0, 1.0])
    turn = qpos[:, 3:7] * torch.tensor([1.0, -1.0, 1.0, -1.0])
    speed = qvel[:, :6] * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    return (
        torch.cat([place, turn, qpos[:, 7:][:, order] * sign], 1).contiguous(),
        torch.cat([speed, qvel[:, 6:][:, order] * sign], 1).contiguous(),
    )


@pytest.mark.parametrize("name", IN_SPACE)
def test_observation_reward_and_motion_are_mirrored(name):
    skill = get_skill(f"{name}/steps")
    body = skill.robot.body
    symmetry = mirror_symmetry(skill.groups, skill.robot)
    features, signs = list(symmetry.features), torch.tensor(symmetry.feature_signs)
    swap, turn = list(symmetry.actions), torch.tensor(symmetry.action_signs)
    env, image = (BatchedEnv([skill], 4, seed=1, config=CONFIG, threads=1) for _ in range(2))
    env.reset(), image.reset()
    image._backend._command.copy_(env._backend._command * torch.tensor([1.0, -1.0, -1.0]))
    everything = torch.arange(4)
    qpos, qvel = (env.engine.field(name).clone() for name in ("qpos", "qvel"))
    qpos[:, 1] += 0.05
    env.engine.reset(everything, qpos, qvel)
    image.engine.reset(everything, *reflected(body, qpos, qvel))
    for action in actions_of(8, 4, robot=skill.robot):
        a, b = env.step(action, restart=False), image.step(action[:, swap] * turn, restart=False)
        torch.testing.assert_close(a.flat[:, features] * signs, b.flat, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.reward, b.reward, rtol=0, atol=1e-6)
    mine = reflected(body, env.engine.field("qpos"), env.engine.field("qvel"))
    torch.testing.assert_close(mine[0], image.engine.field("qpos"), rtol=0, atol=1e-9)
    assert len(set(symmetry.feature_signs)) == 2


@pytest.mark.parametrize("name", IN_SPACE)
def test_observation_and_reward_are_mirrored_to_the_last_digits(name):
    """Without a step between, so that only the formulas count: in float64, after the same few steps."""
    skill = get_skill(f"{name}/slopes")
    symmetry = mirror_symmetry(skill.groups, skill.robot)
    env, image = (TorchEnv([skill], 4, seed=1, config=CONFIG, threads=1) for _ in range(2))
    env.reset(), image.reset()
    sign = torch.tensor(symmetry.action_signs, dtype=torch.float64)
    for action in actions_of(3, 4, robot=skill.robot).double():
        env.step(action, restart=False)
    mine, theirs = env._backend, image._backend
    everything = torch.arange(4)
    body, engine = skill.robot.body, image.engine
    engine.reset(everything, *reflected(body, *(env.engine.field(name).clone() for name in ("qpos", "qvel"))))
    env.engine.reset(everything, env.engine.field("qpos").clone(), env.engine.field("qvel").clone())
    for memory in ("_last_action", "_target_change"):
        getattr(theirs, memory).copy_(getattr(mine, memory)[:, list(symmetry.actions)] * sign)
    theirs._command.copy_(mine._command * torch.tensor([1.0, -1.0, -1.0]))
    found = []
    for backend in (mine, theirs):
        view = backend.read_state()
        view.state.effort = torch.zeros_like(view.state.effort)  # a reset leaves the torques of the step before
        view.state.feet = torch.full_like(view.state.feet, 9.0)  # and the places of the feet
        around = backend._around(view, backend.clock)
        observed = torch.cat([group.compute(view.state, around) for group in backend._groups], dim=1)
        found.append((observed, *backend._assess_step(view)))
    features, signs = list(symmetry.features), torch.tensor(symmetry.feature_signs, dtype=torch.float64)
    torch.testing.assert_close(found[0][0][:, features] * signs, found[1][0], rtol=0, atol=1e-9)
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("terrain", ["gaps", "slopes", "steps:hard", "incline"])
def test_ground_boxes_equal_the_height_function(terrain):
    """A ray from above meets the boxes under the robot where the height function says, off the middle, too."""
    env = BatchedEnv([get_skill(f"quadruped/{terrain}")], 2, config=CONFIG, threads=1, make_engine=LoopEngine)
    env.reset()
    model, data = env.engine._models[0], env.engine._data[0]
    mujoco.mj_kinematics(model, data)
    reach, group = env.robot.reach, np.ones(6, np.uint8)
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(-reach, reach, 300), rng.uniform(-reach, reach, 300)], axis=1)
    heights = env.ground_height(torch.from_numpy(places[:, 0]).repeat(2, 1))[0]
    for (x, y), height in zip(places, heights.tolist(), strict=True):
        geom, top = np.zeros(1, np.int32), 5.0
        while True:  # pass through the robot
            distance = mujoco.mj_ray(model, data, [x, y, top], [0, 0, -1.0], group, 1, -1, geom)
            if geom[0] < env._boxes:
                break
            top -= distance + 1e-6
        assert top - distance == pytest.approx(height, abs=1e-6)


def test_threads_do_not_change_trajectories():
    envs = [BatchedEnv([get_skill("quadruped/slopes")], 5, config=CONFIG, threads=k) for k in (1, 2)]
    for env in envs:
        env.reset()
    for action in actions_of(40, 5):
        a, b = (env.step(action) for env in envs)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)


def test_state_dict_continues_bit_for_bit():
    env, other = (BatchedEnv([get_skill("quadruped/gaps")], 4, config=CONFIG, threads=1) for _ in range(2))
    env.reset(stagger=True)
    actions = actions_of(40, 4)
    for action in actions[:20]:
        env.step(action)
    other.load_state_dict(env.state_dict())
    for action in actions[20:]:
        a, b = env.step(action), other.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)


def test_evaluations_command_the_tasks_own_speed_and_training_draws_it():
    skill = get_skill("quadruped/flat")
    fixed = BatchedEnv([skill], 64, config=EnvConfig(tracks=64, ordered=True)).reset()["command"]
    drawn = BatchedEnv([skill], 64, config=CONFIG).reset()["command"]
    assert torch.equal(fixed[:, 0], torch.ones(64))
    assert drawn[:, 0].min() >= 0.4
    assert drawn[:, 0].max() <= 1.2
    assert drawn[:, 0].std() > 0.1


@pytest.mark.parametrize(
    ("skill", "groups", "words"),
    [
        ("quadruped/flat+walk", None, ["walk", "quadruped", "velocity"]),
        ("biped/flat+velocity", None, ["velocity", "biped", "walk"]),
        ("quadruped/flat", ("proprio",), ["quadruped", "proprio", "imu"]),
        ("biped/flat", ("imu",), ["biped", "imu", "proprio"]),
    ],
)
def test_tasks_and_groups_of_other_robots_are_refused(skill, groups, words):
    with pytest.raises(ContractError) as raised:
        get_skill(skill, groups)
    for word in words:
        assert word in str(raised.value)


def test_a_replaced_group_is_computed_in_torch(monkeypatch):
    from dataclasses import replace

    from policykd.envs.observations import GROUPS

    doubled = replace(
        get_group("imu"), compute=lambda state, around: 2 * torch.cat([state.angular_velocity, state.gravity], 1)
    )
    plain = BatchedEnv([get_skill("quadruped/flat")], 2, config=CONFIG, threads=1).reset()["imu"]
    monkeypatch.setitem(GROUPS._entries, "imu", doubled)
    env = BatchedEnv([get_skill("quadruped/flat")], 2, config=CONFIG, threads=1)
    torch.testing.assert_close(env.reset()["imu"], 2 * plain)
