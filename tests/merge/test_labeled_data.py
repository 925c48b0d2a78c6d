"""Labeled datasets: round trip, merging without a simulator, and what is refused."""

import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.errors import ConfigError, ContractError, DatasetError
from policykd.merge import LabeledData, MergeConfig, merge_data, merge_experts
from policykd.merge.data.pool import StatePool
from policykd.merge.offline import _DataMerge
from policykd.plain import content_sha256

ONLINE = replace(TINY, envs=12, updates=100, minibatch=128)
OFFLINE = MergeConfig(
    rounds=2,
    updates=400,
    minibatch=128,
    critic="teacher",
    architecture=Architecture(hidden=(64, 64), critic_hidden=(32,)),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    folder = tmp_path_factory.mktemp("recorded") / "student"
    merge_experts(teachers, folder, ONLINE)
    return teachers, folder


def test_what_is_stored_is_what_was_collected(recorded):
    teachers, folder = recorded
    data = LabeledData.open(folder)
    assert [(s.round, s.skill) for s in data.manifest.shards] == [(r, t.skill.id) for r in range(2) for t in teachers]
    for shard in data.manifest.shards:
        rollout = data.load(shard)
        teacher = next(t for t in teachers if t.skill.id == shard.skill)
        with torch.no_grad():
            labels = teacher.policy(rollout.observations).clamp(-1, 1)
            values = teacher.policy.value(rollout.observations)
        torch.testing.assert_close(rollout.labels, labels)
        torch.testing.assert_close(rollout.teacher_values, values)
        features = (rollout.observations - teacher.policy.normalizer.mean) / teacher.policy.normalizer.var.sqrt().clamp(
            0.1
        )
        torch.testing.assert_close(rollout.distances, features.clamp(-10, 10).abs().amax(1))
        assert rollout.rewards.shape == (shard.steps, shard.simulations)


def test_a_student_of_recorded_data_needs_no_simulator(recorded, tmp_path, monkeypatch):
    teachers, folder = recorded
    monkeypatch.setattr("policykd.envs.batched_env.BatchedEnv.__init__", lambda *_, **__: pytest.fail("simulated"))
    result = merge_data([folder], tmp_path / "student", OFFLINE)
    loaded = load_policy(result.policy_path)
    assert loaded.manifest.skills == ("biped/flat", "biped/gaps")
    assert [p.weights_sha256 for p in loaded.manifest.parents] == [t.weights_sha256 for t in teachers]
    rollout = LabeledData.open(folder).find(1, "biped/gaps")
    with torch.no_grad():
        error = (loaded.policy(rollout.observations) - rollout.labels).square().mean()
        value_error = (loaded.policy.value(rollout.observations) - rollout.teacher_values).square().mean()
    assert error < 0.5 * rollout.labels.square().mean()
    assert value_error < 0.5 * rollout.teacher_values.square().mean()
    assert result.states == sum(s.steps * s.simulations for s in LabeledData.open(folder).manifest.shards)


def test_a_killed_merge_of_data_equals_an_uninterrupted_one(recorded, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    folder, config = recorded[1], replace(OFFLINE, updates=20)
    whole = merge_data([folder], tmp_path / "whole", config)
    save = _DataMerge._save

    def dying(self):
        save(self)
        raise Killed

    monkeypatch.setattr(_DataMerge, "_save", dying)
    with pytest.raises(Killed):
        merge_data([folder], tmp_path / "killed", config)
    monkeypatch.undo()
    resumed = merge_data([folder], tmp_path / "killed", config, resume=True)
    assert resumed.held_out_loss == whole.held_out_loss
    first, second = load_policy(whole.policy_path), load_policy(resumed.policy_path)
    assert first.manifest.weights_sha256 == second.manifest.weights_sha256


@pytest.fixture
def copied(recorded, tmp_path):
    return shutil.copytree(recorded[1] / "data", tmp_path / "copy")


def shard_of(folder):
    return sorted(folder.glob("*.safetensors"))[0]


def truncate(folder):
    shard_of(folder).write_bytes(shard_of(folder).read_bytes()[:-100])


def flip(folder):
    content = bytearray(shard_of(folder).read_bytes())
    content[-1] ^= 1
    shard_of(folder).write_bytes(content)


def delete(folder):
    shard_of(folder).unlink()


def link(folder):
    moved = shard_of(folder).rename(folder.parent / "elsewhere")
    (folder / "000-biped_flat.safetensors").symlink_to(moved)


def edit(folder):
    content = json.loads((folder / "manifest.json").read_text())
    content["skills"][0]["teacher"] = "another"
    (folder / "manifest.json").write_text(json.dumps(content))


def forge(change):
    """A manifest that was changed by somebody who also mends its hash."""

    def apply(folder):
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        content.pop("content_sha256")
        (folder / "manifest.json").write_text(json.dumps({**content, "content_sha256": content_sha256(content)}))

    return apply


def foreign(folder):
    (folder / "manifest.json").write_text(json.dumps({"format": "something", "shards": []}))


def pickled(folder):
    (folder / "manifest.json").write_bytes(pickle.dumps({"format": 1}))


def missing(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated"),
        (flip, "sha256"),
        (delete, "No such file"),
        (link, "link"),
        (edit, "altered"),
        (foreign, "not a manifest of labeled states"),
        (pickled, "not valid JSON"),
        (missing, "No such file"),
        (forge(lambda m: m["shards"][0].update(file="../../secret.safetensors")), "not a shard's file"),
        (forge(lambda m: m["shards"][0].update(steps=3)), "are needed"),
        (forge(lambda m: m.update(format_version=2)), "update policykd"),
        (forge(lambda m: m.pop("robot")), "robot"),
        (forge(lambda m: m["groups"].append(["proprio", 3])), "each once"),
        (forge(lambda m: m["skills"][0].update(log_std=[0.0])), "one value per action"),
        (forge(lambda m: m["shards"][0].update(skill="biped/walls")), "not listed"),
    ],
)
def test_damaged_and_foreign_data_are_refused_with_the_reason(copied, tmp_path, damage, message):
    damage(copied)
    with pytest.raises(DatasetError, match=message):
        merge_data([copied], tmp_path / "student", OFFLINE)


@pytest.mark.parametrize("skill_id", ["biped/flat+run", "biped/steps:hard@0.4"])
def test_data_of_every_skill_are_read_again(tmp_path, skill_id):
    """Names of shards hold the skill's id, whose characters are all allowed."""
    merge_experts([make_teacher(skill_id, 1)], tmp_path, replace(TINY, rounds=1))
    data = LabeledData.open(tmp_path)
    assert len(data.find(0, skill_id).labels)


def test_too_few_simulations_to_hold_one_out_are_named(tmp_path):
    merge_experts([make_teacher("biped/flat", 1)], tmp_path / "few", replace(TINY, rounds=1))
    with pytest.raises(ConfigError, match=r"merge\.held_out is 0\.1, .*biped/flat; raise it"):
        merge_data([tmp_path / "few"], tmp_path / "student", OFFLINE)


def test_datasets_that_do_not_belong_together_are_refused(recorded, copied, tmp_path):
    forge(lambda m: m["groups"][0].__setitem__(0, "other"))(copied)
    with pytest.raises(ContractError, match="groups"):
        merge_data([recorded[1], copied], tmp_path / "a", OFFLINE)
    forge(lambda m: (m["groups"][0].__setitem__(0, "proprio"), m["skills"][0].update(weights_sha256="0" * 64)))(copied)
    with pytest.raises(ConfigError, match="two teachers label biped/flat"):
        merge_data([recorded[1], copied], tmp_path / "b", OFFLINE)


@pytest.mark.parametrize(("option", "message"), [({"critic": "td"}, "simulator"), ({"start": "newest"}, "no teacher")])
def test_what_recorded_data_cannot_do_is_refused(recorded, tmp_path, option, message):
    with pytest.raises(ConfigError, match=message):
        merge_data([recorded[1]], tmp_path / "student", replace(OFFLINE, **option))
    with pytest.raises(ConfigError, match="no dataset"):
        merge_data([], tmp_path / "student", OFFLINE)
    with pytest.raises(ConfigError, match="give the policy to start from"):
        merge_data([recorded[1]], tmp_path / "student", replace(OFFLINE, start="previous"))
    with pytest.raises(ConfigError, match="the policy given as init would not be used"):
        merge_data([recorded[1]], tmp_path / "student", OFFLINE, init=object())
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(("row", "refused"), [(0, False), (-1, True), (11, False), (12, True)])
def test_rows_of_last_states_are_those_of_the_rollout(row, refused):
    """A shard of three steps of four simulations has the rows 0 to 11."""
    from safetensors.torch import save

    from policykd.merge.data.folder import _rollout
    from policykd.merge.data.manifest import Shard

    grid = {name: torch.zeros(3, 4, dtype=torch.bool) for name in ("terminated", "truncated", "student_acted")}
    flat = {"observations": torch.zeros(12, 2), "labels": torch.zeros(12, 1), "teacher_values": torch.zeros(12)}
    last = {"final_rows": torch.tensor([row]), "final_observations": torch.zeros(1, 2), "distances": torch.zeros(12)}
    content = save({"rewards": torch.zeros(3, 4), **grid, **flat, **last})
    shard = Shard("000-a.safetensors", "a", 0, 1.0, 3, 4, len(content), "0" * 64)
    if refused:
        with pytest.raises(DatasetError, match="final_rows points beyond the rollout"):
            _rollout(content, shard, 2, 1)
    else:
        assert _rollout(content, shard, 2, 1).final_rows.tolist() == [row]


def test_a_start_must_read_what_the_data_hold(recorded, tmp_path):
    from policykd.agents.files.policy_file import save_policy
    from policykd.agents.policy import Policy

    teacher = recorded[0][0]
    robot, sizes = teacher.skill.robot, dict(LabeledData.open(recorded[1]).manifest.groups)
    for name, groups, fits in (("same", sizes, True), ("less", {"proprio": sizes["proprio"]}, False)):
        policy = Policy(groups, robot.num_actions, Architecture(hidden=(8,)), 0)
        save_policy(tmp_path / name, policy, robot=robot, skills=["biped/flat"], operation="train", seed=0)
        init, config = load_policy(tmp_path / name), replace(OFFLINE, start="previous", rounds=1, updates=2)
        if fits:
            result = merge_data([recorded[1]], tmp_path / "student", config, init=init)
            assert load_policy(result.policy_path).policy.architecture.hidden == (8,)
        else:
            with pytest.raises(ContractError, match="the policy to start from reads"):
                merge_data([recorded[1]], tmp_path / "other", config, init=init)


def test_aggregation_keeps_the_latest_rounds(recorded):
    data = LabeledData.open(recorded[1])
    rounds = [data.find(r, "biped/flat") for r in (0, 1)]
    for kept, expected in ((None, rounds), (2, rounds), (1, rounds[1:])):
        dataset = StatePool(1, kept)
        for rollout in rounds:
            dataset.add(0, rollout)
            dataset.rows(0)
        assert torch.equal(dataset.rows(0).observations, torch.cat([r.observations for r in expected]))
        assert dataset.states == sum(len(r.labels) for r in rounds)


def test_labels_outside_the_support_do_not_count(recorded):
    rollout = LabeledData.open(recorded[1]).find(0, "biped/flat")
    limit = float(rollout.distances.median())
    dataset = StatePool(1, None, limit)
    dataset.add(0, rollout)
    inside = rollout.distances <= limit
    assert 0 < int(inside.sum()) < len(inside)
    assert torch.equal(dataset.rows(0).labels, rollout.labels[inside])
    assert dataset.masked == [1 - float(inside.double().mean())]
    nothing = StatePool(1, None, 0.0)
    nothing.add(0, rollout)
    with pytest.raises(ConfigError, match=r"merge\.support"):
        nothing.rows(0)
