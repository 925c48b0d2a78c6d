"""Gymnasium environments as skills: spaces, scaling of actions, autoreset, seeds, records."""

import gymnasium
import numpy as np
import pytest
import torch
from foreign_envs import register

from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.skill import TASK_ID, gym_skill
from policykd.envs.make import make_env
from policykd.envs.skill_records import read_skill, recorded_skill, records_of, skill_record
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError, UnknownNameError

register()
POINT = "gym:policykd-tests/Point-v0"


def test_a_batch_equals_single_environments_step_by_step():
    env, singles = make_env([gym_skill(POINT)], 3), [gymnasium.make("policykd-tests/Point-v0") for _ in range(3)]
    env.seed(7)
    flat = torch.cat(list(env.reset().values()), dim=1)
    rows = [single.reset(seed=7 + i)[0] for i, single in enumerate(singles)]
    assert np.allclose(flat.numpy(), np.stack(rows), atol=1e-6)
    generator, totals, ended = torch.Generator().manual_seed(0), np.zeros(3), 0
    for t in range(75):
        unit = 4.0 * torch.rand(3, 1, generator=generator) - (2.0 if t % 50 > 25 else 0.8)  # partly beyond [-1, 1]
        step = env.step(unit)
        own = -2.0 + 0.5 * (unit.clamp(-1, 1).double().numpy() + 1.0) * 6.0
        for i, single in enumerate(singles):
            row, reward, terminated, truncated, info = single.step(own[i].astype(np.float32))
            totals[i] += reward
            assert float(step.reward[i]) == pytest.approx(reward, abs=1e-5)
            assert (bool(step.terminated[i]), bool(step.truncated[i])) == (terminated, truncated)
            if terminated or truncated:
                place = step.episodes.ids.tolist().index(i)
                assert np.allclose(step.final_flat[place].numpy(), row, atol=1e-6)
                assert float(step.episodes.total_reward[place]) == pytest.approx(totals[i], rel=1e-6)
                assert bool(step.episodes.success[place]) == info["is_success"]
                totals[i], ended = 0.0, ended + 1
                row = single.reset()[0]
            assert np.allclose(step.flat[i].numpy(), row, atol=1e-6)
    assert ended > 5


def test_lengths_count_steps_and_both_kinds_of_ends_occur():
    env = make_env([gym_skill(POINT)], 2, seed=0)
    env.reset()
    lengths, terminated, truncated = [], 0, 0
    for t in range(200):
        step = env.step(torch.tensor([[1.0], [-0.33 if t % 60 < 30 else 1.0]]))
        lengths += step.episodes.length.tolist()
        terminated, truncated = terminated + int(step.terminated.sum()), truncated + int(step.truncated.sum())
    assert terminated > 3
    assert truncated > 1
    assert max(lengths) == 30
    assert sum(lengths) <= 400


def test_equal_seeds_give_equal_episodes():
    flats = []
    for _ in range(2):
        env = make_env([gym_skill(POINT)], 4, seed=1)
        env.seed(5)
        flats.append(torch.cat(list(env.reset().values()), dim=1))
        flats[-1] = torch.cat([flats[-1], env.step(torch.zeros(4, 1)).flat])
    assert torch.equal(*flats)
    env.seed(6)
    assert not torch.equal(torch.cat(list(env.reset().values()), dim=1), flats[0][:4])


def test_a_batch_of_another_size_equals_a_new_one_and_makes_only_the_copies_that_it_lacks():
    def episodes(env):
        env.seed(5)
        first = torch.cat(list(env.reset().values()), dim=1)
        steps = [env.step(torch.full((env.num_envs, 1), 0.5)) for _ in range(70)]  # beyond the end of an episode
        return torch.cat([first, *(step.flat for step in steps)]), sum(step.episodes.ids.numel() for step in steps)

    env = make_env([gym_skill(POINT)], 2, seed=1)
    episodes(env)
    copies = list(env._envs)
    for count in (4, 1, 3):
        env.resize(count)
        found, ended = episodes(env)
        expected, others = episodes(make_env([gym_skill(POINT)], count, seed=1))
        assert torch.equal(found, expected)
        assert ended == others > 0
        assert env.skill_index.tolist() == [0] * count
        assert all(one is other for one, other in zip(copies, env._envs, strict=False))
        copies = max(copies, list(env._envs), key=len)
    with pytest.raises(ConfigError, match="num_envs"):
        env.resize(0)


def test_dictionaries_slices_and_the_number_of_the_task_are_groups():
    named = gym_skill(POINT + '?{"named": true}')
    assert named.group_sizes == {"a_goal": 1, "z_place": 2}
    first = make_env([named], 2).reset()
    assert first["a_goal"].tolist() == [[1.0], [1.0]]
    some = gym_skill(POINT + '?{"named": true}', ["z_place"])
    assert torch.equal(make_env([some], 2).reset()["z_place"], first["z_place"])
    sliced = gym_skill(POINT, slices=[("speed", 1, 1), ("place", 0, 1)])
    flat = make_env([gym_skill(POINT)], 2).reset()["observation"]
    parts = make_env([sliced], 2).reset()
    assert torch.equal(torch.cat([parts["place"], parts["speed"]], dim=1), flat)
    task = gym_skill(POINT, tasks=3, task_number=1)
    env = make_env([task], 2)
    assert env.reset()[TASK_ID].tolist() == [[0.0, 1.0, 0.0]] * 2
    assert env.step(torch.zeros(2, 1)).observations[TASK_ID].tolist() == [[0.0, 1.0, 0.0]] * 2


def test_columns_without_a_known_meaning_have_no_mirror_image():
    skill = gym_skill(POINT)
    assert mirror_symmetry(skill.groups, skill.robot) is None


def test_records_bring_the_whole_skill_back():
    for skill in (
        gym_skill(POINT),
        gym_skill(POINT + '?{"goal": -0.5}'),
        gym_skill(POINT, ["place"], slices=[("speed", 1, 1), ("place", 0, 1)]),
        gym_skill(POINT, tasks=2, task_number=1),
    ):
        assert recorded_skill(skill.id, {skill.id: skill_record(skill)}) == skill
        assert recorded_skill(skill.id, records_of([skill])) == skill
    assert records_of([gym_skill(POINT)]) is None
    assert read_skill(POINT) == gym_skill(POINT)
    assert gym_skill(POINT, tasks=2, task_number=1).id == f"{POINT}#1"
    with pytest.raises(ConfigError, match="record of a gymnasium skill is not valid"):
        recorded_skill(POINT, {POINT: {"id": POINT}})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("gym:Pendulun-v1", UnknownNameError, "did you mean Pendulum-v1"),
        ("gym:PandaReach-v1", ConfigError, "if a package registers it, .*: MODULE:PandaReach-v1"),
        ("gym:Pendulum-v0", ConfigError, "not in gymnasium any more; it has Pendulum-v1"),
        ("gym:Walker2d-v3", ConfigError, "it has Walker2d-v4 and Walker2d-v5, whose physics"),
        ("gym:Blackjack-v1", ContractError, "observes Tuple"),
        ("gym:FrozenLake-v1", ContractError, "observes Discrete"),
        (POINT + "?[1]", ConfigError, "must be a JSON object"),
        (POINT + "?{goal}", ConfigError, "are not JSON"),
        (POINT + '?{"gola": 1}', ConfigError, "cannot make .*gola"),
        (POINT + '?{"low": -Infinity}', ContractError, "without finite bounds"),
    ],
)
def test_what_cannot_be_used_is_named(text, error, message):
    with pytest.raises(error, match=message):
        read_skill(text)


def test_groups_and_batches_that_do_not_exist_are_named():
    with pytest.raises(UnknownNameError, match="observation group of gym:"):
        gym_skill(POINT, ["observations"])
    with pytest.raises(ConfigError, match="group far is features 1 to 4"):
        gym_skill(POINT, slices=[("far", 1, 3)])
    with pytest.raises(ConfigError, match="cannot share a batch"):
        GymBatch([gym_skill(POINT), gym_skill(POINT)], 2)
    with pytest.raises(ConfigError, match="cannot share a batch with biped/flat"):
        make_env([gym_skill(POINT), get_skill("biped/flat")], 2)
    with pytest.raises(ConfigError, match="device cpu only"):
        make_env([gym_skill(POINT)], 2, device="cuda")


def test_the_state_of_an_environment_cannot_be_restored():
    env = make_env([gym_skill(POINT)], 2)
    env.load_state_dict(env.state_dict())
    with pytest.raises(ConfigError, match=r"holds \['x'\]; its state cannot be restored"):
        env.load_state_dict({"x": 1})
