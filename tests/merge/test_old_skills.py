"""Old skills that are not simulated: stored states, importance files, refusals, and merges that are killed."""

import shutil
from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.errors import ConfigError, ContractError, DatasetError
from policykd.merge import MergeConfig, merge_data, merge_experts
from policykd.merge.data.folder import LabeledData
from policykd.merge.distiller import _Merge
from policykd.merge.ewc import FILE, Importance, fisher_diagonal, importance_parameters
from policykd.merge.old_skills import OldSkills, read_old_skills
from policykd.merge.penalties import EwcPenalty, ReplayPenalty

OLD, NEW = "biped/flat", "biped/gaps"
ADD = replace(TINY, start="previous", protection="replay", minibatch=16)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """Run folder of a student of one skill, with 96 labeled states."""
    folder = tmp_path_factory.mktemp("old") / "student"
    merge_experts([make_teacher(OLD, 1)], folder, TINY)
    return folder


def add(student, out, config, old=None, **options):
    init = load_policy(student / "policy")
    return merge_experts(
        [make_teacher(NEW, 2)], out, config, init=init, old=[student] if old is None else old, **options
    )


def stored(student):
    data = LabeledData.open(student)
    return torch.cat([data.load(shard).observations for shard in data.manifest.shards])


def test_a_share_of_the_stored_states_is_drawn_once(student):
    init, everything = load_policy(student / "policy"), {tuple(row.tolist()) for row in stored(student)}
    pools = {}
    for share in (1.0, 0.25, 1e-4):
        old = read_old_skills([student], init, replace(ADD, replay_share=share), [NEW])
        pools[share] = old.states.rows(0).observations
        rows = [tuple(row.tolist()) for row in pools[share]]
        assert len(rows) == max(1, round(96 * share))
        assert len(set(rows)) == min(len(rows), len(everything))
        assert set(rows) <= everything
    again = read_old_skills([student], init, replace(ADD, replay_share=0.25), [NEW])
    assert torch.equal(again.states.rows(0).observations, pools[0.25])
    other = read_old_skills([student], init, replace(ADD, replay_share=0.25, seed=1), [NEW])
    assert not torch.equal(other.states.rows(0).observations, pools[0.25])
    assert (again.ids, again.importance) == ((OLD,), None)
    torch.testing.assert_close(again.log_std[0], make_teacher(OLD, 1).policy.log_std.detach())


def test_importance_is_measured_on_the_stored_states(student):
    init = load_policy(student / "policy")
    old = read_old_skills([student], init, replace(ADD, protection="ewc"), [NEW])
    expected = fisher_diagonal(init.policy, stored(student))
    for name, value in importance_parameters(init.policy).items():
        torch.testing.assert_close(old.importance.fisher[name], expected[name], rtol=1e-4, atol=1e-7)
        assert torch.equal(old.importance.anchor[name], value.detach())
    assert old.states is None
    assert old.log_std.shape == (1, 11)


def test_penalties_weigh_every_skill_alike():
    pool, importance = object(), object()
    config = replace(ADD, minibatch=60, ewc_weight=3.0, ewc_decay=0.5)
    old = OldSkills(("a", "b", "c"), torch.zeros(3, 2), pool, None, {}, ())
    assert old.penalties(config, 2) == [ReplayPenalty(pool, [12, 12, 12], 1.5, offset=2)]
    held = replace(old, states=None, importance=importance)
    assert held.penalties(config, 2) == [EwcPenalty(importance, 3.0, 0.5)]


@pytest.mark.parametrize("protection", ["replay", "ewc"])
def test_a_killed_addition_ends_in_the_same_weights_and_has_all_skills(student, tmp_path, monkeypatch, protection):
    config = replace(ADD, protection=protection, replay_share=0.5)
    whole = add(student, tmp_path / "whole", config)
    original = _Merge._fit

    def dying(self):
        if self._round == 1:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(_Merge, "_fit", dying)
    with pytest.raises(KeyboardInterrupt):
        add(student, tmp_path / "killed", config)
    monkeypatch.undo()
    resumed = add(student, tmp_path / "killed", config, resume=True)
    loaded, again = load_policy(whole.policy_path), load_policy(resumed.policy_path)
    assert loaded.manifest.weights_sha256 == again.manifest.weights_sha256
    assert loaded.manifest.skills == (OLD, NEW)
    assert list(loaded.manifest.skill_records) == [OLD, NEW]  # their episodes are shorter than the ids say
    start = load_policy(student / "policy").manifest.weights_sha256
    assert [p.weights_sha256 for p in loaded.manifest.parents] == [f"{2:064d}", start]
    assert set(whole.retention) == {NEW}
    assert (tmp_path / "whole" / FILE).exists() is (protection == "ewc")


def test_importance_goes_on_without_the_old_states(student, tmp_path):
    """After an addition with EWC its file is enough for the next: decay of the old importance, and the new skill's."""
    config = replace(ADD, protection="ewc", ewc_decay=0.5)
    first = add(student, tmp_path / "a", config)
    found, policy = Importance.load(tmp_path / "a" / FILE), load_policy(first.policy_path).policy
    before = fisher_diagonal(load_policy(student / "policy").policy, stored(student))
    for name, value in importance_parameters(policy).items():
        assert torch.equal(found.anchor[name], value.detach())
        new = fisher_diagonal(policy, stored(tmp_path / "a"))[name]
        torch.testing.assert_close(found.fisher[name], 0.5 * before[name] + new, rtol=1e-4, atol=1e-7)
    shutil.rmtree(tmp_path / "a" / "data")
    init = load_policy(first.policy_path)
    result = merge_experts([make_teacher("biped/steps", 3)], tmp_path / "b", config, init=init, old=[tmp_path / "a"])
    assert load_policy(result.policy_path).manifest.skills == (OLD, NEW, "biped/steps")
    with pytest.raises(ContractError, match="another student"):
        read_old_skills([tmp_path / "a"], load_policy(student / "policy"), config, ["biped/steps"])


def test_protection_that_cannot_be_given_is_refused(student, tmp_path):
    init = load_policy(student / "policy")
    cases = [
        (replace(ADD, protection="none"), [student], [NEW], "--old would not be used"),
        (ADD, [], [NEW], "give folders"),
        (replace(ADD, start="newest"), [student], [NEW], r"protection is replay and merge\.start newest"),
        (ADD, [student], [OLD], "nothing to protect"),
    ]
    for config, folders, new, message in cases:
        with pytest.raises(ConfigError, match=message):
            read_old_skills(folders, init, config, new)
    with pytest.raises(ConfigError, match=r"needs merge\.device=cpu, not cuda"):
        read_old_skills([student], init, replace(ADD, device="cuda"), [NEW])
    with pytest.raises(ConfigError, match=r"protection is ewc and merge\.stop validations; recorded data"):
        merge_data([student], tmp_path / "data", MergeConfig(critic="none", protection="ewc"))
    assert read_old_skills([], init, replace(ADD, protection="none"), [NEW]) is None
    for config, folders in ((replace(TINY, protection="ewc"), [student]), (TINY, [student])):
        with pytest.raises(ConfigError, match="protect"):
            merge_experts([make_teacher(NEW, 2)], tmp_path / "refused", config, old=folders)
    assert not (tmp_path / "refused").exists()
    merge_experts([make_teacher(NEW, 2)], tmp_path / "other", TINY)
    with pytest.raises(ConfigError, match="no folder of --old holds states of biped/flat"):
        read_old_skills([tmp_path / "other"], init, ADD, ["biped/steps"])
    shutil.copytree(student, tmp_path / "damaged")
    shard = next((tmp_path / "damaged" / "data").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="truncated"):
        read_old_skills([tmp_path / "damaged"], init, ADD, [NEW])
    wide = replace(TINY, architecture=Architecture(hidden=(9,), critic_hidden=(8,)))
    merge_experts([make_teacher(OLD, 1)], tmp_path / "wide", wide)
    fisher = {name: torch.ones_like(value) for name, value in importance_parameters(init.policy).items()}
    Importance(fisher, fisher).save(tmp_path / "wide" / FILE)
    with pytest.raises(ContractError, match="another network"):
        read_old_skills(
            [tmp_path / "wide"], load_policy(tmp_path / "wide" / "policy"), replace(ADD, protection="ewc"), [NEW]
        )
    for change, message in (({"replay_share": 0.0}, "replay_share is 0"), ({"ewc_weight": -1.0}, "ewc_weight is -1")):
        with pytest.raises(ConfigError, match=message):
            replace(ADD, **change)
