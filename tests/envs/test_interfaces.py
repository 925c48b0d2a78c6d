"""The gymnasium and stable-baselines3 faces keep the contracts of those libraries."""

import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from worlds import FEW, TERRAINS, batched, terrain_of

import policykd.envs
from policykd.envs import BatchedEnv, Sb3VecEnv, SkillEnv, SkillVectorEnv, get_skill
from policykd.envs.registration import environment_id
from policykd.envs.robots import get_robot, robot_names
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, UnknownNameError

ID = "policykd/Biped-v0"


def make(name="flat:paper", **options):
    terrain = terrain_of(name)
    return gymnasium.make(ID, terrain=terrain.name, preset=terrain.preset, tracks=4, **options)


def actions_of(env, steps, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity")
@pytest.mark.parametrize("name", TERRAINS)
def test_the_libraries_own_checkers_pass_on_every_skill(name):
    env = make(name).unwrapped
    check_env(env, skip_render_check=True)
    sb3_check_env(env, warn=False)


@pytest.mark.parametrize("terrain", ["stairs", "stones"])
def test_the_libraries_own_checkers_pass_on_maps(terrain):
    env = gymnasium.make(environment_id("quadruped"), terrain=terrain, tracks=4)
    assert env.unwrapped.env.skill.groups[-1] == "area"
    check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env, warn=False)


@pytest.mark.parametrize("robot", robot_names())
def test_the_id_of_every_robot_makes_its_default_skill(robot):
    skill = get_skill(f"{robot}/flat")
    env = gymnasium.make(environment_id(robot), terrain="flat")
    assert env.unwrapped.env.skill == skill
    check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env, warn=False)
    batch = gymnasium.make_vec(environment_id(robot), num_envs=2, terrain="flat")
    assert batch.single_action_space.shape == (skill.robot.num_actions,)


def test_the_id_is_registered_for_every_robot_without_heavy_imports():
    assert {spec for spec in gymnasium.registry if spec.startswith("policykd/")} == {
        environment_id(robot) for robot in robot_names()
    }
    code = (
        "import sys, gymnasium, policykd.envs; assert 'policykd/Biped-v0' in gymnasium.registry;"
        "assert not {'torch', 'mujoco', 'stable_baselines3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_is_there():
    for name in policykd.envs.__all__:
        assert getattr(policykd.envs, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'SkillEvn'"):
        _ = policykd.envs.SkillEvn


def test_options_reach_the_skill():
    env = make("steps:terrainrlsim", difficulty=0.5, groups=("terrain", "phase"), episode_steps=7).unwrapped
    assert env.env.skill == replace(
        Skill(get_robot("biped"), terrain_of("steps:terrainrlsim", 0.5)), groups=("terrain", "phase"), episode_steps=7
    )
    assert list(env.observation_space) == ["phase", "terrain"]  # gymnasium sorts a Dict's keys
    assert env.metadata["render_fps"] == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terrain": "gasp"}, "unknown terrain 'gasp'; did you mean gaps"),
        ({"preset": "papr"}, "unknown terrain preset 'papr'; did you mean paper"),
        ({"groups": ("propio",)}, "unknown observation group 'propio'; did you mean proprio"),
        ({"terrian": "gaps"}, "unknown environment option 'terrian'; did you mean terrain"),
        ({"render_mode": "rgb_aray"}, "unknown render mode 'rgb_aray'; did you mean rgb_array"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode.*")
def test_unknown_options_come_with_close_matches(options, message):
    with pytest.raises(UnknownNameError) as caught:
        gymnasium.make(ID, **options)
    assert message in str(caught.value)


def test_a_batch_draws_no_pictures():
    with pytest.raises(ConfigError, match="batches do not render"):
        gymnasium.make_vec(ID, num_envs=2, render_mode="rgb_array")


def test_one_simulation_repeats_its_episodes_for_equal_seeds():
    a, b = make("gaps:paper"), make("gaps:paper")
    runs = []
    for env in (a, b, a):
        env.reset(seed=11)
        rows = [env.unwrapped.env.track(0).edges.numpy().copy()]
        for action in actions_of(env, 90):
            observation, reward, terminated, truncated, _ = env.step(action)
            rows += [observation["proprio"], observation["terrain"], np.array(reward)]
            if terminated or truncated:  # the episodes after the first must repeat, too
                rows += list(env.reset()[0].values())
        runs.append(rows)
    for other in runs[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(runs[0], other, strict=True))
    first, _ = a.reset(seed=12)
    assert not np.array_equal(first["proprio"], b.reset(seed=11)[0]["proprio"])


def test_unseeded_simulations_differ():
    a, b = make().reset()[0], make().reset()[0]
    assert not np.array_equal(a["proprio"], b["proprio"])


def test_stepping_needs_a_running_episode():
    env = SkillEnv(get_skill("biped/flat"), config=FEW)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(11, np.float32))
    env.reset(seed=0)
    ended = False
    while not ended:
        _, reward, terminated, truncated, info = env.step(np.zeros(11, np.float32))
        ended = terminated or truncated
    assert terminated
    assert reward == 0.0
    assert set(info) == {"distance", "success", "simulation_failed"}
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(11, np.float32))
    env.reset()
    env.step(np.zeros(11, np.float32))


def test_one_simulation_walks_like_a_batch_of_one():
    single = SkillEnv(get_skill("biped/steps"), config=FEW)
    vector = SkillVectorEnv(BatchedEnv([get_skill("biped/steps")], 1, config=FEW))
    first, _ = single.reset(seed=3)
    firsts, _ = vector.reset(seed=3)
    assert all(np.array_equal(first[g], firsts[g][0]) for g in first)
    for action in actions_of(single, 200):
        observation, reward, terminated, truncated, info = single.step(action)
        observations, rewards, terminations, truncations, infos = vector.step(action[None])
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        if terminated or truncated:
            assert all(np.array_equal(observation[g], infos["final_obs"][0][g]) for g in observation)
            assert {key: infos["final_info"][key][0] for key in info} == info
            break
        assert all(np.array_equal(observation[g], observations[g][0]) for g in observation)
    else:
        pytest.fail("no episode ended")


def structure(value):
    """Keys, types, shapes and kinds of numbers of infos, without the numbers."""
    if isinstance(value, dict):
        return {key: structure(entry) for key, entry in value.items()}
    if value.dtype == object:
        return [None if entry is None else structure(entry) for entry in value]
    return value.dtype.kind, value.shape


def test_infos_of_ended_episodes_are_laid_out_like_those_of_gymnasiums_own_vector_env():
    ours = gymnasium.make_vec(ID, num_envs=3, terrain="gaps", tracks=4)
    theirs = SyncVectorEnv([lambda: make("gaps:paper") for _ in range(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert structure(ours.reset(seed=0)[0]) == structure(theirs.reset(seed=0)[0])
    for action in actions_of(ours, 100):
        mine = ours.step(action)
        if mine[4]:
            break
    ended = np.flatnonzero(mine[2] | mine[3])
    other = theirs.envs[int(ended[0])].unwrapped
    other.env.engine.field("qpos")[0, :2] = torch.tensor([500.0, 0.2])  # make the same simulation fall there
    their = theirs.step(np.zeros((3, 11), np.float32))
    if len(ended) == 1 and (their[2] | their[3]).sum() == 1:
        episode = mine[4]["final_info"].pop("episode")
        assert mine[4]["final_info"].pop("_episode").tolist() == mine[4]["_final_obs"].tolist()
        assert structure(mine[4]) == structure(their[4])
        assert set(episode) == {key for name in ("r", "l", "distance", "success") for key in (name, f"_{name}")}
    else:
        pytest.fail("choose seeds so that one episode ends on both sides")


def test_a_vector_env_restarts_in_the_same_step_and_reports_the_ended_episode():
    env = SkillVectorEnv(batched("flat", 6))
    observations, infos = env.reset(seed=5)
    assert infos == {}
    assert env.observation_space.contains(observations)
    total, length, ends = np.zeros(6), np.zeros(6, int), 0
    for action in actions_of(env, 120):
        before = {group: value.copy() for group, value in observations.items()}
        kept = observations
        observations, rewards, terminated, truncated, infos = env.step(action)
        assert all(np.array_equal(kept[g], before[g]) for g in before), "a step wrote into arrays given out before"
        assert env.observation_space.contains(observations)
        assert rewards.dtype == np.float32
        total, length = total + rewards, length + 1
        done = terminated | truncated
        if not done.any():
            assert infos == {}
            continue
        assert np.array_equal(infos["_final_obs"], done)
        assert np.array_equal(infos["_final_info"], done)
        final = infos["final_info"]
        for i in range(6):
            if not done[i]:
                assert infos["final_obs"][i] is None
                continue
            assert env.single_observation_space.contains(infos["final_obs"][i])
            assert not np.array_equal(infos["final_obs"][i]["proprio"], observations["proprio"][i])
            assert final["episode"]["r"][i] == pytest.approx(total[i], abs=1e-4)
            assert final["episode"]["l"][i] == length[i]
            assert not final["simulation_failed"][i]
        total[done], length[done], ends = 0.0, 0, ends + done.sum()
    assert ends > 6


def test_a_failed_simulation_is_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = SkillVectorEnv(batched("flat", 3))
    env.reset(seed=0)
    env.env.engine.field("qpos")[1, 4] = torch.nan
    _, _, terminated, _, infos = env.step(np.zeros((3, 11), np.float32))
    assert terminated.tolist() == [False, True, False]
    assert infos["final_info"]["simulation_failed"].tolist() == [False, True, False]


def test_a_vector_env_is_reproducible_and_staggers():
    a, b = (SkillVectorEnv(batched("flat", 16)) for _ in range(2))
    first, again = (env.reset(seed=2, options={"stagger": True})[0] for env in (a, b))
    assert np.array_equal(first["proprio"], again["proprio"])
    assert len(set(a.env._backend.elapsed.tolist())) > 8
    a.reset()
    assert set(a.env._backend.elapsed.tolist()) == {0}


def test_gymnasiums_statistics_wrappers_fit_both_faces():
    from gymnasium.wrappers import RecordEpisodeStatistics
    from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVector

    single = RecordEpisodeStatistics(make())
    single.reset(seed=0)
    for action in actions_of(single, 300):
        *_, terminated, truncated, info = single.step(action)
        if terminated or truncated:
            break
    assert info["episode"]["l"] > 1
    vector = RecordVector(gymnasium.make_vec(ID, num_envs=2, tracks=4))
    vector.reset(seed=0)
    for action in actions_of(vector, 300):
        infos = vector.step(action)[4]
        if infos:
            break
    i = int(np.flatnonzero(infos["_episode"])[0])
    assert infos["episode"]["r"][i] == pytest.approx(infos["final_info"]["episode"]["r"][i], rel=1e-5)


def test_the_stable_baselines_face_reports_ended_episodes():
    env = Sb3VecEnv(batched("gaps:paper", 6), reward_scale=0.02)
    plain = SkillVectorEnv(batched("gaps:paper", 6))
    env.seed(4)
    plain.env.seed(4)
    flat = env.reset()
    groups = {name: value.numpy() for name, value in plain.env.reset().items()}
    assert np.array_equal(flat, np.concatenate(list(groups.values()), axis=1))
    ends = 0
    for action in actions_of(plain, 80):
        flat, rewards, dones, infos = env.step(action)
        groups, unscaled, terminated, truncated, theirs = plain.step(action)
        assert np.array_equal(flat, np.concatenate(list(groups.values()), axis=1))
        assert rewards == pytest.approx(unscaled * 0.02)
        assert np.array_equal(dones, terminated | truncated)
        for i in np.flatnonzero(dones):
            last = np.concatenate(list(theirs["final_obs"][i].values()))
            assert np.array_equal(infos[i]["terminal_observation"], last)
            assert infos[i]["TimeLimit.truncated"] == truncated[i]
            assert infos[i]["episode"]["r"] == pytest.approx(theirs["final_info"]["episode"]["r"][i])
            ends += 1
        assert all(info == {} for info, done in zip(infos, dones, strict=True) if not done)
    assert ends > 0


@pytest.mark.parametrize("robot", robot_names())
def test_the_number_of_threads_changes_no_digit(robot):
    skill = get_skill(f"{robot}/{'slopes' if get_robot(robot).terrains is None else 'flat'}")
    one, two = (BatchedEnv([skill], 6, config=FEW, threads=threads) for threads in (1, 2))
    one.reset(), two.reset()
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        action = torch.randn(6, one.num_actions, generator=draw)
        a, b = one.step(action), two.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)
    for name in ("qpos", "qvel"):
        assert torch.equal(one.engine.field(name), two.engine.field(name))
