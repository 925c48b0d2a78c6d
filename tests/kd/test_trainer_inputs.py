"""The distiller takes loaders, dict batches, any optimizer and scheduler, frozen layers, averages and stages."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from policykd.kd.losses import CE, CRD, FT, KD, FitNet
from policykd.kd.networks import MLP, CNN1d
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import Linear
from policykd.kd.objective.teachers import TeacherError
from policykd.kd.training.averaging import Averaging, refresh_statistics
from policykd.kd.training.batches import Batches
from policykd.kd.training.checkpoint import CheckpointError
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.fields import Fields
from policykd.kd.training.loaders import LoaderBatches, draws_at_random
from policykd.kd.training.modes import freeze, frozen_layers
from policykd.kd.training.stages import Reconstruction, Stage
from policykd.kd.training.teacher_cache import TeacherCache
from policykd.kd.training.variants import Variants

PLAIN = OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0)


def data(samples=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (samples,), generator=generator)
    return torch.eye(3, 4)[y] * 2 + torch.randn(samples, 4, generator=generator), y


X, Y = data()
VAL = data(30, seed=1)


def pair(**options):
    torch.manual_seed(0)
    return MLP((4,), (6, 6), classes=3, **options), MLP((4,), (9, 8), classes=3).eval()


def weights(network):
    return torch.cat([value.detach().flatten() for value in network.state_dict().values()])


class Jittered(Dataset):
    """Samples whose transform draws from all three global generators."""

    def __len__(self):
        return len(X)

    def __getitem__(self, position):
        noise = torch.randn(4) + float(np.random.rand())  # noqa: NPY002
        return {"features": X[position] + 0.1 * noise, "label": int(Y[position])}


# ---- loaders ---------------------------------------------------------------------------------------------------------
def run_over_loader(folder, workers, logs=()):
    """Return a distiller and the loader of its training data."""
    student, teacher = pair(dropout=0.2)
    loader = DataLoader(Jittered(), batch_size=8, shuffle=True, num_workers=workers)
    objective = Objective(ce=CE(), kd=KD(), crd=0.01 * CRD(40, 6, 9, dim=4, negatives=5).on("hidden1"))
    config = TrainConfig(epochs=2, checkpoint_steps=1, log_steps=1, optimizer=PLAIN)
    return Distiller(student, teacher, objective, config, folder=folder, logs=logs), loader


@pytest.fixture(scope="module")
def uninterrupted(request, tmp_path_factory):
    """Number of the loader's workers, and the run that was not interrupted."""
    whole, loader = run_over_loader(tmp_path_factory.mktemp("whole"), request.param)
    return request.param, whole.fit(loader)


@pytest.mark.parametrize(("uninterrupted", "stop"), [(0, 2), (0, 5), (0, 7), (2, 7)], indirect=["uninterrupted"])
def test_a_run_over_a_loader_is_resumed_to_the_bit(tmp_path, uninterrupted, stop):
    workers, whole = uninterrupted

    class Stop:
        def open(self, step): ...

        def close(self): ...

        def write(self, record):
            if record["kind"] == "step" and record["step"] == stop:
                raise KeyboardInterrupt

    broken, loader = run_over_loader(tmp_path, workers, [Stop()])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(loader)
    resumed, loader = run_over_loader(tmp_path, workers)
    resumed.fit(loader, resume=True)
    assert torch.equal(weights(resumed.student), weights(whole.student))
    assert torch.equal(weights(resumed.objective), weights(whole.objective))


def test_a_loader_gives_sample_indices_and_leaves_the_callers_draws_alone():
    loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)
    batches = LoaderBatches(loader, seed=3)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = list(batches.epoch(0))
    assert torch.equal(torch.rand(2), expected)
    assert [len(batch.index) for batch in first] == [16, 16, 8]
    assert sorted(torch.cat([batch.index for batch in first]).tolist()) == list(range(40))
    for batch in first:
        assert torch.equal(batch.x, X[batch.index])
        assert torch.equal(batch.targets, Y[batch.index])
    again, other = list(batches.epoch(0, start=1)), list(batches.epoch(1))
    assert torch.equal(again[0].index, first[1].index)
    assert not torch.equal(other[0].index, first[0].index)
    own = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(9))
    orders = [[b.index for b in LoaderBatches(own, seed=3).epoch(0)] for _ in range(2)]
    assert torch.equal(torch.cat(orders[0]), torch.cat(orders[1]))


def test_a_loader_trains_the_student_that_the_same_batches_train():
    student, teacher = pair()
    order = np.random.default_rng([0, 0]).permutation(40)
    loader = DataLoader(TensorDataset(X, Y), batch_sampler=[order[i : i + 8].tolist() for i in range(0, 40, 8)])
    config = TrainConfig(epochs=1, batch_size=8, optimizer=PLAIN)
    other = copy.deepcopy(student)
    Distiller(student, teacher, Objective(ce=CE(), kd=KD()), config).fit(loader, DataLoader(TensorDataset(*VAL), 7))
    Distiller(other, teacher, Objective(ce=CE(), kd=KD()), config).fit((X, Y), VAL)
    assert torch.equal(weights(student), weights(other))


class Stream(IterableDataset):
    def __len__(self):
        return len(X)

    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def test_iterable_data_train_without_indices_and_say_so():
    student, teacher = pair()
    config = TrainConfig(epochs=1, optimizer=PLAIN)
    run = Distiller(student, teacher, Objective(ce=CE(), kd=KD()), config).fit(DataLoader(Stream(), batch_size=8))
    assert run.history[0]["step"] == 5
    cache = TeacherCache(teacher(X).detach().numpy())
    with pytest.raises(TeacherError, match="keyed by sample index"):
        Distiller(student, cache, Objective(kd=KD()), config).fit(DataLoader(Stream(), batch_size=8))
    with pytest.raises(ValueError, match="must make batches"):
        LoaderBatches(DataLoader(TensorDataset(X, Y), batch_size=None))


# ---- fields ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "item", "x", "targets"),
    [
        (Fields(), (1, 2), 1, 2),
        (Fields(), {"image": 1, "label": 2}, 1, 2),
        (Fields(), {"a": 1, "b": 3, "labels": 2}, {"a": 1, "b": 3}, 2),
        (Fields(targets="b"), {"a": 1, "b": 2}, 1, 2),
        (Fields(inputs="a", targets="c"), {"a": 1, "b": 3, "c": 2}, 1, 2),
        (Fields(inputs=["a", "b"]), {"a": 1, "b": 3, "y": 2, "id": 9}, {"a": 1, "b": 3}, 2),
        (Fields(inputs=[0, 2], targets=1), (1, 2, 3), (1, 3), 2),
        (Fields(), {"a": 1, "b": 3}, {"a": 1, "b": 3}, None),
    ],
)
def test_fields_are_read(fields, item, x, targets):
    parts = fields.read(item)
    assert parts.x == x
    assert parts.targets == targets


def test_masks_and_weights_are_fields():
    parts = Fields(mask="mask", weights="w").read({"ids": 1, "mask": 2, "w": 3, "labels": 4})
    assert parts == ({"ids": 1, "mask": 2}, 4, 2, 3)


@pytest.mark.parametrize(
    ("fields", "item", "message"),
    [
        (Fields(), (1, 2, 3), "a batch has 3 entries: say which are what"),
        (Fields(), {"labels": 1, "y": 2, "x": 3}, r"has labels and y: say Fields\(targets='labels'\)"),
        (Fields(targets="tag"), {"x": 1}, r"no entry 'tag'; it has \['x'\]"),
        (Fields(inputs=5), (1, 2), "no entry 5; it has 2 entries"),
        (Fields(), 3, "a tuple or a mapping, not a int"),
    ],
)
def test_batches_that_cannot_be_read_are_described(fields, item, message):
    with pytest.raises(ValueError, match=message):
        fields.read(item)


# ---- optimizers and schedulers ---------------------------------------------------------------------------------------
def test_any_optimizer_with_groups_takes_the_steps_of_a_loop_by_hand():
    student, teacher = pair()
    other = copy.deepcopy(student)
    objective = Objective(ce=CE(), hint=FitNet().on("hidden1", student_proj=Linear(6, 9)))
    projector = copy.deepcopy(objective.student_projectors["hint"][0])
    run = Distiller(
        student,
        teacher,
        objective,
        TrainConfig(epochs=2, batch_size=20, clip_norm=None),
        optimizer=partial(torch.optim.RMSprop, lr=0.01),
        groups={"fc.*": {"lr": 0.02}, "objective.*": {"lr": 0.005}},
        scheduler=partial(StepLR, step_size=1, gamma=0.5),
    ).fit((X, Y))
    groups = [
        {"params": [p for n, p in other.named_parameters() if not n.startswith("fc")]},
        {"params": list(other.fc.parameters()), "lr": 0.02},
        {"params": list(projector.parameters()), "lr": 0.005},
    ]
    optimizer = torch.optim.RMSprop(groups, lr=0.01)
    scheduler = StepLR(optimizer, 1, 0.5)
    for epoch in range(2):
        for batch in Batches((X, Y), 20).epoch(epoch):
            optimizer.zero_grad()
            hint = F.mse_loss(projector(other.hidden1(batch.x)), teacher.hidden1(batch.x))
            (F.cross_entropy(other(batch.x), batch.targets) + hint).backward()
            optimizer.step()
        scheduler.step()
    torch.testing.assert_close(weights(student), weights(other))
    assert [record["lr"] for record in run.history] == [0.01, 0.005]


def test_groups_work_with_the_configured_optimizer_and_schedule():
    student, _ = pair()
    config = TrainConfig(
        epochs=2,
        batch_size=40,
        optimizer=OptimizerConfig("adam", lr=0.01),
        scheduler=SchedulerConfig("multistep", milestones=(1,)),
    )
    run = Distiller(student, None, Objective(ce=CE()), config, groups={"fc.*": {"lr": 0.1}, "*.bias": {}})
    seen = {}

    def factory(groups):
        seen["optimizer"] = torch.optim.Adam(groups, lr=0.01)
        return seen["optimizer"]

    Distiller(student, None, Objective(ce=CE()), config, groups={"fc.*": {"lr": 0.1}}, optimizer=factory).fit((X, Y))
    assert [group["lr"] for group in seen["optimizer"].param_groups] == pytest.approx([0.001, 0.01])
    run.fit((X, Y))
    assert run.history[-1]["lr"] == pytest.approx(0.001)


def test_bad_optimizers_are_refused():
    student, _ = pair()
    objective, config = Objective(ce=CE()), TrainConfig(epochs=1)
    with pytest.raises(ValueError, match="parameter group 'head' matches no trained parameter; there are hidden1"):
        Distiller(student, None, objective, config, groups={"head": {"lr": 1.0}}).fit((X, Y))
    with pytest.raises(ValueError, match="LBFGS evaluates a batch several times"):
        Distiller(student, None, objective, config, optimizer=torch.optim.LBFGS).fit((X, Y))
    cosine = TrainConfig(epochs=1, scheduler=SchedulerConfig("cosine"))
    with pytest.raises(ValueError, match="give one scheduler"):
        Distiller(student, None, objective, cosine, scheduler=partial(StepLR, step_size=1)).fit((X, Y))
    with pytest.raises(ValueError, match="ReduceLROnPlateau follows a metric on validation data"):
        Distiller(student, None, objective, config, scheduler=ReduceLROnPlateau).fit((X, Y))
    with pytest.raises(ValueError, match="nothing is trained"):
        Distiller(student.requires_grad_(False), None, objective, config).fit((X, Y))


@pytest.mark.parametrize(
    ("scheduler", "every"),
    [
        (partial(OneCycleLR, max_lr=0.1, total_steps=15), "step"),
        (partial(CosineAnnealingLR, T_max=3), "epoch"),
        (partial(ReduceLROnPlateau, mode="min", patience=0), "epoch"),
    ],
)
def test_torch_schedulers_are_resumed_to_the_bit(tmp_path, scheduler, every):
    def run(epochs, folder):
        student, teacher = pair(dropout=0.1)
        options = {"scheduler": scheduler, "scheduler_step": every, "optimizer": partial(torch.optim.AdamW, lr=0.01)}
        objective = [Stage(Objective(ce=CE(), kd=KD()), 3)]
        config = TrainConfig(epochs=3, batch_size=8, checkpoint_epochs=1, log_steps=1)
        return Distiller(student, teacher, objective, config, folder=tmp_path / folder, logs=epochs, **options)

    whole = run((), "a").fit((X, Y), VAL)

    class Stop:
        def open(self, step): ...

        def close(self): ...

        def write(self, record):
            if record["kind"] == "step" and record["step"] == 12:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Stop()], "b").fit((X, Y), VAL)
    resumed = run((), "b").fit((X, Y), VAL, resume=True)
    assert torch.equal(weights(resumed.student), weights(whole.student))
    assert [r["lr"] for r in resumed.history] == [r["lr"] for r in whole.history]
    assert len({r["lr"] for r in whole.history}) > 1


# ---- frozen layers ---------------------------------------------------------------------------------------------------
def normalized():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    )


def test_named_layers_are_frozen_with_their_statistics():
    student = normalized()
    before = copy.deepcopy(student.state_dict())
    Distiller(student, None, Objective(ce=CE()), TrainConfig(epochs=2), frozen=["[01]"]).fit((X, Y))
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]) == (name[0] in "01"), name
    with pytest.raises(ValueError, match="frozen='stem' matches no layer of Sequential; it has 0, 1, 2"):
        freeze(student, ["stem"])


def test_an_evaluated_network_is_trained_again():
    student = normalized().eval()
    assert frozen_layers(student) == []
    student[1].requires_grad_(False)
    assert frozen_layers(student) == [student[1]]
    student.train()
    assert frozen_layers(student) == []
    student[4].eval()
    assert frozen_layers(student) == [student[4]]


# ---- averages --------------------------------------------------------------------------------------------------------
def test_ema_is_the_recursion_over_steps():
    student, _ = pair()
    path = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            path.append(weights(student))

    averaging = Averaging("ema", decay=0.7, start=1)
    config = TrainConfig(epochs=3, batch_size=20, select="last")
    run = Distiller(student, None, Objective(ce=CE()), config, optimizer=partial(Watch, lr=0.1), averaging=averaging)
    run.fit((X, Y), VAL)
    average = path[2]
    for step in path[3:]:
        average = 0.7 * average + 0.3 * step
    torch.testing.assert_close(weights(run.export()), average)
    assert torch.equal(weights(run.student), path[-1])
    logits = run.export()(VAL[0])
    assert run.history[-1]["val_accuracy"] == pytest.approx(float((logits.argmax(1) == VAL[1]).double().mean()))


def test_swa_is_the_mean_over_epochs_with_fresh_statistics():
    student, ends = normalized(), []
    objective = Objective(ce=CE())
    config = TrainConfig(epochs=4, batch_size=10, optimizer=PLAIN)

    class Watch:
        def open(self, step): ...

        def close(self): ...

        def write(self, record):
            if record["kind"] == "epoch":
                ends.append(copy.deepcopy(student.state_dict()))

    run = Distiller(student, None, objective, config, logs=[Watch()], averaging=Averaging("swa", start=1)).fit((X, Y))
    exported = run.export()
    expected = normalized()
    mean = {name: torch.stack([end[name].float() for end in ends[1:]]).mean(0) for name in ends[0]}
    expected.load_state_dict({name: value.to(ends[0][name].dtype) for name, value in mean.items()})
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(exported.get_parameter(name), parameter, rtol=1e-5, atol=1e-6)
    inputs = expected[0](X).detach()
    batches = inputs.split(10)
    torch.testing.assert_close(exported[1].running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(exported[1].running_var, torch.stack([b.var(0) for b in batches]).mean(0))


def test_fresh_statistics_leave_frozen_layers_and_momenta_alone():
    network = normalized()
    network[1].running_mean.fill_(3.0)
    refresh_statistics(network, [X], frozen=["1"])
    assert float(network[1].running_mean[0]) == 3.0
    assert float(network[4].running_mean.abs().sum()) > 0
    assert network[4].momentum == 0.1
    assert not network[4].training


def test_averages_are_resumed(tmp_path):
    def run(epochs, folder):
        student, _ = pair()
        config = TrainConfig(epochs=3, batch_size=8, select="best", log_steps=1)
        averaging = Averaging("ema", decay=0.9)
        return Distiller(
            student, None, Objective(ce=CE()), config, folder=tmp_path / folder, averaging=averaging, logs=epochs
        )

    class Stop:
        def open(self, step): ...

        def close(self): ...

        def write(self, record):
            if record["kind"] == "step" and record["step"] == 12:
                raise KeyboardInterrupt

    whole = run((), "a").fit((X, Y), VAL)
    with pytest.raises(KeyboardInterrupt):
        run([Stop()], "b").fit((X, Y), VAL)
    resumed = run((), "b").fit((X, Y), VAL, resume=True)
    assert torch.equal(weights(resumed.export()), weights(whole.export()))
    student, _ = pair()
    config = TrainConfig(epochs=3, batch_size=8, select="best")
    with pytest.raises(CheckpointError, match="averaging"):
        Distiller(student, None, Objective(ce=CE()), config, folder=tmp_path / "a").fit((X, Y), VAL, resume=True)


# ---- stages ----------------------------------------------------------------------------------------------------------
def hints_then_kd(epochs=(2, 3)):
    student, teacher = pair()
    hints = Objective(hint=FitNet().on("hidden1", student_proj=Linear()))
    return student, teacher, [Stage(hints, epochs[0]), Stage(Objective(ce=CE(), kd=KD()), epochs[1])]


def test_stages_follow_one_another_with_new_optimizers():
    student, teacher, stages = hints_then_kd()
    config = TrainConfig(batch_size=20, optimizer=PLAIN, scheduler=SchedulerConfig("cosine"))
    other = copy.deepcopy(student)
    run = Distiller(student, teacher, stages, config).fit((X, Y), VAL)
    assert [record["stage"] for record in run.history] == [0, 0, 1, 1, 1]
    assert [r["lr"] for r in run.history] == pytest.approx(
        [0.1 * SchedulerConfig("cosine").factor(e, n) for e, n in ((0.5, 2), (1.5, 2), (0.5, 3), (1.5, 3), (2.5, 3))]
    )
    assert "term/hint" in run.history[0]
    assert "term/kd" in run.history[-1]
    assert run.objective is stages[1].objective
    assert run.epochs == 5
    assert torch.equal(run.history[0]["epoch"] * torch.ones(1), torch.ones(1))
    torch.testing.assert_close(other.fc.weight, pair()[0].fc.weight)


@pytest.mark.parametrize("stop", [1, 3, 5, 9])
def test_stages_are_resumed_to_the_bit(tmp_path, stop):
    config = TrainConfig(batch_size=20, checkpoint_steps=1, log_steps=1, select="best")

    class Stop:
        def open(self, step): ...

        def close(self): ...

        def write(self, record):
            if record["kind"] == "step" and record["step"] == stop:
                raise KeyboardInterrupt

    whole = Distiller(*hints_then_kd(), config, folder=tmp_path / "a").fit((X, Y), VAL)
    with pytest.raises(KeyboardInterrupt):
        Distiller(*hints_then_kd(), config, folder=tmp_path / "b", logs=[Stop()]).fit((X, Y), VAL)
    resumed = Distiller(*hints_then_kd(), config, folder=tmp_path / "b").fit((X, Y), VAL, resume=True)
    assert torch.equal(weights(resumed.student), weights(whole.student))
    assert torch.equal(weights(resumed.export()), weights(whole.export()))
    assert [r["epoch"] for r in resumed.history] == [1, 2, 3, 4, 5]
    with pytest.raises(CheckpointError, match=r"stages \[2, 3\] -> \[2, 4\]"):
        Distiller(*hints_then_kd((2, 4)), config, folder=tmp_path / "a").fit((X, Y), VAL, resume=True)


def test_selection_is_that_of_the_last_stage():
    run = Distiller(*hints_then_kd((3, 2)), TrainConfig(batch_size=20, select="best")).fit((X, Y), VAL)
    last = [record["val_accuracy"] for record in run.history[3:]]
    exported = run.export()(VAL[0]).argmax(1)
    assert float((exported == VAL[1]).double().mean()) == pytest.approx(max(last))


def test_factor_transfer_trains_the_paraphraser_first():
    torch.manual_seed(0)
    student, teacher = CNN1d(2, (4, 6), classes=3), CNN1d(2, (5, 8), classes=3).eval()
    x, y = torch.randn(24, 2, 16), torch.arange(24) % 3
    before = copy.deepcopy(student.state_dict())
    ft = FT(6, 8, dims=1)
    start = copy.deepcopy(ft.paraphraser.state_dict())
    first = Stage(Objective(fit=Reconstruction(ft.paraphraser).on("layer2")), 3, train_student=False)
    config = TrainConfig(batch_size=8, optimizer=OptimizerConfig("adam", lr=0.01))
    run = Distiller(student, teacher, [first], config).fit((x, y))
    assert run.history[-1]["term/fit"] < run.history[0]["term/fit"]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in student.parameters())
    trained = copy.deepcopy(ft.paraphraser.state_dict())
    assert not torch.equal(trained["encoder.0.weight"], start["encoder.0.weight"])
    Distiller(student, teacher, [Stage(Objective(ce=CE(), ft=ft.on("layer2")), 2)], config).fit((x, y))
    assert all(torch.equal(value, trained[name]) for name, value in ft.paraphraser.state_dict().items())
    assert not torch.equal(student.fc.weight, before["fc.weight"])
    with pytest.raises(ValueError, match="give an Objective, or stages in order"):
        Distiller(student, teacher, [])


# ---- cached teachers -------------------------------------------------------------------------------------------------
def jitter(x, generator):
    return x + 0.3 * torch.randn(x.shape, generator=generator)


def test_a_cache_of_variants_trains_the_student_of_the_live_teacher(tmp_path):
    def run(teacher, variants):
        torch.manual_seed(0)
        student = MLP((4,), (6,), classes=3).double()
        config = TrainConfig(epochs=5, batch_size=16, optimizer=PLAIN)
        return weights(Distiller(student, teacher, Objective(kd=KD()), config).fit((x, Y), augment=variants).student)

    x, teacher = X.double(), pair()[1].double()
    variants = Variants(jitter, 3, seed=7)
    cache = TeacherCache.write_variants(tmp_path / "t", teacher, (x, Y), variants)
    assert len(cache) == 120
    assert TeacherCache.open(tmp_path / "t").variants == (3, 7)
    live = run(teacher, variants)
    torch.testing.assert_close(run(cache, variants), live, rtol=1e-12, atol=0)
    assert not torch.allclose(run(teacher, Variants(jitter, 3, seed=8)), live)
    for other in (Variants(jitter, 3, seed=8), Variants(jitter, 2, seed=7), None, jitter):
        with pytest.raises(TeacherError, match=r"for 3 augmented variants \(seed 7\), but the student sees"):
            run(cache, other)


def test_variants_do_not_depend_on_the_batch():
    variants = Variants(jitter, 2)
    index = torch.tensor([3, 7, 11])
    whole = variants.apply(X[index], index, 1)
    for place in range(3):
        assert torch.equal(variants.apply(X[index[place : place + 1]], index[place : place + 1], 1)[0], whole[place])
    assert not torch.equal(variants.apply(X[index], index, 0), whole)
    named = Variants(lambda x, generator: {"a": jitter(x["a"], generator), "b": x["b"]}, 2)
    mapped = named.apply({"a": X[index], "b": Y[index]}, index, 1)
    assert torch.equal(mapped["a"], whole)
    assert torch.equal(mapped["b"], Y[index])
    with pytest.raises(ValueError, match="count is 0"):
        Variants(jitter, 0)


def test_random_transforms_inside_a_data_set_are_found():
    student, teacher = pair()
    cache = TeacherCache(teacher(X).detach().numpy())
    before = torch.get_rng_state()
    assert draws_at_random(Jittered())
    assert torch.equal(torch.get_rng_state(), before)
    assert draws_at_random(DataLoader(Jittered()))
    assert not draws_at_random(TensorDataset(X, Y))
    for given in (Jittered(), DataLoader(Jittered(), batch_size=8)):
        with pytest.raises(TeacherError, match=r"transforms its samples at random.*augment=Variants"):
            Distiller(student, cache, Objective(kd=KD()), TrainConfig(epochs=1)).fit(given)


# ---- wrapped students and metrics ------------------------------------------------------------------------------------
def test_compiled_parallel_and_checkpointed_students_train_alike():
    class Checkpointed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            hidden = checkpoint(self.inner.hidden1, x, use_reentrant=False)
            return self.inner.fc(checkpoint(self.inner.hidden2, hidden, use_reentrant=False))

    def run(wrap, prefix=""):
        student, teacher = pair()
        objective = Objective(ce=CE(), kd=KD(), hint=FitNet().on(f"{prefix}hidden1", "hidden1", student_proj=Linear()))
        config = TrainConfig(epochs=2, batch_size=16, optimizer=PLAIN)
        Distiller(wrap(student), teacher, objective, config).fit((X, Y), VAL)
        return weights(student)

    expected = run(lambda student: student)
    torch.compiler.reset()
    for wrap, prefix in (
        (partial(torch.compile, backend="aot_eager"), ""),
        (nn.DataParallel, ""),
        (Checkpointed, "inner."),
    ):
        torch.testing.assert_close(run(wrap, prefix), expected, rtol=1e-5, atol=1e-6)
    torch.compiler.reset()


def test_any_metric_selects_and_others_are_reported():
    student, teacher = pair()
    config = TrainConfig(epochs=4, batch_size=16, select="best", optimizer=OptimizerConfig(lr=0.5))
    run = Distiller(student, teacher, Objective(ce=CE()), config, metric="nll", report=["ece", "macro_f1"])
    run.fit((X, Y), VAL)
    values = [record["val_nll"] for record in run.history]
    assert {"val_nll", "val_ece", "val_macro_f1"} <= set(run.history[0])
    exported = float(F.cross_entropy(run.export()(VAL[0]).detach().double(), VAL[1]))
    assert exported == pytest.approx(min(values))
    with pytest.raises(ValueError, match="metric 'map' is for outputs of kind multi_label"):
        Distiller(student, teacher, Objective(ce=CE()), config, metric="map")


def test_validation_of_events_leaves_out_ignored_ones():
    torch.manual_seed(0)
    tagger = nn.Linear(4, 3)
    x, y = torch.randn(12, 5, 4), torch.randint(0, 3, (12, 5))
    y[:, 3:] = -100
    objective = Objective(ce=CE(), outputs=Outputs("BTC", ignore_index=-100))
    run = Distiller(tagger, None, objective, TrainConfig(epochs=1, batch_size=4)).fit((x, y), (x, y))
    right = tagger(x).argmax(2)[:, :3] == y[:, :3]
    assert run.history[0]["val_accuracy"] == pytest.approx(float(right.double().mean()))
    with pytest.raises(ValueError, match="validation data need labels"):
        Distiller(tagger, None, objective, TrainConfig(epochs=1)).fit((x, y), {"x": x})
