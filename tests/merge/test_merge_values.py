"""Validation, recorded data and datasets on disk: numbers and records written out, without a simulator."""

import hashlib
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from recorded_samples import GROUPS, SKILLS, recorded, rollout
from safetensors.torch import save
from teacher_samples import TINY, make_teacher

from policykd.agents.episodes import EpisodeOutcomes
from policykd.agents.files.policy_file import Parent
from policykd.errors import ConfigError, ContractError, DatasetError
from policykd.merge import LabeledData
from policykd.merge import retention as retentions
from policykd.merge.data import folder as folders
from policykd.merge.data.manifest import DataManifest, LabeledSkill, Shard, describe_data
from policykd.merge.offline import _contract
from policykd.merge.retention import StudentValidation, _check_reward, _check_success
from policykd.merge.student import log_std_of, parents
from policykd.seeding import integer_seed


def outcomes(reward, success):
    n = len(reward)
    total = torch.tensor(reward, dtype=torch.float64) * 4
    return EpisodeOutcomes(total, torch.full((n,), 4), total, torch.tensor(success), 4)


class FakeValidation:
    """Answers for a policy by its name; notes how it was made."""

    made: list = []

    def __init__(self, skills, episodes, **options):
        self.made.append(([s.id for s in skills], episodes, options))
        self._skill = skills[0].id

    def run(self, policy):
        return ANSWERS[policy, self._skill]

    def run_random(self):
        return outcomes([-1.0, -3.0], [False, False])


ANSWERS = {
    ("one", "a"): outcomes([0.5, 0.7], [True, True]),
    ("two", "b"): outcomes([-1.0, 0.0], [True, False]),
    ("student", "a"): outcomes([0.4, 0.5], [True, False]),
    ("student", "b"): outcomes([-0.5, 0.1], [True, True]),
}


def teacher(name, skill, bounded=True):
    task = SimpleNamespace(bounded=bounded)
    return SimpleNamespace(policy=name, source=name, skill=SimpleNamespace(id=skill, task=task, episode_steps=4))


def test_retention_and_shortfall_by_hand(monkeypatch):
    """Skill b's rewards are not bounded: its retention is measured from random actions, -2 on average."""
    monkeypatch.setattr(FakeValidation, "made", [])
    monkeypatch.setattr(retentions, "Validation", FakeValidation)
    config = replace(TINY, seed=5, validation_episodes=7, threads=3)
    validation = StudentValidation([teacher("one", "a"), teacher("two", "b", bounded=False)], config)
    how = {"seed": integer_seed(5, "validation"), "threads": 3, "device": "cpu"}
    assert FakeValidation.made == [(["a"], 7, how), (["b"], 7, how)]
    score = validation.measure("student")
    assert score.success == {"a": 0.5, "b": 1.0}
    assert score.reward_per_step == pytest.approx({"a": 0.45, "b": -0.2})
    assert score.retention == pytest.approx({"a": 0.45 / 0.6, "b": (-0.2 + 2) / (-0.5 + 2)})
    assert score.shortfall == {"a": 0.5, "b": -0.5}
    with pytest.raises(ConfigError, match=r"min_teacher_success is 0\.6; validation success is two 0\.50 on b: train"):
        StudentValidation(
            [teacher("one", "a"), teacher("two", "b", bounded=False)], replace(config, min_teacher_success=0.6)
        )


def test_a_teacher_without_reward_gives_a_large_but_finite_retention(monkeypatch):
    monkeypatch.setattr(retentions, "Validation", FakeValidation)
    monkeypatch.setitem(ANSWERS, ("one", "a"), outcomes([0.0, 0.0], [True, True]))
    score = StudentValidation([teacher("one", "a")], TINY).measure("student")
    assert score.retention == pytest.approx({"a": 0.45 / 1e-9})


def test_a_teacher_must_be_as_good_as_asked_and_better_than_chance():
    teachers = [teacher("one", "a"), teacher("two", "b", bounded=False)]
    _check_success(teachers, {"a": 0.5, "b": 0.7}, 0.5)
    with pytest.raises(ConfigError, match=r"one 0\.49 on a, two 0\.10 on b"):
        _check_success(teachers, {"a": 0.49, "b": 0.1}, 0.5)
    _check_reward(teachers, {"a": -1.0, "b": 0.5}, {"a": 0.0, "b": 0.25})
    for own in (0.25, 0.2):
        with pytest.raises(ConfigError, match=rf"two scores {own * 4:.4g} on b, random actions 1: it does not"):
            _check_reward(teachers, {"a": 1.0, "b": own}, {"a": 0.0, "b": 0.25})


@pytest.mark.parametrize("name", ["random", "previous"])
def test_parents_are_named_once_and_a_start_only_if_it_is_another(name):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 1), make_teacher("biped/steps", 2)]
    manifest = SimpleNamespace(weights_sha256="f" * 64, as_parent=lambda role: Parent(role, "f" * 64))
    expected = [Parent("expert 1", f"{1:064d}"), Parent("expert 2", f"{2:064d}")]
    assert parents(teachers, None) == expected
    assert parents(teachers, SimpleNamespace(manifest=manifest)) == [*expected, Parent("init", "f" * 64)]
    manifest.weights_sha256 = f"{2:064d}"
    assert parents(teachers, SimpleNamespace(manifest=manifest)) == expected
    assert log_std_of(teachers).shape == (3, teachers[0].policy.actions)


def test_a_stored_shard_is_described_and_read_back(tmp_path):
    data = recorded(tmp_path)
    first, second = data.manifest.shards
    content = (tmp_path / "000-biped_flat.safetensors").read_bytes()
    assert first == Shard(
        "000-biped_flat.safetensors", "biped/flat", 0, 0.5, 2, 4, len(content), hashlib.sha256(content).hexdigest()
    )
    assert second.file == "000-biped_gaps.safetensors"
    found, expected = LabeledData.open(tmp_path).find(0, "biped/gaps"), rollout(seed=1)
    for name, value in expected.tensors().items():
        assert torch.equal(found.tensors()[name], value), name
    data.store(0, "biped/flat", rollout(seed=9), 1.0)
    assert [(s.skill, s.beta) for s in data.manifest.shards] == [("biped/gaps", 0.5), ("biped/flat", 1.0)]
    data.store(1, "biped/flat", rollout(seed=9), 1.0)
    data.store(2, "biped/flat", rollout(seed=9), 1.0)
    data.keep(2)
    assert [s.round for s in data.manifest.shards] == [0, 0, 1]
    with pytest.raises(DatasetError, match="has no round 2 of biped/flat"):
        data.find(2, "biped/flat")
    with pytest.raises(DatasetError, match="has no round 1 of biped/gaps"):
        data.find(1, "biped/gaps")


def test_a_run_folder_stands_for_its_data_unless_it_is_a_dataset_itself(tmp_path):
    recorded(tmp_path / "run" / "data")
    assert LabeledData.open(tmp_path / "run").folder == tmp_path / "run" / "data"
    recorded(tmp_path / "run")
    assert LabeledData.open(tmp_path / "run").folder == tmp_path / "run"
    with pytest.raises(DatasetError, match=r"cannot read the dataset .*none"):
        LabeledData.open(tmp_path / "none")


def test_files_up_to_the_limit_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert folders._read(tmp_path / "a", 5) == b"12345"
    with pytest.raises(DatasetError, match="a has 5 bytes; 4 are expected at most"):
        folders._read(tmp_path / "a", 4)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(DatasetError, match="is a link"):
        folders._read(tmp_path / "link", 9)


def shard_of(content, steps=2, sims=4):
    return Shard("000-a.safetensors", "a", 0, 1.0, steps, sims, len(content), "0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"labels": torch.full((8, 11), 1.0)}, None),
        ({"labels": torch.full((8, 11), -1.001)}, "a label is outside"),
        ({"observations": torch.zeros(8, 98)}, "observations is .8, 98. torch.float32; .8, 99."),
        ({"rewards": torch.zeros(4, 2)}, "rewards is"),
        ({"rewards": torch.zeros(2, 4, dtype=torch.float64)}, "torch.float64"),
        ({"terminated": torch.zeros(2, 4)}, "terminated is .2, 4. torch.float32"),
        ({"teacher_values": torch.full((8,), math.nan)}, "teacher_values holds NaN"),
        ({"distances": torch.full((8,), math.inf)}, "distances holds NaN or infinity"),
        ({"final_rows": torch.tensor([8])}, "final_rows points beyond"),
        ({"final_rows": torch.tensor([-1])}, "final_rows points beyond"),
        ({"final_rows": torch.zeros(0, dtype=torch.long)}, "final_observations is .1, 99."),
        ({"final_rows": torch.zeros(0, dtype=torch.long), "final_observations": torch.zeros(0, 99)}, None),
        ({"more": torch.zeros(1)}, "needed are"),
        ({"rewards": None}, "needed are"),
        ({"final_rows": None}, "needed are"),
    ],
)
def test_every_tensor_of_a_shard_is_checked(change, message):
    tensors = {name: value.clone() for name, value in {**rollout().tensors(), **change}.items() if value is not None}
    content = save(tensors)
    if message is None:
        found = folders._rollout(content, shard_of(content), 99, 11)
        assert all(torch.equal(found.tensors()[name], value) for name, value in tensors.items())
    else:
        with pytest.raises(DatasetError, match=message):
            folders._rollout(content, shard_of(content), 99, 11)


def test_content_that_is_no_tensor_file_is_named():
    with pytest.raises(DatasetError, match="it is not safetensors"):
        folders._rollout(b"12345678", shard_of(b"12345678"), 99, 11)


def test_a_manifest_describes_its_teachers(tmp_path):
    one, two = make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)
    found = describe_data([one, two], GROUPS)
    assert (found.robot, found.control_dt) == ("biped", one.skill.robot.control_dt)
    assert found.groups == (("proprio", 49), ("terrain", 50))
    assert [(s.id, s.teacher, s.weights_sha256, s.symmetric) for s in found.skills] == [
        ("biped/flat", "expert 1", f"{1:064d}", False),
        ("biped/gaps", "expert 2", f"{2:064d}", False),
    ]
    assert found.skills[0].log_std == pytest.approx(one.policy.log_std.tolist())
    content = found.to_json()
    assert DataManifest.from_json(content) == found
    for bad, message in (
        ({**content, "content_sha256": "0" * 64}, "altered"),
        ({**content, "format": "another"}, "its format is not"),
        ([content], "its format is not"),
    ):
        with pytest.raises(DatasetError, match=message):
            DataManifest.from_json(bad)


def manifest(**changes):
    return replace(describe_data([make_teacher("biped/flat", 1)], GROUPS), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ()}, "each once"),
        ({"groups": (("proprio", 49), ("proprio", 49))}, "each once"),
        ({"skills": (LabeledSkill("a", "t", "0" * 64, (0.0,) * 11, False),) * 2}, "each once"),
        ({"skills": (LabeledSkill("a", "t", "0" * 64, (0.0,) * 10, False),)}, "one value per action"),
        ({"shards": (Shard("000-a.safetensors", "biped/flat", 0, 1.0, 1, 1, 1, "0" * 64),) * 2}, "listed twice"),
        ({"shards": (Shard("000-a.safetensors", "b", 0, 1.0, 1, 1, 1, "0" * 64),)}, "not listed, b"),
    ],
)
def test_parts_of_a_manifest_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(DatasetError, match=message):
        DataManifest.from_json(manifest(**changes).to_json())


def test_other_actions_or_another_control_rate_make_a_dataset_useless():
    assert manifest().check_robot().name == "biped"
    assert manifest(control_dt=manifest().control_dt * (1 + 1e-10)).check_robot().name == "biped"
    for changes in ({"control_dt": 0.5}, {"actions": manifest().actions[:-1]}):
        with pytest.raises(ContractError, match="made with other actions"):
            manifest(**changes).check_robot()


def test_datasets_of_one_contract_give_the_skills_of_all(tmp_path):
    one = recorded(tmp_path / "one", ("biped/flat",))
    both = recorded(tmp_path / "both")
    found = _contract([one, both])
    assert [skill.id for skill in found.skills] == list(SKILLS)
    assert found.shards == ()
    for name, value in (("robot", "other"), ("labels", "others"), ("control_dt", 0.5), ("groups", ()), ("actions", ())):
        other = SimpleNamespace(folder="there", manifest=replace(both.manifest, **{name: value}))
        with pytest.raises(ContractError, match=f"and there differ in their {name}"):
            _contract([one, other])
    lacking = SimpleNamespace(folder="x", manifest=replace(both.manifest, shards=both.manifest.shards[:1]))
    with pytest.raises(ConfigError, match="hold no states of biped/gaps"):
        _contract([lacking])
    again = recorded(tmp_path / "again", ("biped/gaps",))  # its teacher is that of flat in the others
    with pytest.raises(ConfigError, match="two teachers label biped/gaps: expert 2 and expert 1"):
        _contract([both, again])
