"""Merges of recorded data: held-out simulations, rounds, the best student and settings, without a simulator."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from recorded_samples import GROUPS, SKILLS, SMALL, recorded, rollout

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import Parent, load_policy
from policykd.agents.policy import Policy
from policykd.errors import ConfigError, DatasetError, UnknownNameError
from policykd.merge import LabeledData, merge_data
from policykd.merge import offline as offlines
from policykd.merge.fitting import Fitting
from policykd.merge.offline import _contract, _DataMerge
from policykd.progress import Silent
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.storage import read_json, write_json
from told import Told


def merging(tmp_path, config=SMALL, init=None, sims=4):
    data = [recorded(tmp_path / "data", sims=sims)]
    return _DataMerge(data, _contract(data), RunFolder(tmp_path / "run", {}, False), config, init, Silent())


@pytest.mark.parametrize(
    ("held_out", "sims", "every"),
    [(0.25, 4, 4), (0.25, 8, 4), (0.5, 4, 2), (0.3, 6, 3), (0.4, 4, 2), (0.01, 100, 100), (0.5, 2, 2)],
)
def test_every_nth_simulation_is_held_out(tmp_path, held_out, sims, every):
    merge = merging(tmp_path, replace(SMALL, held_out=held_out), sims=sims)
    for i in range(2):
        data = rollout(sims=sims, seed=i)
        held = torch.tensor([(row % sims) % every == every - 1 for row in range(2 * sims)])
        assert torch.equal(merge._held_out.rows(i).labels, data.labels[held])
        assert torch.equal(merge._train.rows(i).labels, data.labels[~held])
        assert torch.equal(merge._train.rows(i).teacher_values, data.teacher_values[~held])


def test_simulations_that_are_alone_in_their_round_are_all_fitted(tmp_path):
    """With too few simulations to hold one out the merge is refused; the smallest share holds out every second."""
    for sims in (1, 3):
        with pytest.raises(ConfigError, match=r"merge\.held_out is 0\.25, which holds out none .* biped/flat, bip"):
            merging(tmp_path / str(sims), sims=sims)


def test_a_new_student_has_the_datas_statistics_and_the_teachers_mean_noise(tmp_path):
    merge = merging(tmp_path)
    own = Policy(GROUPS, 11, SMALL.architecture, integer_seed(3, "student", *SKILLS))
    for i in range(2):
        own.update_normalizer(merge._train.rows(i).observations)
    stds = torch.tensor([s.log_std for s in merge._contract.skills])
    own.log_std.data.copy_(stds.mean(0))
    for name, value in own.state_dict().items():
        assert torch.equal(merge._student.state_dict()[name], value), name


class Named(Told):
    def update(self, name, done, **figures):
        self.all.append((done, sorted(figures)))


def test_a_merge_of_data_equals_its_rounds_written_out(tmp_path):
    recorded(tmp_path / "data")
    told = Named()
    found = merge_data([tmp_path / "data"], tmp_path / "run", replace(SMALL, critic="none"), progress=told)
    merge = merging(tmp_path / "again", replace(SMALL, critic="none"))
    student, losses, rows = merge._student, [], []
    fitting = Fitting(student, torch.tensor([s.log_std for s in merge._contract.skills]), SMALL)
    for round_ in range(2):
        g = torch.Generator().manual_seed(integer_seed(3, "minibatches", round_))
        rows.append(fitting.fit(merge._train, [4, 4], round_, g))
        with torch.no_grad():
            held = [merge._held_out.rows(i) for i in range(2)]
            losses.append([float((student(h.observations) - h.labels).square().mean()) for h in held])
    log = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").read_text().splitlines()]
    assert [row["round"] for row in log] == [1, 2]
    assert [row["loss"] for row in log] == pytest.approx(rows)
    for row, expected in zip(log, losses, strict=True):
        assert list(row["held_out_loss"].values()) == pytest.approx(expected)
    best = min(losses, key=sum)
    assert found.held_out_loss == pytest.approx(dict(zip(SKILLS, best, strict=True)))
    assert (found.rounds, found.states, found.masked) == (2, 16, dict.fromkeys(SKILLS, 0.0))
    assert told.all == [
        ("merge biped/flat biped/gaps from data", 2, "rounds"),
        (1, ["held_out", "loss"]),
        (2, ["held_out", "loss"]),
        (
            "merge biped/flat biped/gaps from data",
            "held-out loss only: nothing was validated in the simulator",
        ),
    ]
    loaded = load_policy(found.policy_path)
    assert loaded.manifest.seed == 3
    assert loaded.manifest.operation == "merge"
    assert [p.name for p in loaded.manifest.parents] == ["expert 1", "expert 2"]
    assert loaded.manifest.metrics["held_out_loss"] == found.held_out_loss
    assert loaded.manifest.config["updates"] == 3
    assert merge_data([tmp_path / "data"], tmp_path / "run", replace(SMALL, critic="none"), resume=True) == found
    with pytest.raises(ConfigError, match=r"merge\.updates"):
        merge_data([tmp_path / "data"], tmp_path / "run", replace(SMALL, critic="none", updates=4), resume=True)


def test_the_weights_of_the_least_held_out_loss_are_kept(tmp_path):
    merge = merging(tmp_path)
    for loss, kept in ((2.0, 2.0), (3.0, 2.0), (2.0, 2.0), (1.0, 1.0)):
        with torch.no_grad():
            merge._student.log_std.fill_(loss + merge._round)
        merge._round += 1
        merge._keep({"biped/flat": loss - 0.5, "biped/gaps": loss + 0.5})
        assert merge._best["score"] == kept
    assert merge._best["held_out_loss"] == {"biped/flat": 0.5, "biped/gaps": 1.5}
    assert merge._best["weights"]["log_std"].tolist() == [4.0] * 11
    merge._student.log_std.data.fill_(9.0)
    assert merge._best["weights"]["log_std"].tolist() == [4.0] * 11  # a copy


@pytest.mark.parametrize("critic", ["teacher", "none"])
def test_the_critic_is_fitted_to_the_best_student_at_the_end(tmp_path, monkeypatch, critic):
    seen = []

    def fit(student, pool, skills, config, generator, group):
        seen.append((float(student.log_std.detach()[0]), pool, skills, config, generator.initial_seed()))

    monkeypatch.setattr(offlines, "fit_critic_to_teachers", fit)
    merge = merging(tmp_path, replace(SMALL, critic=critic))
    merge._student.log_std.data.fill_(0.25)
    merge._keep({"biped/flat": 1.0, "biped/gaps": 1.0})
    merge._student.log_std.data.fill_(0.75)
    merge._round = 2
    merge._finish()
    seed = integer_seed(3, "critic", 2)
    assert seen == ([(0.25, merge._train, 2, replace(SMALL), seed)] if critic == "teacher" else [])
    assert load_policy(tmp_path / "run" / "policy").policy.log_std.tolist() == [0.25] * 11


def test_a_start_is_copied_and_named_among_the_parents(tmp_path, monkeypatch):
    monkeypatch.setattr(offlines, "_check_init", lambda init, contract: None)
    policy = Policy(GROUPS, 11, Architecture((6,), (6,)), 4).eval()
    as_parent = lambda role: Parent(role, "e" * 64)  # noqa: E731
    init = SimpleNamespace(policy=policy, manifest=SimpleNamespace(as_parent=as_parent, weights_sha256="e" * 64))
    merge = merging(tmp_path, replace(SMALL, start="previous"), init)
    assert merge._student is not policy
    assert merge._student.training
    mine, theirs = merge._student.state_dict(), policy.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs if name != "log_std")
    merge.go()
    sources = [p.name for p in load_policy(tmp_path / "run" / "policy").manifest.parents]
    assert sources == ["expert 1", "expert 2", "init"]


@pytest.mark.parametrize(
    ("name", "count"), [("all", None), ("none", 1), ("last:1", 1), ("last:12", 12)]
)  # fmt: skip
def test_rounds_that_are_kept(name, count):
    assert replace(SMALL, aggregation=name).rounds_kept == count
    for bad in ("last:0", "last:", "last:-1", "first:2", "last:1.5"):
        with pytest.raises(ConfigError, match=r"merge\.aggregation"):
            replace(SMALL, aggregation=bad)


def test_choices_are_checked_and_schedules_hold_to_the_end():
    assert replace(SMALL, start="biped/flat").start == "biped/flat"
    for name in ("loss", "mixing", "noise_model", "critic", "start", "stop", "protection", "normalizer"):
        with pytest.raises(UnknownNameError, match=name):
            replace(SMALL, **{name: "nothing"})
    for beta, round_ in (("linear:1,-1.5", 1), ("linear:1.5,0", 0)):
        with pytest.raises(ConfigError, match=rf"beta in round {round_}"):
            replace(SMALL, beta=beta)
    with pytest.raises(ConfigError, match=r"merge\.threads"):
        replace(SMALL, threads=0)


def test_a_finished_manifest_is_written_with_its_hash(tmp_path):
    data = recorded(tmp_path)
    content = read_json(tmp_path / "manifest.json")
    assert content["format"] == "policykd-labelled-states"
    assert content["format_version"] == 1
    write_json(tmp_path / "manifest.json", {**content, "labels": "others"})
    with pytest.raises(DatasetError, match="altered"):
        LabeledData.open(tmp_path)
    data.commit()
    assert LabeledData.open(tmp_path).manifest == data.manifest
