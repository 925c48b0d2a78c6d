"""Minari: what is written is read back completely, any reader finds the labels, and foreign datasets become labels."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.errors import ConfigError, ContractError, DatasetError, MissingDependencyError, OutputError
from policykd.evaluation import evaluate
from policykd.merge import MergeConfig, function_teacher, merge_data, merge_experts
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.minari import COLUMNS, read_minari, write_minari

minari = pytest.importorskip("minari", reason="needs the extra [minari]")
SMALL = MergeConfig(
    rounds=2, envs=4, updates=100, minibatch=128, validation_episodes=1, min_teacher_success=0.0, critic="none",
    target_retention=2.0, held_out=0.25, architecture=Architecture(hidden=(32,), critic_hidden=(8,)),
)  # fmt: skip
PENDULUM = gym_skill("gym:Pendulum-v1")
STEPS = 200  # of an episode


def brake(rows):
    """Return torques, N m, in [-2, 2]."""
    return np.clip(-rows[:, 2:3], -2.0, 2.0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    merge_experts([function_teacher("brake", brake, PENDULUM)], folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def walkers(tmp_path_factory):
    """States of bipeds that fall: episodes of every length, and two skills."""
    from policykd.agents.policy import Policy
    from policykd.envs import get_skill
    from policykd.merge import Teacher

    folder = tmp_path_factory.mktemp("walkers")
    skills = [replace(get_skill(name), episode_steps=64) for name in ("biped/flat", "biped/gaps")]
    teachers = [
        Teacher(s, Policy(s.group_sizes, s.robot.num_actions, Architecture((8,), (8,)), 3).eval(), "wild", "1" * 64)
        for s in skills
    ]
    merge_experts(teachers, folder, replace(SMALL, updates=5, critic="teacher", rounds=1, envs=8, noise=0.3))
    return folder


def same(first, second):
    one, two = first.tensors(), second.tensors()
    order = one["final_rows"].argsort()
    one["final_rows"], one["final_observations"] = one["final_rows"][order], one["final_observations"][order]
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("which", ["merged", "walkers"])
def test_labeled_states_come_back_to_the_last_bit(which, request, tmp_path):
    data = LabeledData.open(request.getfixturevalue(which))
    episodes = write_minari(data, "lab/states-v0")
    back = read_minari("lab/states-v0", tmp_path / "back")
    assert back.manifest.skills == data.manifest.skills
    assert [(s.skill, s.round, s.beta) for s in back.manifest.shards] == [
        (s.skill, s.round, s.beta) for s in data.manifest.shards
    ]
    for shard in data.manifest.shards:
        original = data.load(shard)
        assert same(original, back.find(shard.round, shard.skill))
    ends = sum(int((data.load(s).terminated | data.load(s).truncated)[:-1].sum()) for s in data.manifest.shards)
    assert episodes == ends + sum(s.simulations for s in data.manifest.shards)


def test_any_reader_finds_actions_in_the_units_of_the_environment(merged):
    write_minari(LabeledData.open(merged), "lab/pendulum-v0", author="lab")
    dataset = minari.load_dataset("lab/pendulum-v0")
    assert dataset.action_space == gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    assert dataset.storage.metadata["author"] in ("lab", {"lab"}, ["lab"])
    episode = next(dataset.iterate_episodes())
    assert episode.observations.shape == (STEPS + 1, 3)
    assert episode.actions == pytest.approx(brake(episode.observations[:-1]), abs=1e-5)
    assert episode.infos["labels"][:-1] * 2.0 == pytest.approx(episode.actions, abs=1e-6)
    assert not episode.infos["student_acted"][:-1].any(), "in the first round only the expert acts"
    assert bool(episode.truncations[-1])
    assert episode.truncations.sum() == 1


def test_an_episode_that_ends_in_a_fall_says_so(walkers):
    write_minari(LabeledData.open(walkers), "lab/falls-v0")
    episodes = list(minari.load_dataset("lab/falls-v0").iterate_episodes())
    fallen = [e for e in episodes if e.terminations[-1]]
    assert len(fallen) > 5
    for episode in fallen:
        assert not episode.truncations.any()
        assert (episode.observations[-1] == episode.observations[-2]).all(), "the state after a fall is not recorded"
    assert {int(e.infos["skill"][0]) for e in episodes} == {0, 1}


def recorded(name, episodes=12, environment="Pendulum-v1", act=brake):
    """Record a dataset as Minari's own tutorial does."""
    from minari.data_collector import EpisodeBuffer

    env, buffers = gym.make(environment), []
    for seed in range(episodes):
        rows, steps = [env.reset(seed=seed)[0]], []
        while not steps or not (steps[-1][2] or steps[-1][3]):
            action = act(rows[-1][None])[0].astype(np.float32)
            row, reward, fell, late, _ = env.step(action)
            rows, steps = [*rows, row], [*steps, (action, reward, fell, late)]
        columns = [np.array(column) for column in zip(*steps, strict=True)]
        buffers.append(EpisodeBuffer(None, None, None, np.array(rows), columns[0], *map(list, columns[1:])))
    minari.create_dataset_from_buffers(name, buffers, env=environment, algorithm_name="brake")


def test_a_foreign_dataset_is_cloned_without_its_teacher(tmp_path):
    recorded("theirs/pendulum-v0")
    data = read_minari("theirs/pendulum-v0", tmp_path / "data", PENDULUM)
    rollout = data.find(0, PENDULUM.id)
    assert rollout.rewards.shape == (12 * STEPS // COLUMNS, COLUMNS)
    first = next(minari.load_dataset("theirs/pendulum-v0").iterate_episodes())
    steps = 12 * STEPS // COLUMNS
    assert torch.equal(rollout.observations[::COLUMNS][:steps], torch.from_numpy(first.observations[:steps]))
    assert rollout.labels.numpy() == pytest.approx(brake(rollout.observations.numpy()) / 2, abs=1e-6)
    assert int(rollout.truncated.sum()) == 12
    ends = {int(row) for row in rollout.final_rows}
    assert ends == set(torch.nonzero(rollout.truncated.flatten()).flatten().tolist()) | {
        (steps - 1) * COLUMNS + i for i in range(COLUMNS)
    }
    cut = int(torch.nonzero(rollout.final_rows == (steps - 1) * COLUMNS)[0])
    assert torch.equal(rollout.final_observations[cut], torch.from_numpy(first.observations[steps]))
    with pytest.raises(ConfigError, match="holds no values of a teacher; set 'none'"):
        merge_data([tmp_path / "data"], tmp_path / "refused")
    student = load_policy(merge_data([tmp_path / "data"], tmp_path / "student", SMALL).policy_path)
    assert student.manifest.parents[0].name == "minari:theirs/pendulum-v0"
    scores = evaluate({"student": student.policy}, [PENDULUM], episodes=2, seed=0)
    assert np.isfinite(scores.cells["student", PENDULUM.id].reward_per_step).all()
    with torch.no_grad():
        error = (student.policy(rollout.observations).clamp(-1.0, 1.0) - rollout.labels).square().mean()
    assert error < 0.1 * rollout.labels.square().mean()


def test_named_slices_choose_the_columns_of_a_foreign_dataset(tmp_path):
    recorded("theirs/pendulum-v0", episodes=2)
    skill = gym_skill("gym:Pendulum-v1[rate=2:3,angle=0:2]")
    data = read_minari("theirs/pendulum-v0", tmp_path / "data", skill)
    whole = read_minari("theirs/pendulum-v0", tmp_path / "whole", PENDULUM).find(0, PENDULUM.id).observations
    assert torch.equal(data.find(0, skill.id).observations, whole[:, [2, 0, 1]])


def test_what_does_not_fit_is_refused(tmp_path, merged):
    recorded("theirs/pendulum-v0", episodes=1)
    with pytest.raises(ContractError, match="give --skill gym:ID"):
        read_minari("theirs/pendulum-v0", tmp_path / "a")
    with pytest.raises(ContractError, match=r"gym:HalfCheetah-v5 has 6 actions"):
        read_minari("theirs/pendulum-v0", tmp_path / "a", gym_skill("gym:HalfCheetah-v5"))
    with pytest.raises(ContractError, match=r"has 3 features; gym:MountainCarContinuous-v0 has 2"):
        read_minari("theirs/pendulum-v0", tmp_path / "a", gym_skill("gym:MountainCarContinuous-v0"))
    with pytest.raises(ContractError, match="continuous actions"):
        read_minari("theirs/pendulum-v0", tmp_path / "a", gym_skill("gym:CartPole-v1"))
    with pytest.raises(DatasetError, match="theirs/pendulum-v0"):
        read_minari("theirs/pendulum-v1", tmp_path / "a", PENDULUM)
    with pytest.raises(OutputError, match="choose another name"):
        write_minari(LabeledData.open(merged), "theirs/pendulum-v0")
    with pytest.raises(DatasetError, match=r"not a name of a Minari dataset: .*\(namespace/\)"):
        write_minari(LabeledData.open(merged), "no version or anything!")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        read_minari("theirs/pendulum-v0", tmp_path / "full", PENDULUM)
    assert not (tmp_path / "a").exists()


def test_an_altered_dataset_is_refused(tmp_path, merged):
    write_minari(LabeledData.open(merged), "lab/states-v0")
    dataset = minari.load_dataset("lab/states-v0")
    kept = list(dataset.iterate_episodes())[:-1]
    manifest = dataset.storage.metadata["policykd_manifest"]
    minari.create_dataset_from_buffers(
        "lab/fewer-v0", [_buffer(e) for e in kept],
        observation_space=dataset.observation_space, action_space=dataset.action_space,
    ).storage.update_metadata({"policykd_manifest": manifest})  # fmt: skip
    with pytest.raises(DatasetError, match=r"round 1 of gym:Pendulum-v1 is incomplete.*steps are missing"):
        read_minari("lab/fewer-v0", tmp_path / "a")
    minari.load_dataset("lab/fewer-v0").storage.update_metadata({"policykd_manifest": manifest[:-9]})
    with pytest.raises(DatasetError, match="manifest"):
        read_minari("lab/fewer-v0", tmp_path / "b")


def _buffer(episode):
    from minari.data_collector import EpisodeBuffer

    return EpisodeBuffer(
        observations=episode.observations, actions=episode.actions, rewards=list(episode.rewards),
        terminations=list(episode.terminations), truncations=list(episode.truncations), infos=episode.infos,
    )  # fmt: skip


def test_commands_export_and_import(tmp_path, merged, capsys, monkeypatch):
    assert main(["data", "export", str(merged), "lab/states-v0"]) == 0
    assert main(["data", "import", "lab/states-v0", "--out", str(tmp_path / "back")]) == 0
    printed = capsys.readouterr().out
    assert "8 episodes of gym:Pendulum-v1 -> lab/states-v0" in printed
    assert "1,600 labeled states of gym:Pendulum-v1" in printed
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(MissingDependencyError, match=r"policykd\[minari\]"):
        write_minari(LabeledData.open(merged), "lab/again-v0")


@pytest.mark.parametrize(("columns", "fits"), [(STEPS, True), (STEPS + 1, False)])
def test_a_dataset_needs_one_step_per_column(columns, fits, tmp_path, monkeypatch):
    recorded("theirs/pendulum-v0", episodes=1)
    monkeypatch.setattr("policykd.merge.data.minari.COLUMNS", columns)
    if fits:
        assert read_minari("theirs/pendulum-v0", tmp_path / "a", PENDULUM).find(0, PENDULUM.id).rewards.shape == (
            1,
            columns,
        )
        return
    with pytest.raises(DatasetError, match=f"has {STEPS} steps; at least {columns} are needed"):
        read_minari("theirs/pendulum-v0", tmp_path / "a", PENDULUM)
