"""Rewards, ends, restarts and mixtures of skills."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds import FEW, batched, random_actions

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.physics import LoopEngine
from policykd.envs.robots import get_robot
from policykd.envs.skills import Skill, get_skill, skill_ids
from policykd.envs.tasks import Walk
from policykd.envs.terrains import Terrain
from policykd.errors import ConfigError, ContractError, UnknownNameError


def test_the_reward_equals_its_formula_and_vanishes_at_a_fall():
    walk = Walk(speed=1.2, speed_weight=0.5, upright_weight=0.3, effort_weight=0.2)
    env = BatchedEnv([replace(get_skill("biped/flat"), task=walk)], 16, config=FEW, make_engine=LoopEngine)
    env.reset()
    share = np.array([link.mass for link in env.robot.links])
    share = share / share.sum()
    limits = np.array([link.torque for link in env.robot.joints])
    fallen = 0
    for action in random_actions(60, 16, scale=0.6):
        step = env.step(action, restart=False)
        for i, data in enumerate(env.engine._data):
            velocity = step.observations["proprio"][i, 25:].numpy().reshape(12, 2)[:, 0] @ share
            effort = np.mean((data.actuator_force / limits) ** 2)
            expected = (
                0.5 * np.exp(-((velocity - 1.2) ** 2))
                + 0.3 * np.exp(-((data.qpos[2] / 0.5) ** 2))
                + 0.2 * np.exp(-effort / 0.25)
            )
            if step.terminated[i]:
                expected, fallen = 0.0, fallen + 1
            assert float(step.reward[i]) == pytest.approx(expected, abs=1e-5)
        assert ((step.reward >= 0) & (step.reward <= 1)).all()
    assert fallen > 0


def test_the_reward_is_one_for_perfect_walking():
    env = batched("flat", 1)
    env.reset()
    now = env._backend._situation(env._backend.read_state())
    state = now.state
    state.com_velocity = torch.zeros_like(state.com_velocity) + torch.tensor([1.54, 0.0])
    state.pitch, state.effort = torch.zeros(1), torch.zeros(1, 11)
    assert float(Walk().reward(now)) == pytest.approx(1.0)
    state.com_velocity[:, :, 0] = 0.54
    weight = Walk().speed_weight
    assert float(Walk().reward(now)) == pytest.approx(1 - weight + weight / np.e)


def standing(steps, **options):
    """Episodes of few steps: a standing robot does not fall within them."""
    skill = replace(get_skill("biped/flat"), episode_steps=steps)
    return BatchedEnv([skill], 5, config=replace(FEW, speed_noise=0.0), **options)


def test_an_episode_out_of_steps_is_truncated_not_terminated():
    env = standing(6)
    env.reset()
    for k in range(1, 13):
        step = env.step(torch.zeros(5, 11))
        assert not step.terminated.any()
        assert step.truncated.tolist() == [k % 6 == 0] * 5
        assert step.episodes.ids.tolist() == ([0, 1, 2, 3, 4] if k % 6 == 0 else [])
        if k % 6 == 0:
            assert step.episodes.length.tolist() == [6] * 5


def test_a_fall_in_the_last_step_is_a_fall():
    env = standing(3)
    env.reset()
    env.step(torch.zeros(5, 11))
    env.step(torch.zeros(5, 11))
    env.engine.field("qpos")[1, :2] = torch.tensor([500.0, 0.2])  # behind the track's end no box holds it
    step = env.step(torch.zeros(5, 11))
    assert step.terminated.tolist() == [False, True, False, False, False]
    assert step.truncated.tolist() == [True, False, True, True, True]
    assert float(step.reward[1]) == 0
    assert not step.episodes.success.any()


def test_the_final_observation_is_the_last_state_and_the_next_one_is_new():
    going, waiting = (batched("steps:paper", 6) for _ in range(2))
    going.reset()
    waiting.reset()
    for action in random_actions(80, 6, scale=0.5):
        mine, same = going.step(action), waiting.step(action, restart=False)
        if len(mine.episodes.ids):
            break
    ids = mine.episodes.ids
    for group, value in mine.final_observations.items():
        assert torch.equal(value, same.observations[group][ids])
        assert not torch.equal(mine.observations[group][ids], same.observations[group][ids]) or group == "terrain"
    running = ~(mine.terminated | mine.truncated)
    for group, value in mine.observations.items():
        assert torch.equal(value[running], same.observations[group][running])
    height = mine.observations["proprio"][ids, 0]
    assert (height > 0.7).all(), "a new episode begins standing"


def test_statistics_add_up():
    env = batched("flat", 8)
    env.reset()
    total, length, seen = torch.zeros(8, dtype=torch.float64), torch.zeros(8), 0
    for action in random_actions(120, 8, scale=0.5):
        x = env.engine.field("qpos")[:, 0].clone()
        step = env.step(action)
        total += step.reward.double()
        length += 1
        ids = step.episodes.ids
        torch.testing.assert_close(step.episodes.total_reward, total[ids], rtol=0, atol=1e-4)
        assert step.episodes.length.tolist() == length[ids].tolist()
        assert ((step.episodes.distance - x[ids]).abs() < 0.5).all()
        total[ids], length[ids], seen = 0.0, 0.0, seen + len(ids)
    assert seen > 8


def test_success_needs_the_whole_episode_and_half_of_the_commanded_distance():
    env = standing(4)
    need = env.skill.task.least_distance(env.skill.seconds)
    assert need == pytest.approx(0.5 * 1.54 * 4 / 30)
    env.reset()
    for _ in range(3):
        env.step(torch.zeros(5, 11))
    env.engine.field("qpos")[0, 0] += need + 0.05
    env.engine.field("qpos")[1, 0] += need - 0.05
    env.engine.field("qpos")[2, :2] = torch.tensor([500.0, 0.2])  # far, but falling
    assert env.step(torch.zeros(5, 11)).episodes.success.tolist() == [True, False, False, False, False]


def test_equal_seeds_give_equal_episodes():
    a, b, c = (batched("gaps:paper", 5, seed=s) for s in (1, 1, 2))
    first = [env.reset() for env in (a, b, c)]
    assert all(torch.equal(first[0][g], first[1][g]) for g in first[0])
    assert not torch.equal(first[0]["proprio"], first[2]["proprio"])
    a.seed(9)
    b.seed(9)
    again = [env.reset() for env in (a, b)]
    assert torch.equal(again[0]["proprio"], again[1]["proprio"])
    assert not torch.equal(again[0]["proprio"], first[0]["proprio"])


def test_staggered_episodes_end_at_different_times():
    skill = replace(get_skill("biped/flat"), episode_steps=12)
    env = BatchedEnv([skill], 40, config=replace(FEW, speed_noise=0.0))
    env.reset(stagger=True)
    ends = [len(env.step(torch.zeros(40, 11)).episodes.ids) for _ in range(12)]
    assert sum(ends) == 40
    assert sum(end > 0 for end in ends) >= 8


def test_ordered_tracks_stay_with_their_simulation():
    env = batched("gaps:paper", 6, config=EnvConfig(tracks=3, ordered=True))
    env.reset()
    tracks = [env.track(i).edges for i in range(6)]
    assert torch.equal(tracks[0], tracks[3])
    assert not torch.equal(tracks[0], tracks[1])
    env.reset()
    assert all(torch.equal(env.track(i).edges, tracks[i]) for i in range(6))


def test_skills_share_an_environment_each_on_its_own_ground():
    skills = [get_skill(f"biped/{name}") for name in ("flat", "gaps", "slopes")]
    env = BatchedEnv(skills, 7, config=FEW)
    assert env.skill_index.tolist() == [0, 1, 2, 0, 1, 2, 0]
    env.reset()
    x = torch.linspace(1.5, 40, 500, dtype=torch.float64).expand(7, -1)
    for action in random_actions(50, 7, scale=0.5):
        env.step(action)
    height = env.ground_height(x)
    for i, name in enumerate(["flat", "gaps", "slopes"] * 2 + ["flat"]):
        values = set(height[i].tolist())
        assert (name == "flat") == (values == {0.0})
        assert (name == "gaps") == (height[i].min() < -0.8 and 0.0 in values)
        assert (name == "slopes") == (len(values) > 100)


def test_skills_that_differ_in_more_than_ground_are_refused():
    flat, blind = get_skill("biped/flat"), get_skill("biped/gaps", groups=("proprio",))
    with pytest.raises(ContractError, match="share their groups: biped/flat has"):
        BatchedEnv([flat, blind], 4)
    with pytest.raises(ConfigError, match="no skill"):
        BatchedEnv([], 4)
    with pytest.raises(ConfigError, match="num_envs is 0"):
        BatchedEnv([flat], 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_skill("biped/gasp"), "unknown skill 'biped/gasp'; did you mean biped/gaps"),
        (lambda: get_skill("bipde/gaps"), "unknown skill 'bipde/gaps'; did you mean biped/gaps"),
        (lambda: get_skill("biped/gaps:papr"), "unknown terrain preset 'papr'; did you mean paper"),
        (lambda: get_skill("biped/gaps", groups=("propio",)), "observation group 'propio'; did you mean proprio"),
        (lambda: Terrain("stpes"), "unknown terrain 'stpes'; did you mean steps"),
        (lambda: Terrain("steps", "terrainrlsm"), "preset 'terrainrlsm'; did you mean terrainrlsim"),
        (lambda: Skill(get_robot("bipd"), Terrain("flat")), "unknown robot 'bipd'; did you mean biped"),
    ],
)
def test_unknown_names_come_with_close_matches(make, message):
    with pytest.raises(UnknownNameError) as caught:
        make()
    assert message in str(caught.value)


def test_the_valid_skills_are_those_of_the_robot_that_was_meant():
    with pytest.raises(UnknownNameError) as caught:
        get_skill("biped/gasp")
    assert "biped/flat" in caught.value.choices
    assert all(choice.startswith("biped/") for choice in caught.value.choices)


@pytest.mark.parametrize(
    "make",
    [
        lambda: get_skill("biped/gaps@1.5"),
        lambda: get_skill("biped/gaps@much"),
        lambda: get_skill("biped/gaps@nan"),
        lambda: get_skill("biped/gaps", groups=()),
        lambda: get_skill("biped/gaps", groups=("terrain", "terrain")),
        lambda: replace(get_skill("biped/gaps"), episode_steps=0),
        lambda: EnvConfig(tracks=0),
        lambda: EnvConfig(joint_noise=-0.1),
        lambda: EnvConfig(speed_noise=float("nan")),
        lambda: Walk(speed_weight=0.5),
        lambda: Walk(speed_width=0.0),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("skill_id", [*skill_ids(), "biped/gaps:terrainrlsim@0.5", "biped/walls@0.25"])
def test_ids_name_their_skill(skill_id):
    assert get_skill(skill_id).id == skill_id
