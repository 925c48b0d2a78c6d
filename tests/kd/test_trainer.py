"""The distiller learns, resumes to the bit, selects on validation, logs the truth and exports a clean student."""

import copy
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from policykd.kd.losses import CE, CRD, KD, SP
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Linear
from policykd.kd.objective.teachers import TeacherError
from policykd.kd.objective.terms import Term
from policykd.kd.training.checkpoint import CheckpointError, load, save
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.export import load_weights, save_weights
from policykd.kd.training.logs import JSONLines, ProgressBar, TensorBoard, read_records
from policykd.kd.training.teacher_cache import TeacherCache
from policykd.schedules import Ramp


def data(samples: int = 60, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (samples,), generator=generator)
    centers = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    return centers[y] + torch.randn(samples, 4, generator=generator), y


TRAIN, VAL = data(60), data(40, seed=1)


def parts():
    torch.manual_seed(0)
    student, teacher = MLP((4,), (6, 6), classes=3, dropout=0.2), MLP((4,), (9, 8), classes=3).eval()
    objective = Objective(
        ce=CE(),
        kd=Ramp(0.0, 0.5, steps=2.0) * Term(KD()),
        sp=Term(SP()).on("hidden1"),
        hint=Term(nn.MSELoss()).on("hidden2", student_proj=Linear()),
        crd=0.01 * Term(CRD(60, 6, 9, dim=4, negatives=5)).on("hidden1"),
    )
    return student, teacher, objective


CONFIG = TrainConfig(
    epochs=4,
    batch_size=16,
    scheduler=SchedulerConfig("cosine", warmup=1.0),
    optimizer=OptimizerConfig(lr=0.1),
    checkpoint_steps=3,
    log_steps=1,
)


def noise(x, generator):
    legacy = float(np.random.rand()) + random.random()  # noqa: NPY002 - people's augmentations draw from these
    return x + 0.1 * torch.randn(x.shape, generator=generator) + 0.01 * legacy


class StopAt:
    """Raises like a person at the keyboard once a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def open(self, step): ...

    def write(self, record):
        if record["kind"] == "step" and record["step"] == self.step:
            raise KeyboardInterrupt

    def close(self): ...


def weights(run: Distiller):
    return {**run.student.state_dict(), **{f"o/{k}": v for k, v in run.objective.state_dict().items()}}


@pytest.mark.parametrize(("stop", "optimizer"), [(1, "sgd"), (7, "sgd"), (8, "sgd"), (14, "sgd"), (7, "adam")])
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(tmp_path, stop, optimizer):
    config = replace(CONFIG, optimizer=OptimizerConfig(optimizer, lr=0.1 if optimizer == "sgd" else 0.01))
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    whole = Distiller(*parts(), config, folder=tmp_path / "a", logs=[JSONLines(tmp_path / "a")])
    whole.fit(TRAIN, VAL, augment=noise)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    broken = Distiller(*parts(), config, folder=tmp_path / "b", logs=[JSONLines(tmp_path / "b"), StopAt(stop)])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(TRAIN, VAL, augment=noise)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    if stop < 3:  # nothing was stored yet: a resumed run begins anew
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
    resumed = Distiller(*parts(), config, folder=tmp_path / "b", logs=[JSONLines(tmp_path / "b")])
    resumed.fit(TRAIN, VAL, augment=noise, resume=True)
    expected, got = weights(whole), weights(resumed)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(got[key], value), key

    def lines(folder):
        records = [r for r in read_records(tmp_path / folder / "log.jsonl") if r["kind"] in ("step", "epoch")]
        return [{k: v for k, v in r.items() if k != "seconds"} for r in records]

    assert lines("b") == lines("a")
    assert len(lines("a")) == 16 + 4


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimizer_takes_the_steps_of_its_paper(name):
    """Kingma and Ba 2015, algorithm 1, with the decay of the weights inside (adam) or apart (adamw)."""
    start, gradients = np.array([1.0, -2.0]), [np.array([0.3, -0.1]), np.array([-0.2, 0.4])]
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    config = OptimizerConfig(name, lr=0.1, weight_decay=0.01, betas=(0.8, 0.9))
    optimizer = config.build(iter([parameter]))
    assert optimizer.defaults["fused"]
    value, first, second = start.copy(), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients, 1):
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        gradient = gradient + 0.01 * value if name == "adam" else gradient
        value = value * (1 - 0.1 * 0.01) if name == "adamw" else value
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        value = value - 0.1 * (first / (1 - 0.8**step)) / (np.sqrt(second / (1 - 0.9**step)) + 1e-8)
    np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-12)
    assert not OptimizerConfig(name).build([nn.Parameter(torch.zeros(1, device="meta"))]).defaults["fused"]


def test_two_runs_agree_and_seeds_differ_and_the_callers_random_state_survives():
    def run(seed):
        student, teacher, objective = parts()
        config = TrainConfig(epochs=2, batch_size=16, seed=seed)
        return Distiller(student, teacher, objective, config).fit(TRAIN).student.state_dict()["fc.weight"]

    torch.manual_seed(3)
    expected = torch.rand(3)
    parts_state = torch.get_rng_state()
    first, second, other = run(0), run(0), run(1)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(3), expected)
    student, teacher, objective = parts()
    torch.set_rng_state(parts_state)
    Distiller(student, teacher, objective, TrainConfig(epochs=1)).fit(TRAIN)
    assert torch.equal(torch.get_rng_state(), parts_state)


def test_training_learns_and_the_teacher_helps_where_labels_are_wrong():
    x, y = data(400)
    generator = torch.Generator().manual_seed(4)
    wrong = torch.where(torch.rand(400, generator=generator) < 0.6, torch.randint(0, 3, (400,), generator=generator), y)
    config = TrainConfig(epochs=8, batch_size=32, optimizer=OptimizerConfig(lr=0.1))
    torch.manual_seed(0)
    teacher = Distiller(MLP((4,), (16,), classes=3), None, Objective(ce=CE()), config).fit((x, y)).export()
    before = MLP((4,), (6,), classes=3)
    students = [copy.deepcopy(before) for _ in range(2)]
    Distiller(students[0], teacher, Objective(ce=CE()), config).fit((x, wrong))
    Distiller(students[1], teacher, Objective(kd=KD()), config).fit((x, wrong))
    scores = [accuracy(student, data(400, seed=9)) for student in students]
    assert accuracy(teacher, data(400, seed=9)) > 0.75
    assert scores[1] > accuracy(before, data(400, seed=9)) + 0.2
    assert scores[1] > scores[0]


def test_best_selection_uses_validation_and_keeps_the_earliest_best(tmp_path):
    student, teacher, objective = parts()
    config = TrainConfig(epochs=6, batch_size=16, select="best", optimizer=OptimizerConfig(lr=0.5))
    run = Distiller(student, teacher, objective, config, logs=[JSONLines(tmp_path)]).fit(TRAIN, VAL)
    scores = [record["val_accuracy"] for record in run.history]
    end = read_records(tmp_path / "log.jsonl")[-1]
    assert end["best_epoch"] == 1 + scores.index(max(scores))
    assert end["best_val_accuracy"] == max(scores)
    assert accuracy(run.export(), VAL) == max(scores)
    assert accuracy(run.student, VAL) == scores[-1]
    with pytest.raises(ValueError, match="select='best' needs validation data"):
        Distiller(*parts(), config).fit(TRAIN)


def test_a_tie_keeps_the_earlier_weights():
    student, teacher, objective = parts()
    config = TrainConfig(epochs=3, batch_size=16, select="best", optimizer=OptimizerConfig(lr=1e-7))
    run = Distiller(student, teacher, objective, config).fit(TRAIN, VAL)
    assert len({record["val_accuracy"] for record in run.history}) == 1
    first = Distiller(*parts(), replace(config, epochs=1)).fit(TRAIN, VAL)
    assert torch.equal(run.export().fc.weight, first.export().fc.weight)
    assert not torch.equal(run.student.fc.weight, run.export().fc.weight)


def test_the_export_is_the_bare_student():
    student, teacher, objective = parts()
    keys = list(student.state_dict())
    clean = Distiller(student, teacher, objective, TrainConfig(epochs=1)).fit(TRAIN).export()
    assert type(clean) is MLP
    assert list(clean.state_dict()) == keys
    assert not clean.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in clean.modules())
    assert all(p.grad is None for p in clean.parameters())
    assert clean is not student


def test_logs_agree_with_one_another(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = [JSONLines(tmp_path), TensorBoard(tmp_path / "tb"), ProgressBar()]
    run = Distiller(*parts(), CONFIG, logs=logs).fit(TRAIN, VAL)
    records = read_records(tmp_path / "log.jsonl")
    assert records[0]["kind"] == "start"
    assert records[0]["config"]["optimizer"]["lr"] == 0.1
    assert [r["epoch"] for r in records if r["kind"] == "epoch"] == [1, 2, 3, 4]
    assert [r for r in records if r["kind"] == "epoch"] == run.history
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    shown = [round(e.value, 5) for e in events.Scalars("epoch/loss")]
    assert shown == pytest.approx([r["loss"] for r in run.history], abs=1e-5)
    weights = {name: run.history[-1][f"weight/{name}"] for name in ("ce", "kd", "sp", "hint", "crd")}
    assert run.history[-1]["loss"] == pytest.approx(
        sum(w * run.history[-1][f"term/{n}"] for n, w in weights.items()), rel=0.02
    )


def test_learning_rates_follow_the_schedule():
    step = SchedulerConfig("multistep", milestones=(2.0, 3.0), gamma=0.1)
    assert [step.factor(e, 4) for e in (0, 1.9, 2.0, 3.5)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = SchedulerConfig("cosine", floor=0.1, warmup=1.0)
    assert [cosine.factor(e, 4) for e in (0.0, 4.0)] == pytest.approx([0.0, 0.1])
    run = Distiller(*parts(), TrainConfig(epochs=4, scheduler=step)).fit(TRAIN)
    assert [r["lr"] for r in run.history] == pytest.approx([0.05, 0.05, 0.005, 0.0005])
    for bad in ({"kind": "linear"}, {"kind": "multistep"}):
        with pytest.raises(ValueError, match=r"scheduler is|needs milestones"):
            SchedulerConfig(**bad)
    for bad in ({"epochs": 0}, {"select": "test"}, {"micro_batches": 99}, {"checkpoint_steps": 0}):
        with pytest.raises(ValueError, match=r"at least 1|'last' or 'best'|do not fit"):
            TrainConfig(**bad)


def test_checkpoints_round_trip_and_are_refused_when_damaged_or_foreign(tmp_path):
    file = tmp_path / "c.safetensors"
    tree = {"a": torch.arange(3), "b": [1, 2.5, None, "x", True], "t": (1, torch.tensor(2.0)), "n": {0: {"m": 1}}}
    save(file, tree)
    got = load(file)
    assert torch.equal(got["a"], tree["a"])
    assert got["b"] == tree["b"]
    assert got["t"][0] == 1
    assert got["n"] == {0: {"m": 1}}
    with pytest.raises(TypeError, match="cannot store a set at /s"):
        save(file, {"s": {1}})
    assert torch.equal(load(file)["a"], tree["a"])  # a failed write leaves the old file
    assert len(list(tmp_path.iterdir())) == 1
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match=rf"c.safetensors is damaged .* size is {len(whole) - 4} bytes"):
        load(file)
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "none")
    save_weights(nn.Linear(2, 2), file)
    with pytest.raises(CheckpointError, match="no checkpoint of this library"):
        load(file)


def test_resuming_needs_the_same_configuration_and_networks(tmp_path):
    student, teacher, objective = parts()
    config = TrainConfig(epochs=1, batch_size=16)
    Distiller(student, teacher, objective, config, folder=tmp_path).fit(TRAIN)
    other = TrainConfig(epochs=1, batch_size=32)
    with pytest.raises(CheckpointError, match="batch_size 16 -> 32"):
        Distiller(*parts(), other, folder=tmp_path).fit(TRAIN, resume=True)
    with pytest.raises(CheckpointError, match="does not fit this student and objective"):
        Distiller(MLP((4,), (7, 6), classes=3), teacher, Objective(ce=CE()), config, folder=tmp_path).fit(
            TRAIN, resume=True
        )
    with pytest.raises(ValueError, match="resume needs a folder"):
        Distiller(*parts(), config).fit(TRAIN, resume=True)


def test_a_log_line_cut_short_is_dropped(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps({"kind": "step", "step": 1}) + '\n{"kind": "st')
    assert read_records(file) == [{"kind": "step", "step": 1}]


def test_weights_are_saved_with_facts_and_checked_on_loading(tmp_path):
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(first, tmp_path / "w.safetensors", {"accuracy": 0.5})
    assert load_weights(second, tmp_path / "w.safetensors") == {"accuracy": 0.5}
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(ValueError, match=r"'weight' is \(2, 3\) in the file and \(2, 4\) in the module"):
        load_weights(nn.Linear(4, 2), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_weights(first, tmp_path / "none")


def trained(teacher, config, train=TRAIN):
    torch.manual_seed(0)
    student = MLP((4,), (6, 6), classes=3)
    objective = Objective(ce=CE(), kd=Term(KD()), sp=Term(SP()).on("hidden1"))
    run = Distiller(student.double(), teacher, objective, config).fit(train)
    return torch.cat([p.detach().flatten() for p in run.student.parameters()])


def test_a_cached_teacher_trains_the_same_student_as_the_live_one(tmp_path):
    teacher = parts()[1].double()
    x, y = TRAIN[0].double(), TRAIN[1]
    index = torch.arange(len(x))
    cache = TeacherCache.write(tmp_path / "t", teacher, [(x, index)], samples=len(x), taps=["hidden1"])
    config = TrainConfig(epochs=3, batch_size=16, seed=2)
    live = trained(teacher, config, (x, y))
    torch.testing.assert_close(trained(cache, config, (x, y)), live, rtol=1e-12, atol=0)
    shifted = TeacherCache(cache.logits[::-1], {"hidden1": cache.features["hidden1"][::-1]})
    assert not torch.allclose(trained(shifted, config, (x, y)), live)  # so the sample indices do matter


def test_micro_batches_and_map_style_data_train_the_same_student():
    teacher = parts()[1].double()
    x, y = TRAIN[0].double(), TRAIN[1]
    config = TrainConfig(epochs=3, batch_size=16)
    whole = trained(teacher, config, (x, y))
    split = trained(teacher, replace(config, micro_batches=4), (x, y))
    torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-12)
    mapped = trained(teacher, config, [(x[i], int(y[i])) for i in range(len(x))])
    assert torch.equal(mapped, whole)


def test_mixed_precision_training_learns_and_keeps_float32_weights():
    student, teacher, _ = parts()
    config = TrainConfig(epochs=20, batch_size=16, amp=True, optimizer=OptimizerConfig(lr=0.1))
    run = Distiller(student, teacher, Objective(ce=CE()), config).fit(TRAIN, VAL)
    assert {p.dtype for p in run.student.parameters()} == {torch.float32}
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert run.history[-1]["val_accuracy"] > 0.6


def test_gradients_are_clipped_and_bad_teachers_stop_the_run_before_it_starts():
    student, teacher, objective = parts()
    before = [p.detach().clone() for p in student.parameters()]
    plain = OptimizerConfig(lr=1.0, momentum=0.0, weight_decay=0.0)
    Distiller(student, teacher, objective, TrainConfig(epochs=1, batch_size=60, clip_norm=1e-3, optimizer=plain)).fit(
        TRAIN
    )
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(student.parameters(), before, strict=True)])
    assert 0 < float(moved.norm()) <= 1e-3 * 1.001
    with pytest.raises(TeacherError, match="train mode"):
        Distiller(student, teacher.train(), objective, TrainConfig(epochs=1)).fit(TRAIN)
