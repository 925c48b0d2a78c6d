"""What observations are made of agrees with MuJoCo's own kinematics and with plain geometry."""

import mujoco
import numpy as np
import pytest
import torch
from worlds import TERRAINS, batched, random_actions

from policykd.envs.observations import SCAN_AHEAD, SCAN_BEHIND, SCAN_POINTS
from policykd.envs.robots import get_robot

BIPED = get_robot("biped")


def visited(name, num_envs=6, steps=25, seed=0):
    """An environment on the loop engine after some random steps, spread along its track, with its MjData."""
    env = batched(name, num_envs, loop=True, groups=("proprio", "phase", "terrain"))
    env.reset()
    rng = np.random.default_rng(seed)
    for i, data in enumerate(env.engine._data):
        data.qpos[0] = rng.uniform(0, 20)
        data.qpos[1] += float(env.track(i).height(torch.tensor([[data.qpos[0]]], dtype=torch.float64)))
    for action in random_actions(steps, num_envs, scale=0.8, seed=seed):
        step = env.step(action, restart=False)
    for model, data in zip(env.engine._models, env.engine._data, strict=True):
        mujoco.mj_forward(model, data)
    return env, step


@pytest.fixture(scope="module")
def mixed():
    return visited("mixed:paper")


def test_places_and_velocities_of_the_links_equal_those_of_mujoco(mixed):
    env, _ = mixed
    state = env._backend.read_state().state
    for i, (model, data) in enumerate(zip(env.engine._models, env.engine._data, strict=True)):
        com = (state.root[i, None] + state.com[i]).numpy()
        np.testing.assert_allclose(com, data.xipos[1:, ::2], atol=1e-12)
        velocity = np.zeros((12, 6))
        for body in range(12):
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body + 1, velocity[body], 0)
        np.testing.assert_allclose(state.com_velocity[i].numpy(), velocity[:, 3::2], atol=1e-11)
        assert np.abs(velocity[:, 3::2]).max() > 0.1, "nothing moved"


def test_velocities_equal_finite_differences_of_places(mixed):
    env, _ = mixed
    state = env._backend.read_state().state
    h = 1e-6
    for i, (model, data) in enumerate(zip(env.engine._models, env.engine._data, strict=True)):
        places = []
        for side in (-h, h):
            moved = mujoco.MjData(model)
            moved.qpos[:] = data.qpos
            mujoco.mj_integratePos(model, moved.qpos, data.qvel, side)
            mujoco.mj_kinematics(model, moved)
            places.append(moved.xipos[1:, ::2].copy())
        np.testing.assert_allclose(state.com_velocity[i].numpy(), (places[1] - places[0]) / (2 * h), atol=1e-7)


def test_a_subset_of_simulations_reads_like_the_whole(mixed):
    env, _ = mixed
    whole, some = env._backend.read_state().state, env._backend.read_state(torch.tensor([1, 4])).state
    for name, value in vars(some).items():
        torch.testing.assert_close(value, getattr(whole, name)[[1, 4]], rtol=0, atol=1e-14)


def test_effort_is_the_torque_over_its_limit(mixed):
    env, _ = mixed
    effort = env._backend.read_state().state.effort
    limits = np.array([150, 125, 100, 150, 125, 100, 100, 75, 100, 75, 50])
    np.testing.assert_allclose(effort.numpy(), env.engine.field("actuator_force").numpy() / limits)
    assert effort.abs().max() <= 1.0


def ground_by_search(track, x):
    """Height of one track at x, a number or an array, by a look at all of its segments."""
    edges, left, grade = (part[0].numpy() for part in (track.edges, track.left, track.grade))
    k = np.maximum((np.asarray(x)[..., None] >= edges[:-1]).sum(-1) - 1, 0)
    return left[k] + grade[k] * (x - edges[k])


@pytest.mark.parametrize("name", TERRAINS)
def test_observation_groups_equal_a_plain_computation(name):
    env, step = visited(name, num_envs=3, steps=10, seed=1)
    assert {group: value.shape[1] for group, value in step.observations.items()} == env.skill.group_sizes
    for i, (model, data) in enumerate(zip(env.engine._models, env.engine._data, strict=True)):
        track, root = env.track(i), data.xpos[1]
        ground = ground_by_search(track, root[0])
        places, velocities = [], []
        for body in range(1, 13):
            velocity = np.zeros(6)
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, velocity, 0)
            places += [data.xipos[body, 0] - root[0], data.xipos[body, 2] - root[2]]
            velocities += [velocity[3], velocity[5]]
        proprio = np.array([root[2] - ground, *places, *velocities])
        np.testing.assert_allclose(step.observations["proprio"][i].numpy(), proprio, rtol=1e-6, atol=1e-6)
        offsets = np.linspace(SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS)
        scan = np.array([ground_by_search(track, root[0] + offset) - ground for offset in offsets])
        np.testing.assert_allclose(step.observations["terrain"][i].numpy(), scan, rtol=1e-6, atol=1e-6)


def test_the_scanner_is_that_of_the_paper():
    assert (SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS) == (-0.5, 3.0, 50)


def test_the_phase_runs_once_a_second_and_marks_its_quarter():
    env = batched("flat", 3, groups=("proprio", "phase"))
    first = env.reset()["phase"]
    later = [env.step(torch.zeros(3, 11), restart=False).observations["phase"] for _ in range(14)]
    phase = torch.stack([first, *later])
    advance = (phase[1:, :, 0] - phase[:-1, :, 0]) % 1.0
    torch.testing.assert_close(advance, torch.full_like(advance, 1 / 30), rtol=0, atol=1e-5)
    assert (phase[:, :, 0] >= 0).all()
    assert (phase[:, :, 0] < 1).all()
    assert (phase[:, :, 1:].sum(2) == 1).all()
    assert torch.equal(phase[:, :, 1:].argmax(2), (phase[:, :, 0] * 4).long())
    assert phase[0, :, 0].unique().numel() == 3, "episodes begin at different phases"


def deepest(env, i, links):
    """How deep the given links' capsules reach below the ground, from 200 points along each; m."""
    data, model, track = env.engine._data[i], env.engine._models[i], env.track(i)
    depth, t = -np.inf, np.linspace(-1, 1, 200)[:, None]
    for link in links:
        geom = model.geom(link.name)
        axis = data.geom(link.name).xmat.reshape(3, 3)[:, 2]
        x, _, z = (data.geom(link.name).xpos + t * geom.size[1] * axis).T
        depth = max(depth, (ground_by_search(track, x) - (z - geom.size[0])).max())
    return depth


@pytest.mark.parametrize("name", ["flat:paper", "steps:paper", "slopes:paper", "incline:paper"])
def test_falls_are_seen_when_a_forbidden_link_reaches_the_ground(name):
    falling = [link for link in BIPED.links if link.falls]
    assert {link.name for link in falling} == {
        "torso", "head", *(f"{side}_{part}" for side in ("left", "right") for part in ("thigh", "arm", "forearm"))
    }  # fmt: skip
    seen = []
    for seed, steps in ((0, 4), (1, 25), (2, 40)):
        env, step = visited(name, num_envs=6, steps=steps, seed=seed)
        for i in range(6):
            depth = deepest(env, i, falling)
            if depth < -1e-3:
                assert not step.terminated[i]
            elif depth > 0.03:
                assert step.terminated[i]
            seen.append(bool(step.terminated[i]))
    assert True in seen
    assert False in seen
