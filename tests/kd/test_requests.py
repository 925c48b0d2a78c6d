"""Common requests to a distillation library: each row of the table in docs/kd.md, run as a user would write it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from policykd.kd import functional as kf
from policykd.kd.losses import AT, BCE, CE, FSP, FT, ICKD, KD, MSE, NST, SP, VID, BinaryKD, FitNet, ReviewKD
from policykd.kd.objective import Objective, Outputs
from policykd.kd.objective.projectors import Conv1x1
from policykd.kd.objective.terms import Term
from policykd.kd.training import Distiller, Stage, TrainConfig
from policykd.kd.training.teacher_cache import TeacherCache

N, T, C = 6, 5, 4
SEED = torch.Generator().manual_seed(0)
X, Y = torch.randn(N, 8, generator=SEED), torch.arange(N) % C
TOKENS, TAGS = torch.randn(N, T, 8, generator=SEED), torch.randint(0, C, (N, T), generator=SEED)
IMAGES, PIXELS = torch.randn(N, 3, 4, 4, generator=SEED), torch.randint(0, C, (N, 4, 4), generator=SEED)
CONFIG = TrainConfig(epochs=1, batch_size=3)


def mlp(width=C):
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, width))


class Returns(nn.Module):
    """A network that returns its logits in another form."""

    def __init__(self, form, width=C):
        super().__init__()
        self.network, self.form = mlp(width), form

    def forward(self, x):
        return self.form(self.network(x))


class Holder:
    def __init__(self, logits):
        self.logits = logits


class Shifted(Dataset):
    """A data set with attributes x and y whose items are not those."""

    def __init__(self, label=None, mapping=False):
        self.x, self.y, self.label, self.mapping, self.calls = X, Y, label, mapping, 0

    def __len__(self):
        return N

    def __getitem__(self, i):
        self.calls += 1
        label = self.y[i] if self.label is None else self.label
        return {"image": self.x[i], "label": label} if self.mapping else (self.x[i] - 2.0, label)


def both(**options):
    return Objective(ce=CE(), kd=KD(), **options)


def step(objective, make=mlp, x=X, y=Y, **options):
    value = objective(make(), make().eval(), x, y, **options).loss
    value.backward()
    assert torch.isfinite(value)
    return value


def fit(data, *more, make=mlp, objective=None, config=CONFIG, augment=None, teacher=None, **options):
    objective = both() if objective is None else objective
    run = Distiller(make(), make().eval() if teacher is None else teacher, objective, config, **options)
    return run.fit(data, *more, **({} if augment is None else {"augment": augment}))


def maps(channels, length=12):
    return torch.randn(N, channels, length)


def regression(**options):
    terms = {"fit": MSE().against("labels"), "kd": MSE()}
    return Objective(terms, outputs=Outputs(kind="regression", **options))


def several(labels):
    objective = Objective(b=BCE(), kd=BinaryKD(), outputs=Outputs(kind="multi_label"))
    return step(objective, y=labels)


WORKS = {
    "tokens": lambda: step(both(outputs=Outputs("BTC")), x=TOKENS, y=TAGS),
    "segmentation": lambda: step(both(outputs=Outputs("BCHW")), lambda: nn.Conv2d(3, C, 1), IMAGES, PIXELS),
    "one value per sample": lambda: step(regression(layout="B"), lambda: Returns(lambda z: z[:, 0], 1), X, X[:, 0]),
    "attribute logits": lambda: step(both(), lambda: Returns(Holder)),
    "entry logits": lambda: step(both(), lambda: Returns(lambda z: {"logits": z})),
    "tuple": lambda: step(both(outputs=Outputs(read=0)), lambda: Returns(lambda z: (z, {"feats": []}))),
    "several labels, bool": lambda: several(torch.rand(N, C) > 0.5),
    "several labels, int": lambda: several((torch.rand(N, C) > 0.5).long()),
    "several labels, float": lambda: several((torch.rand(N, C) > 0.5).float()),
    "ignored labels": lambda: step(
        both(outputs=Outputs("BTC", ignore_index=-100)), x=TOKENS, y=TAGS.masked_fill(TAGS == 0, -100)
    ),
    "class weights": lambda: step(Objective(ce=CE(class_weights=[1.0, 2.0, 3.0, 4.0]))),
    "weights of samples": lambda: step(both(), weights=torch.rand(N)),
    "loader with workers": lambda: fit(DataLoader(TensorDataset(X, Y), batch_size=3, num_workers=1)),
    "batches as mappings": lambda: fit({"input": X, "labels": Y}),
    "data set of mappings": lambda: fit(Shifted(mapping=True)),
    "optimizer, scheduler, groups": lambda: fit(
        (X, Y),
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        groups={"*.bias": {"weight_decay": 0.0}},
        scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1),
    ),
    "other metrics": lambda: fit((X, Y), (X, Y), metric="macro_f1", report=["ece"]),
    "soft labels for validation": lambda: fit((X, Y), (X, torch.rand(N, C).softmax(1)), report=["ece"]),
    "frozen layers": lambda: fit((X, Y), frozen=["0"]),
    "stages": lambda: fit((X, Y), objective=[Stage(both(), epochs=1), Stage(both(), epochs=1)]),
    "AT": lambda: AT()(maps(4), maps(6)),
    "NST": lambda: NST()(maps(4), maps(6)),
    "ICKD": lambda: ICKD()(maps(6), maps(6)),
    "FSP": lambda: FSP()([maps(4), maps(6)], [maps(4), maps(6)]),
    "VID": lambda: VID(4, 6, dims=1)(maps(4), maps(6)),
    "FT": lambda: FT(4, 6, dims=1)(maps(4), maps(6)),
    "ReviewKD": lambda: ReviewKD([4, 6], [4, 6], dims=1)([maps(4), maps(6, 6)], [maps(4), maps(6, 6)]),
    "torch's loss": lambda: step(Objective(m=Term(nn.MultiMarginLoss()))),
}
REFUSED = {
    "events in rows": (lambda: step(both(), lambda: Returns(lambda z: z.flatten(0, 1)), TOKENS), r"Outputs\('BTC'\)"),
    "no layout": (lambda: step(both(), lambda: nn.Conv2d(3, C, 1), IMAGES, PIXELS), r"Outputs\('BCHW'\)"),
    "softening over an unknown axis": (lambda: kf.kd(IMAGES, IMAGES), r"logits must be \(B, C\)"),
    "one value, no layout": (lambda: step(regression(), lambda: Returns(lambda z: z[:, 0])), r"Outputs\('B', kind="),
    "tuple without read": (lambda: step(both(), lambda: Returns(lambda z: (z, {}))), r"Outputs\(read=0\)"),
    "several labels as soft labels": (lambda: step(Objective(ce=CE()), y=torch.ones(N, C)), "rows sum to 1"),
    "float classes": (lambda: fit(Shifted(label=2.75)), "integer class labels"),
    "bytes": (lambda: fit((X.byte(), Y)), r"x.float\(\) / 255"),
    "tokens as a map": (
        lambda: Objective(ce=CE(), f=FitNet().on("0", student_proj=Conv1x1()), outputs=Outputs("BTC")).build(
            mlp(), mlp().eval(), TOKENS
        ),
        r"put the projector Tokens\(\)",
    ),
    "KLDivLoss": (lambda: Objective(kl=Term(nn.KLDivLoss())), r"use KD\(\)"),
    "a loss of another kind": (lambda: Objective(b=Term(nn.BCEWithLogitsLoss())), "multi_label"),
    "VID of series": (lambda: VID(4, 6)(maps(4), maps(6)), "dims=1"),
    "stored outputs of augmented samples": (
        lambda: fit((X, Y), teacher=TeacherCache(np.zeros((N, C), np.float32), {}, name="t"), augment=lambda x, rng: x),
        "write_variants",
    ),
}


@pytest.mark.parametrize("request_", WORKS)
def test_works(request_, recorded):
    torch.manual_seed(0)
    found = WORKS[request_]()
    if not isinstance(found, torch.Tensor):
        found = [{k: v for k, v in record.items() if k != "seconds"} for record in found.history]
    recorded("requests", request_, found)


@pytest.mark.parametrize("request_", REFUSED)
def test_refused_with_the_cure(request_, recorded):
    run, cure = REFUSED[request_]
    with pytest.raises((ValueError, TypeError), match=cure) as refused:
        run()
    recorded("messages", request_, str(refused.value))


def test_items_are_always_asked_of_the_data_set():
    data = Shifted()
    fit(data)
    assert data.calls >= N


def test_strings_of_scikit_learn_need_an_order():
    from sklearn.tree import DecisionTreeClassifier

    from policykd.kd.objective.teachers import from_sklearn

    names = ["a", "b", "c", "d"]
    model = DecisionTreeClassifier(max_depth=2).fit(X.numpy(), [names[i] for i in Y])
    fit((X, Y), teacher=from_sklearn(model, labels=names))
    with pytest.raises(ValueError, match="labels="):
        fit((X, Y), teacher=model)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_students_run_with_their_taps_first(fullgraph):
    torch.compiler.reset()
    objective, teacher = Objective(ce=CE(), sp=SP().on("0")), mlp().eval()
    student = torch.compile(mlp(), backend="eager", fullgraph=fullgraph)
    assert torch.isfinite(objective(student, teacher, X, Y).loss)
    torch.compiler.reset()
    other = torch.compile(mlp(), backend="eager", fullgraph=fullgraph)
    other(X)
    with pytest.raises(ValueError, match="run it with its taps first"):
        objective(other, teacher, X, Y)
