"""Two gloo processes end with the student of one: shared skills, shared minibatches, files, errors, resume."""

import io
import json
import os
import socket
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from teacher_samples import TINY, make_teacher

from children import start_children
from policykd.agents.architecture import Architecture, Latent, Memory
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.recurrent_policy import make_policy
from policykd.cli.main import main
from policykd.envs.skill_records import records_of
from policykd.errors import ConfigError, DatasetError
from policykd.merge import LabeledData, MergeConfig, merge_data, merge_experts
from policykd.merge.critic import fit_critic_to_teachers
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.data.sequences import SequencePool
from policykd.merge.distiller import _Merge
from policykd.merge.ewc import Importance, importance_parameters
from policykd.merge.fitting import Fitting
from policykd.merge.penalties import EwcPenalty, ReplayPenalty
from policykd.merge.shared import check_parallel, open_data
from policykd.parallel import LostProcessError, Processes, launched, processes

PATIENCE = timedelta(minutes=2)
GROUPS = {"a": 4, "b": 3, "c": 2}
SHAPES = {
    "mlp": Architecture((7,), (5,)),
    "kfac": Architecture((7,), (5,)),
    "gru": Architecture((7,), (5,), memory=Memory("gru", 6, dense=5)),
    "latent": Architecture((7,), (5,), latent=Latent(3, (6,), ("b",), ("c",))),
}
FIT = MergeConfig(updates=4, minibatch=27, truncation=3, loss="forward_kl", learning_rate=1e-2)
MERGE = replace(TINY, rounds=2, envs=3, updates=12, minibatch=33, critic="td", beta="constant:0.5")
DATA = replace(MERGE, critic="teacher", held_out=0.5)


def pool(skills=2, steps=7, n=4):
    """Labeled states with ends in the middle, and labels that do not count."""
    found = SequencePool(skills, None, 1.0)
    for i in range(skills):
        draws = torch.Generator().manual_seed(i)
        ended = torch.rand(steps, n, generator=draws) < 0.2
        found.add(i, LabeledRollout(
            torch.randn(steps * n, 9, generator=draws), torch.rand(steps * n, 2, generator=draws) * 2 - 1,
            torch.zeros(steps, n), ended, torch.zeros_like(ended), torch.ones_like(ended),
            torch.zeros(0, dtype=torch.long), torch.zeros(0, 9), torch.rand(steps * n, generator=draws),
            2.0 * (torch.rand(steps * n, generator=draws) < 0.3).float(),
        ))  # fmt: skip
    return found


def fitted(name, group):
    """Return weights and loss after some gradient steps on minibatches that the processes share."""
    student = make_policy(GROUPS, 2, SHAPES[name], 3)
    penalties = []
    if name == "mlp":
        values = {k: v.detach().clone() for k, v in importance_parameters(student).items()}
        importance = Importance({k: v + 0.1 for k, v in values.items()}, {k: v.abs() for k, v in values.items()})
        penalties = [EwcPenalty(importance, 3.0, 0.9), ReplayPenalty(pool(1), [5], 2.0, offset=2)]
    config = replace(FIT, optimizer="kfac", loss="mse", step_length=0.1) if name == "kfac" else FIT
    fitting = Fitting(student, torch.full((3, 2), -1.0), config, penalties=penalties, group=group)
    loss = fitting.fit(pool(), [14, 13], 0, torch.Generator().manual_seed(5))
    critic = torch.Generator().manual_seed(6)
    fit_critic_to_teachers(student, pool(), 2, FIT, critic, group)
    return {"loss": torch.tensor(loss), **student.state_dict()}


def teachers():
    return [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2), make_teacher("biped/steps", 3)]


def merged(folder, config=MERGE, resume=False):
    result = merge_experts(teachers(), folder, config, resume=resume)
    return {"weights": dict(load_policy(result.policy_path).policy.state_dict()), "retention": result.retention}


def refusals(group, folder):
    """What goes wrong in one process is an error in both."""

    def fails():
        if group.rank == 1:
            raise ConfigError("process 1 has no disk")

    for work in (lambda: group.gather(fails), lambda: group.each(2, lambda i: fails())):
        with pytest.raises(ConfigError, match="process 1 has no disk"):
            work()
    with pytest.raises(ConfigError, match="the weights of process 1 differ from those of process 0"):
        group.check_equal({"w": torch.tensor([1.0 + 1e-7 * group.rank])}, "the weights")
    group.check_equal({"w": torch.ones(2)}, "the weights")
    few = replace(FIT, minibatch=3)
    sequences = Fitting(make_policy(GROUPS, 2, SHAPES["gru"], 3), torch.full((2, 2), -1.0), few, group=group)
    with pytest.raises(ConfigError, match="1 sequences of 3 states, which cannot be shared by 2 processes"):
        sequences.fit(pool(1), [3], 0, torch.Generator().manual_seed(5))
    with pytest.raises(OSError, match="already holds a run"):
        merged(folder / "whole")


def work(group, folder):
    results = {name: fitted(name, group) for name in SHAPES}
    results["whole"] = merged(folder / "whole")
    interrupt(folder / "parts", MERGE)
    results["parts"] = merged(folder / "parts", resume=True)
    data = merge_data([folder / "whole"], folder / "again", DATA)
    results["data"] = dict(load_policy(data.policy_path).policy.state_dict())
    return results


def interrupt(folder, config):
    """Begin a merge that fails in its second round."""
    measure = _Merge._measure

    def once(self, validation):
        if self._round == 1:
            raise ConfigError("interrupted")
        return measure(self, validation)

    _Merge._measure = once
    try:
        with pytest.raises(ConfigError, match="interrupted"):
            merged(folder, config)
    finally:
        _Merge._measure = measure


def reads(group, folder):
    """The first process tells the others what it reads, as a merge with DART noise does."""
    alone = LabeledData.open(folder)
    shared = open_data(group, folder / "data", alone.manifest).reopen(1)
    assert torch.equal(shared.find(0, "biped/gaps").labels, alone.find(0, "biped/gaps").labels)
    with pytest.raises(DatasetError):
        shared.find(1, "biped/gaps")


def worker(rank, folder, port, command):
    """Do the work of one of two processes."""
    told = {"TORCHELASTIC_RUN_ID": "none", "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
        patch.setattr("policykd.parallel.PATIENCE", PATIENCE)
        for name, value in told.items():
            patch.setenv(name, value)
        codes = [main(command), main(["skills"])]
    (folder / f"command {rank}").write_text(json.dumps({"codes": codes, "printed": output.getvalue()}))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=PATIENCE)
    try:
        group = processes()
        torch.save(work(group, folder), folder / f"{rank}.pt")
        reads(group, folder / "whole")
        refusals(group, folder)
        group.gather(lambda: None)
        if rank == 1:
            os._exit(0)  # as a process that is killed
        with pytest.raises(LostProcessError, match="another process of this run ended"):
            group.gather(lambda: None)
    finally:
        dist.destroy_process_group()


def other_worker(folder, port, command):
    """Do the work of the second process, with all that it prints in a file."""
    with (folder / "output").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    worker(1, folder, port, command)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What two processes found: this one and another."""
    folder = tmp_path_factory.mktemp("two")
    paths = []
    for teacher in teachers()[:2]:
        paths.append(str(folder / teacher.skill.slug))
        save_policy(Path(paths[-1]), teacher.policy, robot=teacher.skill.robot, skills=[teacher.skill.id],
                    skill_records=records_of([teacher.skill]), operation="train", seed=0)  # fmt: skip
    command = ["merge", *paths, "--out", str(folder / "command"), "--rounds", "1", "--hidden", "8", "--threads", "1",
               "--min-teacher-success", "0", "--critic", "none", "--set", "envs=2", "updates=3",
               "validation_episodes=2"]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (other,) = start_children(other_worker, (folder, port, command))
    try:
        worker(0, folder, port, command)
        other.join()
    finally:
        other.kill()
    assert other.exitcode == 0, (folder / "output").read_text()
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_both_processes_end_with_equal_weights(run):
    first, second = run[1]
    for name, found in first.items():
        torch.testing.assert_close(found, second[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("name", SHAPES)
def test_shared_minibatches_give_the_steps_of_one_process(run, name):
    alone = fitted(name, Processes())
    torch.testing.assert_close(run[1][0][name], alone, rtol=2e-4, atol=2e-5)
    untrained = make_policy(GROUPS, 2, SHAPES[name], 3).state_dict()
    assert max(float((alone[k] - v).abs().max()) for k, v in untrained.items()) > 0.02, "the steps moved the weights"


def test_a_shared_merge_is_the_merge_of_one_process(run, tmp_path):
    folder, (found, _) = run
    alone = merged(tmp_path / "whole")
    assert found["whole"]["retention"] == pytest.approx(alone["retention"], rel=1e-3)
    torch.testing.assert_close(found["whole"]["weights"], alone["weights"], rtol=5e-3, atol=5e-4)
    shards = [LabeledData.open(place / "whole").manifest.shards for place in (folder, tmp_path)]
    first = [{shard.skill: shard.sha256 for shard in part if shard.round == 0} for part in shards]
    assert len(first[0]) == 3
    assert first[0] == first[1], "labeled states of the experts' round do not depend on the number of processes"


def test_an_interrupted_merge_goes_on_to_the_same_weights(run):
    found = run[1][0]
    torch.testing.assert_close(found["parts"], found["whole"], rtol=0, atol=0)


def test_recorded_data_are_merged_alike(run, tmp_path):
    alone = merge_data([run[0] / "whole"], tmp_path / "again", DATA)
    weights = dict(load_policy(alone.policy_path).policy.state_dict())
    torch.testing.assert_close(run[1][0]["data"], weights, rtol=2e-4, atol=2e-5)


def test_another_number_of_processes_cannot_resume(run, tmp_path):
    with pytest.raises(ConfigError, match=r"begun by 2 process\(es\), now there are 1.*torchrun --nproc-per-node 2"):
        merged(run[0] / "whole", resume=True)
    merge_experts(teachers()[:1], tmp_path / "one", replace(TINY, rounds=1))
    assert "processes" not in json.loads((tmp_path / "one" / "config.json").read_text())


def test_the_command_prints_and_writes_once(run):
    folder = run[0]
    told = [json.loads((folder / f"command {rank}").read_text()) for rank in (0, 1)]
    assert [one["codes"] for one in told] == [[0, 2], [0, 2]]
    first, second = (one["printed"] for one in told)
    assert first.count("retention biped/flat") == 1
    assert "error: torchrun started 2 processes, but only policykd merge shares its work" in " ".join(first.split())
    second += (folder / "output").read_text()
    assert not [line for line in second.splitlines() if "Gloo" not in line]  # gloo may say how it finds its address
    manifest = load_policy(folder / "command").manifest
    assert manifest.skills == ("biped/flat", "biped/gaps")
    assert json.loads((folder / "command" / "config.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"device": "cuda"},
            "merge.device is cuda; the 2 processes of torchrun can share a merge with merge.device=cpu",
        ),
        (
            {"stop": "confirmed", "beta": "constant:0", "critic": "none"},
            "merge.stop is confirmed; the 2 processes of torchrun can share a merge with merge.stop=validations only",
        ),
        ({"minibatch": 1}, "merge.minibatch is 1, which cannot be shared by 2 processes"),
    ],
)
def test_what_processes_cannot_share_is_refused(changes, text):
    config = replace(TINY, **changes)
    with pytest.raises(ConfigError, match=text):
        check_parallel(Processes(0, 2), config)
    check_parallel(Processes(), config)


def test_shares_cover_everything_once():
    for count in (0, 1, 5, 6, 7):
        rows = list(range(count))
        parts = [Processes(rank, 3) for rank in range(3)]
        assert [row for part in parts for row in rows[part.share(count)]] == rows
        assert sorted(i for part in parts for i in part.mine(count)) == rows
    assert [Processes(rank, 3).share(5) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == processes() == Processes(0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("RANK", "3")
    assert launched() == Processes(3, 4)
    assert not launched().first
    monkeypatch.setattr("policykd.parallel.usable_cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert [launched().threads(None), launched().threads(3), Processes().threads(None)] == [2, 3, None]
