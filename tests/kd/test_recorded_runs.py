"""Whole trainings at a small size: every record of the log and the exported weights are the recorded ones."""

from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from policykd.kd.losses import AT, CE, CRD, FT, KD, SP, FitNet
from policykd.kd.networks import MLP, ResNet
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Linear
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.fields import Fields
from policykd.kd.training.stages import Reconstruction, Stage
from policykd.kd.training.teacher_cache import TeacherCache
from policykd.kd.training.variants import Variants
from policykd.schedules import Ramp

SCALED = OptimizerConfig("sgd", lr=0.2, momentum=0.8, nesterov=True, weight_decay=1e-2)


def data(samples, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (samples,), generator=generator)
    return torch.eye(3, 4)[y] * 2 + torch.randn(samples, 4, generator=generator), y


(X, Y), VAL = data(45, 0), data(30, 1)
IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(2))
WEIGHTED = {"x": X, "y": Y, "w": torch.linspace(0.1, 2.0, 45)}


def noisy(x, generator):
    return x + 0.3 * torch.randn(x.shape, generator=generator)


def mixed():
    return Objective(
        ce=CE(label_smoothing=0.1),
        kd=Ramp(0.2, 0.8, steps=2.0) * KD(temperature=3.0),
        sp=SP().on("hidden1"),
        hint=2.0 * FitNet().on("hidden2", student_proj=Linear()),
        crd=0.01 * CRD(45, 6, 9, dim=4, negatives=5).on("hidden1"),
    )


def of_factor_transfer():
    ft = FT(8, 10)
    return [
        Stage(Objective(fit=Reconstruction(ft.paraphraser).on("layer3")), epochs=1, train_student=False),
        Stage(Objective(at=10.0 * AT().on("layer2"), ft=5.0 * ft.on("layer3")), epochs=2),
        Stage(Objective(ce=CE(), kd=KD()), epochs=1),
    ]


def stored(**options):
    teacher = MLP((4,), (9, 8), classes=3).eval()
    variants = options.get("augment")
    if variants is None:
        return TeacherCache(teacher(X).detach().numpy(), {"hidden1": teacher.hidden1(X).detach().numpy()})
    rows = torch.cat([variants.apply(X, torch.arange(45), number) for number in range(variants.count)])
    return TeacherCache(teacher(rows).detach().numpy(), variants=variants.identity)


VARIANTS = Variants(noisy, count=2, seed=5)
RUNS = {
    "everything": (
        mixed,
        {"epochs": 3, "batch_size": 16, "log_steps": 2, "clip_norm": 0.5, "optimizer": SCALED, "seed": 4}
        | {"scheduler": SchedulerConfig("cosine", warmup=1.0, floor=0.1)},
        {"metric": "nll", "report": ("ece", "balanced_accuracy")},
        {"augment": noisy},
    ),
    "parts": (mixed, {"epochs": 2, "batch_size": 16, "micro_batches": 3, "drop_last": True}, {}, {}),
    "best epoch": (
        lambda: Objective(kd=KD()),
        {"epochs": 4, "select": "best", "optimizer": OptimizerConfig("adam", lr=0.1, betas=(0.8, 0.9))}
        | {"scheduler": SchedulerConfig("multistep", milestones=(1, 2.5), gamma=0.3)},
        {"metric": "ece"},
        {},
    ),
    "moving average": (
        mixed,
        {"epochs": 3, "batch_size": 20, "optimizer": OptimizerConfig("adamw", lr=0.02, weight_decay=0.1)},
        {"averaging": Averaging("ema", decay=0.7, start=1)},
        {},
    ),
    "groups, frozen layers and a scheduler of torch": (
        mixed,
        {"epochs": 3, "batch_size": 16, "optimizer": SCALED},
        {"groups": {"fc.*": {"lr": 0.5}, "objective.*": {"weight_decay": 0.0}}, "frozen": ("hidden1",)}
        | {"scheduler": partial(CosineAnnealingLR, T_max=3)},
        {},
    ),
    "a scheduler of steps": (
        mixed,
        {"epochs": 2, "batch_size": 16},
        {"optimizer": partial(torch.optim.RMSprop, lr=0.01), "scheduler_step": "step"}
        | {"scheduler": partial(OneCycleLR, max_lr=0.05, total_steps=6)},
        {},
    ),
    "a plateau": (
        lambda: Objective(ce=CE()),
        {"epochs": 4, "optimizer": SCALED},
        {"scheduler": partial(ReduceLROnPlateau, patience=0, factor=0.2, mode="max")},
        {},
    ),
    "stored outputs": (lambda: Objective(kd=KD(), sp=SP().on("hidden1")), {"epochs": 2}, {"teacher": stored}, {}),
    "stored variants": (
        lambda: Objective(kd=KD()),
        {"epochs": 3, "batch_size": 16},
        {"teacher": partial(stored, augment=VARIANTS)},
        {"augment": VARIANTS},
    ),
    "weights": (
        lambda: Objective(ce=CE(), kd=KD()),
        {"epochs": 2},
        {"fields": Fields(inputs="x", targets="y", weights="w"), "data": WEIGHTED, "val": WEIGHTED},
        {},
    ),
    "a loader": (
        mixed,
        {"epochs": 2},
        {"data": lambda: DataLoader(TensorDataset(X, Y), batch_size=10, shuffle=True)},
        {"augment": noisy},
    ),
}


class Kept:
    """Keeps the records of a run."""

    def __init__(self):
        self.records = []

    def open(self, step):
        self.records.append({"opened at": step})

    def write(self, record):
        hidden = ("seconds", "torch")
        self.records.append({key: value for key, value in record.items() if key not in hidden})

    def close(self):
        self.records.append("closed")


def found(run, kept):
    weights = {**run.export().state_dict(), **run.objective.state_dict()}
    return {"log": kept.records, "weights": {name: value.double() for name, value in weights.items()}}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_recorded_one(name, recorded, limits):
    make, config, options, fitting = RUNS[name]
    torch.manual_seed(0)
    student, kept, options = MLP((4,), (6, 6), classes=3, dropout=0.2), Kept(), dict(options)
    teacher = options.pop("teacher", lambda: MLP((4,), (9, 8), classes=3).eval())()
    train, val = options.pop("data", (X, Y)), options.pop("val", VAL)
    run = Distiller(student, teacher, make(), TrainConfig(**config), logs=[kept], **options)
    run.fit(train() if callable(train) else train, val, **fitting)
    recorded("runs", name, found(run, kept) | {"limits": limits})


@pytest.mark.parametrize("averaging", [None, Averaging("swa", start=1), Averaging("swa", refresh=False)], ids=str)
def test_stages_and_averages_of_batch_statistics_are_the_recorded_ones(averaging, recorded):
    torch.manual_seed(0)
    student, teacher, kept = ResNet(8, (4, 4, 6, 8), classes=3), ResNet(8, (4, 6, 8, 10), classes=3).eval(), Kept()
    config = TrainConfig(
        batch_size=8, optimizer=OptimizerConfig(lr=0.02), scheduler=SchedulerConfig("cosine", warmup=0.5)
    )
    run = Distiller(student, teacher, of_factor_transfer(), config, logs=[kept], averaging=averaging)
    run.fit((IMAGES, torch.arange(20) % 3), (IMAGES[:9], torch.arange(9) % 3))
    recorded("runs", f"stages, {averaging}", found(run, kept))
