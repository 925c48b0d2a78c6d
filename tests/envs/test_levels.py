"""Levels of a curriculum: one for all simulations, or one for each that its own episodes move."""

import pytest
import torch

from policykd.agents.training import TrainConfig
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.levels import OwnLevels, SharedLevel
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, UnknownNameError

FEW = EnvConfig(tracks=100, graded=True, own_levels=0.25)


def levels(count: int = 4, balance: float = 0.25) -> OwnLevels:
    return OwnLevels(count, tracks=100, floor=0.9, balance=balance, device=torch.device("cpu"))


def test_successes_raise_and_failures_lower_the_level_of_their_simulation_only():
    own = levels()
    own.value = 0.5
    own.record(torch.tensor([0, 2]), torch.tensor([True, False]))
    assert own.values.tolist() == pytest.approx([0.7, 0.5, 0.5 - 0.2 / 3, 0.5])  # 1 success to 3 failures rests
    assert own.value == pytest.approx(0.5 + (0.2 - 0.2 / 3) / 4)


def test_levels_stay_between_a_tenth_and_the_skill_itself():
    own = levels(2)
    for _ in range(30):
        own.record(torch.tensor([0, 1]), torch.tensor([True, False]))
    assert own.values.tolist() == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize("balance", [0.25, 0.4, 0.6])
def test_a_level_rests_where_the_asked_share_succeeds(balance):
    own = levels(2, balance)
    own.value = 0.5
    own.record(torch.tensor([0, 1]), torch.tensor([True, False]))
    rise, fall = (own.values - 0.5).tolist()
    assert rise == pytest.approx(0.2)
    assert balance * rise + (1 - balance) * fall == pytest.approx(0.0, abs=1e-7)


def test_picks_are_spread_over_the_tracks_just_below_the_level():
    """Half of 100 tracks rise to full difficulty: track k has the share (k + 1) / 50."""
    own = levels(3)
    own.values.copy_(torch.tensor([0.1, 0.6, 1.0]))
    first, last = own.pick_range()
    lowest = own.tracks_of(torch.full((3,), first), torch.arange(3))
    highest = own.tracks_of(torch.full((3,), last - 1), torch.arange(3))
    assert lowest.tolist() == [0, 25, 45]
    assert highest.tolist() == [4, 29, 99]


def test_shared_level_picks_as_before():
    shared = SharedLevel(100, graded=True, floor=0.9)
    shared.value = 0.2
    assert shared.pick_range() == (5, 10)
    assert SharedLevel(100, graded=False, floor=0.9).pick_range() == (0, 100)


def test_falls_lower_the_levels_of_the_simulations_that_fell():
    env = BatchedEnv([get_skill("biped/gaps")], 8, config=FEW, threads=1)
    env.level = 0.5
    env.reset()
    for _ in range(200):
        step = env.step(torch.ones(8, env.num_actions))
        if len(step.episodes.ids):
            break
    assert not step.episodes.success.any()
    fallen = torch.zeros(8, dtype=torch.bool)
    fallen[step.episodes.ids] = True
    expected = torch.where(fallen, 0.5 - 0.2 / 3, 0.5)
    assert env._levels.values.tolist() == pytest.approx(expected.tolist())


def test_an_environment_with_own_levels_continues_bit_for_bit():
    first, second = (BatchedEnv([get_skill("biped/gaps")], 4, seed=1, config=FEW, threads=1) for _ in range(2))
    first.level = 0.4
    first.reset()
    actions = torch.rand(80, 4, first.num_actions, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in actions[:40]:
        first.step(action)
    second.reset()
    second.load_state_dict(first.state_dict())
    for action in actions[40:]:
        assert torch.equal(first.step(action).flat, second.step(action).flat)
    assert torch.equal(first._levels.values, second._levels.values)
    assert 0.1 <= first.level < 0.4


def test_choices_and_ranges_are_named():
    with pytest.raises(UnknownNameError, match="levels"):
        TrainConfig(levels="mine")
    with pytest.raises(ConfigError, match="raise_above"):
        TrainConfig(levels="own", raise_above=1.0)
    with pytest.raises(ConfigError, match="own_levels"):
        EnvConfig(own_levels=1.0)
    with pytest.raises(ContractError, match="levels=shared"):
        MaskedEnv([get_skill("biped/gaps")], 2, config=FEW, starts=4)
