"""Both CPU engines do the same physics, at any number of threads, and keep failures to themselves."""

import pytest
import torch
from worlds import TERRAINS, assert_same, batched, random_actions

from policykd.errors import ConfigError


@pytest.fixture(autouse=True)
def _mujoco_log_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file in the working directory


def centers(env):
    return torch.from_numpy(env._backend._centers.copy())


@pytest.mark.parametrize("name", TERRAINS)
def test_batch_engine_equals_the_loop_of_single_simulations(name):
    batch, loop = batched(name, threads=2), batched(name, loop=True)
    first, oracle = batch.reset(), loop.reset()
    assert all(torch.equal(first[group], oracle[group]) for group in first)
    ended = 0
    moves = 0
    for action in random_actions(120, 4, scale=0.5):
        before = centers(batch)
        mine, theirs = batch.step(action), loop.step(action)
        assert_same(mine, theirs)
        running = ~(mine.terminated | mine.truncated)
        forces = [env.engine.field("actuator_force")[running] for env in (batch, loop)]
        assert torch.equal(*forces)
        ended += len(mine.episodes.ids)
        moves += int((before != centers(batch))[running].sum())
    assert ended > 0, "no episode ended, so resets were not compared"
    assert moves > 0, "no window moved, so ground changes were not compared"


@pytest.mark.parametrize("name", ["flat:paper", "mixed:paper", "slopes:terrainrlsim"])
def test_threads_do_not_change_a_bit(name):
    one, two = batched(name, 33, threads=1), batched(name, 33, threads=2)
    one.reset(stagger=True)
    two.reset(stagger=True)
    for action in random_actions(60, 33, scale=0.5):
        assert_same(one.step(action), two.step(action))


def test_threads_must_be_positive():
    with pytest.raises(ConfigError, match="threads is 0"):
        batched(threads=0)


def _spoil_position(env, i):
    env.engine.field("qpos")[i, 5] = torch.nan


def _spoil_velocity(env, i):
    env.engine.field("qvel")[i, 1] = torch.inf


@pytest.mark.parametrize("spoil", [_spoil_position, _spoil_velocity])
def test_a_nan_resets_its_own_simulation_only(spoil):
    spoilt, calm = batched("steps:paper", 6, threads=2), batched("steps:paper", 6, threads=2)
    spoilt.reset()
    calm.reset()
    others = torch.tensor([0, 1, 3, 4, 5])
    actions = torch.zeros(12, 6, 11)
    for k, action in enumerate(actions):
        if k == 5:
            spoil(spoilt, 2)
        mine, theirs = spoilt.step(action), calm.step(action)
        for group in mine.observations:
            assert torch.equal(mine.observations[group][others], theirs.observations[group][others])
        assert torch.equal(mine.reward[others], theirs.reward[others])
        expected = [False] * 6 if k != 5 else [i == 2 for i in range(6)]
        assert mine.failed.tolist() == expected
        assert not theirs.failed.any()
        if k == 5:
            assert mine.terminated.tolist() == expected
            assert mine.reward[2] == 0
            assert mine.episodes.ids.tolist() == [2]
            assert all(value.isfinite().all() for value in mine.final_observations.values())
        assert all(value.isfinite().all() for value in mine.observations.values())
    assert (spoilt.failures, calm.failures) == (1, 0)


def test_failing_again_and_again_is_noticed_every_time():
    env = batched("flat", 2)
    env.reset()
    for _ in range(3):
        _spoil_position(env, 1)
        assert env.step(torch.zeros(2, 11)).failed.tolist() == [False, True]
        assert not env.step(torch.zeros(2, 11)).failed.any()
    assert env.failures == 3


@pytest.mark.parametrize("loop", [False, True])
def test_an_action_that_is_not_a_number_fails_its_simulation(loop):
    env = batched("flat", 3, loop=loop)
    env.reset()
    actions = torch.zeros(3, 11)
    actions[1, 4] = torch.nan
    step = env.step(actions)
    assert step.failed.tolist() == [False, True, False]
    assert step.terminated.tolist() == [False, True, False]
    assert not env.step(torch.zeros(3, 11)).failed.any()
