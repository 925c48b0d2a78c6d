"""Parts of training at their edges: files of data, logs, optimizers, checkpoints, teachers' batches, flatness."""

import json
import zipfile

import pytest
import torch
from torch import nn

from policykd.errors import ConfigError, ShapeError
from policykd.kd.data.files import DataFileError
from policykd.kd.data.source import MEGABYTE, Source, package_source
from policykd.kd.flatness import hessian_vector_product, hutchinson_trace, sam_sharpness, top_eigenvalue
from policykd.kd.losses import CE, KD
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.signals import Signals
from policykd.kd.training import Distiller, TrainConfig, run_files
from policykd.kd.training.logs import JSONLines, Logs, read_records
from policykd.kd.training.optimizers import Optimization, named_parameters, parameter_groups


def archive(path, names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"12345" if not name.endswith("/") else b"")
    return Source(path)


def folder(path, names):
    for name in names:
        place = path / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"12345")
    return Source(path)


NAMES = ("a/", "a/two.TS", "a/one.ts", "a/note.txt", "a/b/", "a/b/deep.ts", "top.ts", "a/c/also.ts")


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_names_are_those_directly_in_a_folder(kind, tmp_path):
    source = archive(tmp_path / "x.whl", NAMES) if kind == "archive" else folder(tmp_path / "x", NAMES)
    assert source.names("a", ".ts") == ["a/one.ts", "a/two.TS"]
    assert source.names("a", ".txt", ".csv") == ["a/note.txt"]
    assert source.names("a/b", ".ts") == ["a/b/deep.ts"]
    with pytest.raises(DataFileError, match=r"holds no \.csv or \.npy file in 'a'"):
        source.names("a", ".csv", ".npy")
    with pytest.raises(DataFileError, match=r"holds no \.ts file in 'elsewhere'"):
        source.names("elsewhere", ".ts")
    assert source.read("a/one.ts", limit=5) == source.read("top.ts") == b"12345"
    with pytest.raises(DataFileError, match=r"a/one\.ts has 5 bytes, expected at most 4"):
        source.read("a/one.ts", limit=4)
    with pytest.raises(DataFileError, match=r"has no file a/three\.ts"):
        source.read("a/three.ts")
    assert MEGABYTE == 1024**2


def test_folders_and_what_is_outside_of_them(tmp_path):
    source = folder(tmp_path / "x", NAMES)
    assert source.folders("a") == ["b", "c"]
    assert source.folders("none") == []
    assert source.folder == tmp_path / "x"
    (tmp_path / "secret").write_text("s")
    with pytest.raises(DataFileError, match=r"\.\./secret is a file outside that folder"):
        source.read("../secret")
    packed = archive(tmp_path / "x.zip", NAMES)
    with pytest.raises(DataFileError, match="is an archive; unpack it and name the folder"):
        packed.folders("a")
    with pytest.raises(DataFileError, match="does not exist"):
        Source(tmp_path / "missing")
    with pytest.raises(DataFileError, match="not a folder, wheel or zip archive"):
        Source(tmp_path / "secret")
    assert package_source("x", "x", tmp_path / "x.zip").read("top.ts") == b"12345"
    assert (package_source("torch", "torch").root / "torch" / "__init__.py").is_file()


def test_a_log_is_made_in_a_new_folder_and_keeps_what_is_not_run_again(tmp_path):
    log = JSONLines(tmp_path / "a" / "b")
    assert log.path == tmp_path / "a" / "b" / "log.jsonl"
    log.close()  # before it was opened
    with Logs((log,), 0) as logs:
        for step in (1, 2, 3):
            logs.write({"kind": "step", "step": step})
        logs.write({"kind": "note"})
        logs.write({"kind": "end", "step": 2})
    assert len(read_records(log.path)) == 5
    with Logs((log,), 2) as logs:
        logs.write({"kind": "step", "step": 3, "again": True})
    expected = [{"kind": "step", "step": 1}, {"kind": "step", "step": 2}, {"kind": "note"},
                {"kind": "step", "step": 3, "again": True}]  # fmt: skip
    assert read_records(log.path) == expected
    with Logs((log,), 0):
        pass
    assert read_records(log.path) == []
    own = JSONLines(tmp_path / "own.jsonl")
    with Logs((own,), 5):  # resumed, but the file is not there
        own.write({"kind": "step"})
        assert json.loads(own.path.read_text()) == {"kind": "step"}, "lines are written at once"


def test_groups_may_leave_no_parameter_over():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    named = named_parameters(network, nn.Linear(1, 1))
    assert [name for name, _ in named][-2:] == ["objective.weight", "objective.bias"]
    whole = parameter_groups(named, {"*.bias": {"lr": 0.5}, "*": {"weight_decay": 0.1}})
    assert [sorted(group) for group in whole] == [["lr", "params"], ["params", "weight_decay"]]
    assert [len(group["params"]) for group in whole] == [3, 3]
    some = parameter_groups(named, {"0.bias": {"lr": 9.0}, "0.*": {"lr": 0.5}})
    assert [len(group["params"]) for group in some] == [4, 1, 1]
    assert "lr" not in some[0]
    assert parameter_groups(named, {}) == [parameter for _, parameter in named]
    network[0].weight.requires_grad_(False)
    assert len(parameter_groups(named, {})) == 5
    with pytest.raises(ConfigError, match=r"parameter group '0.weight' matches no trained parameter; there are 0.bias"):
        parameter_groups(named, {"0.weight": {}})
    with pytest.raises(ConfigError, match="nothing is trained"):
        parameter_groups([("a", torch.zeros(1))], {})


class Counting:
    """A scheduler that counts its steps."""

    def __init__(self, optimizer):
        self.steps = 0

    def step(self):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


@pytest.mark.parametrize(("every", "expected"), [("step", (1, 1)), ("epoch", (0, 1))])
def test_a_scheduler_steps_when_it_should(every, expected):
    parameters = [nn.Parameter(torch.zeros(1))]
    made = Optimization(parameters, TrainConfig(), 3, scheduler=Counting, every=every)
    rate = made.optimizer.param_groups[0]["lr"]
    made.set_rates(2.5)
    assert made.optimizer.param_groups[0]["lr"] == rate
    made.after_step()
    first = made.scheduler.steps
    made.after_epoch(None)
    assert (first, made.scheduler.steps) == expected
    state = made.state_dict()
    assert state["scheduler"] == {"steps": 1}
    other = Optimization(parameters, TrainConfig(), 3, scheduler=Counting, every=every)
    other.load_state_dict(state)
    assert other.scheduler.steps == 1
    for lacking in ({"optimizer": state["optimizer"]}, {**state, "scheduler": None}):
        with pytest.raises(ValueError, match="no state of a scheduler"):
            other.load_state_dict(lacking)
    plain = Optimization(parameters, TrainConfig(), 3)
    plain.load_state_dict(state)
    plain.after_step()
    plain.after_epoch(None)
    assert plain.state_dict()["scheduler"] is None


@pytest.mark.parametrize(("every", "saves"), [(None, [4, 8]), (2, [2, 4, 6, 8]), (4, [4, 8]), (3, [3, 4, 6, 8])])
def test_checkpoints_are_written_once_at_a_step(every, saves, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(run_files, "save", lambda folder, tree: written.append(tree["state"]["step"]))
    torch.manual_seed(0)
    x, y = torch.randn(16, 3), torch.arange(16) % 2
    config = TrainConfig(epochs=2, batch_size=4, checkpoint_steps=every)
    Distiller(nn.Linear(3, 2), None, Objective(ce=CE()), config, folder=tmp_path).fit((x, y))
    assert written == saves


def test_a_teacher_must_answer_for_the_whole_batch():
    logits, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    for validate in (True, False):
        objective = Objective(kd=KD(), validate=validate)
        good = {"t": Signals(torch.ones(4, 3), {})}
        assert float(objective.combine(Signals(logits, {}), good, labels).loss) == pytest.approx(0.0, abs=1e-6)
    checking = Objective(kd=KD())
    with pytest.raises(ShapeError, match=r"teacher 't' gives \(3, 3\).* for a batch of 4"):
        checking.combine(Signals(logits, {}), {"t": Signals(torch.ones(3, 3), {})}, labels)
    for part, signals in (("logits", Signals(torch.full((4, 3), torch.nan), {})),
                          ("layer", Signals(torch.ones(4, 3), {"layer": torch.full((4, 2), torch.inf)}))):  # fmt: skip
        with pytest.raises(ValueError, match=f"teacher 't': {part}"):
            checking.combine(Signals(logits, {}), {"t": signals}, labels)


def test_teachers_that_a_term_needs_are_named():
    two = Objective(kd=KD(), ce=CE())
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    student = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"term 'kd' \(KD\) needs a teacher, none was given"):
        two(student, None, x, y)
    assert (two.needs_teacher, Objective(ce=CE()).needs_teacher) == (True, False)
    assert float(Objective(ce=CE())(student, None, x, y).loss.detach()) > 0


def test_weights_on_which_the_loss_does_not_depend_are_flat():
    used, unused = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (2.0, 5.0))
    product = hessian_vector_product(lambda: (1.5 * used**2).sum(), [unused, used])
    assert product(torch.tensor([1.0, 1.0], dtype=torch.float64)).tolist() == [0.0, 3.0]
    found = sam_sharpness(lambda: (1.5 * used**2).sum(), [unused, used], radius=0.5)
    assert found == pytest.approx(1.5 * (2.5**2 - 2.0**2), rel=1e-12)
    assert (float(used.detach()), float(unused.detach())) == (2.0, 5.0)
    linear = hessian_vector_product(lambda: 3.0 * used.sum(), [used, unused])
    assert linear(torch.ones(2, dtype=torch.float64)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("curvature", "expected"), [(3.0, 0.5 * 0.25 * 3.0), (-3.0, 0.0)])
def test_at_a_stationary_point_sharpness_is_that_of_the_curvature(curvature, expected):
    at = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert sam_sharpness(lambda: 0.5 * curvature * (at**2).sum(), [at], radius=0.5) == pytest.approx(expected)
    with pytest.raises(ConfigError, match="radius is 0"):
        sam_sharpness(lambda: (at**2).sum(), [at], radius=0)


def test_the_error_of_a_trace_and_the_first_iteration():
    probes = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    estimate, error = hutchinson_trace(lambda v: matrix @ v, probes)  # 7, 3, 3
    assert estimate == pytest.approx(13 / 3)
    assert error == pytest.approx((((7 - 13 / 3) ** 2 + 2 * (3 - 13 / 3) ** 2) / 2) ** 0.5 / 3**0.5)
    assert hutchinson_trace(lambda v: matrix @ v, probes[:1]) == (7.0, 0.0)
    start = torch.tensor([3.0, 4.0], dtype=torch.float64)
    value, vector = top_eigenvalue(lambda v: matrix @ v, start, iterations=1)
    assert value == pytest.approx((9 * 2 + 2 * 12 * 1 + 16 * 3) / 25)
    torch.testing.assert_close(vector, torch.tensor([10.0, 15.0], dtype=torch.float64) / 325**0.5)
    for bad in ({"iterations": 0}, {"start": torch.zeros(2)}):
        with pytest.raises(ConfigError):
            top_eigenvalue(lambda v: v, **{"start": start, **bad})
