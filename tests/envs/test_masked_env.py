"""Steps by masks do what steps by numbers do."""

from dataclasses import replace

import pytest
import torch
from worlds import FEW, random_actions

from policykd.envs import batched_env
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics.by_ids import ByIds, mask_engine
from policykd.envs.skills import get_skill
from policykd.envs.stepping import TorchBackend
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.terrains.tracks import graded_rows
from policykd.errors import ConfigError, ContractError

GAITS = ["flat+backwards", "flat+crouch", "flat+hop", "flat+run"]
CALM = EnvConfig(tracks=16, ordered=True, joint_noise=0.0, speed_noise=0.0)  # all episodes of a simulation begin alike
SIMS = 24


def alike(take):
    """Episodes that begin alike: with the gait's clock at 0, and in space with the heading along the track."""

    def taken(*arguments):
        draw = take(*arguments)
        qpos = draw.qpos.clone()
        if qpos.shape[1] > 14:
            qpos[:, 3], qpos[:, 4:7] = 1.0, 0.0
        return draw._replace(clock=torch.zeros_like(draw.clock), qpos=qpos)

    return taken


@pytest.mark.parametrize("names", [["steps"], ["gaps"], ["steps+imitate"], ["flat", "incline"], GAITS],
                         ids=lambda names: "-".join(names))  # fmt: skip
def test_masks_and_numbers_go_the_same_way(monkeypatch, names):
    groups = ("proprio", "phase", "command")
    skills = [replace(get_skill(f"biped/{name}", groups), episode_steps=23) for name in names]
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    same_way(monkeypatch, skills)


IN_SPACE = [
    ["quadruped/gaps"],
    ["quadruped/flat", "quadruped/flat+reverse"],
    ["quadruped/stairs"],
    ["quadruped/barriers"],
]


@pytest.mark.parametrize("names", IN_SPACE, ids=lambda names: "-".join(names).replace("/", "_"))
def test_masks_and_numbers_go_the_same_way_in_space(monkeypatch, names):
    groups = ("imu", "base_velocity", "joints", "last_action", "command")
    skills = [replace(get_skill(name, groups), episode_steps=23) for name in names]
    monkeypatch.setattr(batched_env, "make_backend", SpatialTorchBackend)
    same_way(monkeypatch, skills)


def same_way(monkeypatch, skills):
    numbers = BatchedEnv(skills, SIMS, config=CALM, threads=1)
    masks = MaskedEnv(skills, SIMS, config=CALM, threads=1)
    for env in (numbers, masks):  # the gait's clock is all that they draw apart
        monkeypatch.setattr(env._starts, "take", alike(env._starts.take))
    masks.draw_starts()
    first, same = numbers.reset(), masks.reset()
    assert all(torch.equal(first[group], same[group]) for group in first)
    ends = {"terminated": 0, "truncated": 0}
    scale = 3.0 if numbers.robot.spatial else 0.6
    for action in random_actions(60, SIMS, scale=scale, actions=numbers.num_actions):
        theirs, mine = numbers.step(action), masks.step_masked(action)
        ids, outcome = theirs.episodes.ids, mine.outcome
        assert torch.equal(mine.ended.nonzero().squeeze(1), ids)
        assert torch.equal(mine.flat, theirs.flat)
        assert torch.equal(mine.final_flat[ids], theirs.final_flat)
        for name in ("reward", "terminated", "truncated"):
            assert torch.equal(getattr(outcome, name), getattr(theirs, name)), name
        for name in ("total_reward", "length", "distance", "success"):
            assert torch.equal(getattr(outcome, name)[ids], getattr(theirs.episodes, name)), name
        for name in ends:
            ends[name] += int(getattr(outcome, name).sum())
    assert min(ends.values()) > 0, "falls and ends of time were not both compared"


def test_final_observations_of_running_episodes_are_the_next_ones():
    env = MaskedEnv([get_skill("biped/flat")], SIMS, config=FEW, threads=1)
    env.reset()
    ended = 0
    for action in random_actions(30, SIMS):
        step = env.step_masked(action)
        running = ~step.ended
        assert torch.equal(step.flat[running], step.final_flat[running])
        assert not (step.flat[step.ended] == step.final_flat[step.ended]).all(dim=1).any()
        ended += int(step.ended.sum())
    assert ended > 0


def test_new_episodes_come_from_the_pool_and_follow_the_level():
    config = EnvConfig(tracks=32, graded=True)
    env = MaskedEnv([get_skill("biped/steps")], SIMS, config=config, starts=50, threads=1)
    env.level, hard = 0.5, set(range(*graded_rows(32, 0.5)))
    assert 1 < len(hard) < 8
    env.draw_starts()
    tracks, qpos, *_ = env._pool
    assert len(tracks) == 50
    assert set(tracks.tolist()) == hard
    env.reset()
    began = 0
    for action in random_actions(40, SIMS):
        step = env.step_masked(action)
        new = step.ended.nonzero().squeeze(1)
        places = env.engine.field("qpos")[new]
        assert all((qpos == place).all(dim=1).any() for place in places)
        assert set(env._backend._row[new].tolist()) <= hard
        began += len(new)
    assert began > SIMS / 2


def test_equal_seeds_begin_equal_episodes():
    first, second = (MaskedEnv([get_skill("biped/steps")], SIMS, config=FEW, seed=3, threads=1) for _ in range(2))
    first.reset()
    second.reset()
    for action in random_actions(40, SIMS):
        assert torch.equal(first.step_masked(action).flat, second.step_masked(action).flat)


def test_what_a_step_returns_is_the_callers_to_keep():
    env = MaskedEnv([get_skill("biped/gaps")], SIMS, config=FEW, threads=1)
    env.reset()
    kept = []
    for action in random_actions(30, SIMS):
        step = env.step_masked(action)
        tensors = [step.flat, step.final_flat, step.failed, *vars(step.outcome).values()]
        kept.append((tensors, [t.clone() for t in tensors]))
    assert all(torch.equal(a, b) for tensors, copies in kept for a, b in zip(tensors, copies, strict=True))


def test_failures_are_counted():
    env = MaskedEnv([get_skill("biped/flat")], SIMS, config=FEW, threads=1)
    env.reset()
    action = torch.zeros(SIMS, env.num_actions)
    env.step_masked(action)
    assert env.failures == 0
    for spoilt in ([3], [3, 7]):
        env.engine.field("qvel")[spoilt, 1] = torch.nan
        step = env.step_masked(action)
        assert step.failed.nonzero().flatten().tolist() == spoilt
    env.step(action)
    assert env.failures == 3


def test_a_restored_environment_goes_on_bit_for_bit():
    first, second = (MaskedEnv([get_skill("biped/steps")], SIMS, config=FEW, seed=3, threads=1) for _ in range(2))
    actions = random_actions(50, SIMS)
    first.reset()
    first.draw_starts()
    for action in actions[:10]:
        first.step_masked(action)
    first.engine.field("qvel")[3, 1] = torch.nan
    first.step_masked(actions[10])
    second.load_state_dict(first.state_dict())
    assert second.failures == first.failures == 1
    ended = 0
    for action in actions[10:]:
        mine, theirs = second.step_masked(action), first.step_masked(action)
        assert torch.equal(mine.flat, theirs.flat)
        ended += int(theirs.ended.sum())
    assert ended > SIMS / 2, "no new episodes were compared"


def test_an_engine_that_takes_masks_is_taken_as_it_is():
    engine = MaskedEnv([get_skill("biped/flat")], 2, config=FEW, threads=1).engine
    masks = mask_engine(engine)
    assert isinstance(masks, ByIds)
    assert mask_engine(masks) is masks


def test_an_empty_pool_is_refused():
    with pytest.raises(ConfigError, match="starts is 0"):
        MaskedEnv([get_skill("biped/flat")], 2, starts=0)


def test_robots_of_model_files_are_refused_with_the_device_that_has_them():
    with pytest.raises(ContractError, match="only device cpu"):
        MaskedEnv([get_skill("ant/flat")], 2)


def test_commands_are_drawn_from_the_ranges_of_each_task():
    groups = ("imu", "joints", "command")
    skills = [get_skill("quadruped/flat", groups), get_skill("quadruped/flat+reverse", groups)]
    env = MaskedEnv(skills, 64, threads=1)
    env.reset()
    first = env._backend._command.clone()
    env._restart_where(torch.arange(64) < 32)
    command = env._backend._command
    assert torch.equal(command[32:], first[32:])
    assert not torch.equal(command[:32], first[:32])
    for i, skill in enumerate(skills):
        low, high = skill.task.speeds
        assert command[i::2, 0].min() >= low
        assert command[i::2, 0].max() <= high
        assert command[i::2, 0].std() > 0.1 * (high - low)
