"""Objectives on outputs of every kind: values of terms, weights and gradients are the recorded ones."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from policykd.kd.losses import AT, BCE, CE, CRD, DKD, KD, MSE, RKD, SP, BinaryKD, FitNet, GaussianKL, GaussianNLL
from policykd.kd.losses.multi_teacher_kd import MultiTeacherKD, entropy_weights
from policykd.kd.objective import Objective, Outputs
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.projectors import Chain, Conv1x1, Linear, Pool, TokenLinear, Tokens
from policykd.kd.objective.teachers import CallableTeacher, from_sklearn
from policykd.kd.objective.terms import Term
from policykd.schedules import Ramp


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    """A network over the last axis, whose outputs may be moved to another layout."""

    def __init__(self, width, out=4, form=lambda z: z):
        super().__init__()
        self.a, self.b, self.form = nn.Linear(5, width), nn.Linear(width, out), form

    def forward(self, x):
        return self.form(self.b(torch.tanh(self.a(x))))


class Conv(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.pool = nn.Conv2d(3, width, 3), nn.Conv2d(width, width + 1, 3, 2), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width + 1, 4)

    def forward(self, x):
        return self.fc(self.pool(torch.relu(self.b(torch.relu(self.a(x))))).flatten(1))


def mixed(student, teacher, target=None):
    return (student - teacher).abs().mean() + 0.1 * student.gather(1, target[:, None]).mean()


X, Y, IMAGES = drawn(6, 5), torch.arange(6) % 4, drawn(6, 3, 8, 8)
SERIES = drawn(6, 3, 5, seed=1)
TAGS = torch.arange(18).view(6, 3) % 4
IGNORED = TAGS.masked_fill(TAGS == 2, -100)
MASK = (torch.arange(18).view(6, 3) % 5 > 0).long()
WEIGHTS = torch.tensor([0.5, 1.0, 0.0, 2.0, 1.5, 0.25])
SOFT, HARD = drawn(6, 4, seed=2).softmax(1), (drawn(6, 4, seed=2) > 0).long()
PAIR = (lambda: Net(4), lambda: Net(7))
TWO = (lambda: Net(4), lambda: {"one": Net(7).eval(), "two": Net(6).eval()})
MAPS = (lambda: Conv(3), lambda: Conv(5))
HALVES = (lambda: Net(4, 8), lambda: Net(7, 8))
FIRST = (lambda: Net(4, 4, lambda z: z.transpose(1, 2)), lambda: Net(7, 4, lambda z: z.transpose(1, 2)))
ENTRY = (lambda: Net(4, 4, lambda z: {"out": z}), lambda: Net(7, 4, lambda z: (z, 1)))
SINGLE = (lambda: Net(4, 1, lambda z: z[:, 0]), lambda: Net(7, 1, lambda z: z[:, 0]))
SKLEARN = (lambda: Net(4), lambda: LogisticRegression().fit(X.numpy(), np.arange(6) % 4))
SOME = (lambda: Net(4), lambda: from_sklearn(LogisticRegression().fit(X.numpy(), [0, 2, 0, 2, 0, 2]), classes=4))
NAMED = (
    lambda: Net(4),
    lambda: from_sklearn(LogisticRegression().fit(X.numpy(), list("cacaca")), labels=list("abcd")),
)
FITTED = (lambda: Net(4), lambda: from_sklearn(Ridge().fit(X.numpy(), drawn(6, 4, seed=5).numpy())))


def plain(**options):
    return Objective(ce=CE(label_smoothing=0.1), kd=0.7 * KD(temperature=3.0), **options)


def over_events(layout="BTC", **options):
    return plain(outputs=Outputs(layout, **options))


CASES = {
    "labels and logits": (plain, PAIR, X, Y, {}),
    "weighted samples": (plain, PAIR, X, Y, {"weights": WEIGHTS}),
    "sums": (lambda: Objective(kd=KD(reduction="sum"), b=CE(reduction="batchmean")), PAIR, X, Y, {"weights": WEIGHTS}),
    "soft labels": (plain, PAIR, X, SOFT, {}),
    "tokens": (over_events, PAIR, SERIES, TAGS, {}),
    "tokens that exist": (over_events, PAIR, SERIES, TAGS, {"mask": MASK}),
    "tokens with labels": (lambda: over_events(ignore_index=-100), PAIR, SERIES, IGNORED, {}),
    "tokens with mask and labels": (lambda: over_events(ignore_index=-100), PAIR, SERIES, IGNORED, {"mask": MASK}),
    "tokens with everything": (
        lambda: over_events(ignore_index=-100), PAIR, SERIES, IGNORED, {"mask": MASK > 0, "weights": WEIGHTS}
    ),
    "no event": (over_events, PAIR, SERIES, TAGS, {"mask": torch.zeros(6, 3)}),
    "soft labels of tokens": (over_events, PAIR, SERIES, drawn(6, 3, 4, seed=7).softmax(2), {}),
    "classes on axis 1": (lambda: over_events("BCT"), FIRST, SERIES, TAGS, {"mask": MASK}),
    "entries": (lambda: plain(outputs=Outputs(read="out", read_teacher=0)), ENTRY, X, Y, {}),
    "a reader": (
        lambda: plain(outputs=Outputs(read=lambda z: z["out"] * 2.0, read_teacher=lambda z: z[0])), ENTRY, X, Y, {}
    ),
    "several labels": (
        lambda: Objective(b=BCE(), kd=BinaryKD(temperature=2.0), outputs=Outputs(kind="multi_label")), PAIR, X, HARD, {}
    ),
    "several teachers of several labels": (
        lambda: Objective(
            b=BCE(), kd=Term(BinaryKD()).combined("ensemble"), outputs=Outputs(kind="multi_label")
        ), TWO, X, HARD.bool(), {},
    ),
    "values": (
        lambda: Objective(fit=MSE().against("labels"), kd=0.5 * MSE(), outputs=Outputs(kind="regression")),
        PAIR, X, drawn(6, 4, seed=3), {"weights": WEIGHTS},
    ),
    "an ensemble of values": (
        lambda: Objective(kd=Term(MSE()).combined("ensemble"), outputs=Outputs(kind="regression")), TWO, X, None, {}
    ),
    "means and spreads": (
        lambda: Objective(fit=GaussianNLL(), kd=GaussianKL(), outputs=Outputs(kind="regression")),
        HALVES, X, drawn(6, 4, seed=3), {},
    ),
    "one value": (
        lambda: Objective(fit=MSE().against("labels"), kd=MSE(), outputs=Outputs("B", kind="regression")),
        SINGLE, X, drawn(6, seed=3), {},
    ),
    "two teachers": (lambda: Objective(kd=KD(), dkd=0.3 * DKD()), TWO, X, Y, {}),
    "one of two teachers": (lambda: Objective(kd=Term(KD()).of("two"), ce=CE()), TWO, X, Y, {}),
    "an ensemble": (lambda: Objective(kd=Term(KD(temperature=2.0)).combined("ensemble")), TWO, X, Y, {}),
    "a stack": (
        lambda: Objective(kd=Term(MultiTeacherKD(entropy_weights, temperature=2.0)).combined("stack")), TWO, X, Y, {}
    ),
    "a stack, on the reference scale": (
        lambda: Objective(kd=Term(MultiTeacherKD(reference_scale=True)).combined("stack")), TWO, X, Y, {}
    ),
    "features": (
        lambda: Objective(sp=2.0 * SP().on("a"), hint=FitNet().on("a", student_proj=Linear()), ce=CE()), PAIR, X, Y, {}
    ),
    "features, weighted": (lambda: Objective(f=FitNet().on("b"), kd=KD()), PAIR, X, Y, {"weights": WEIGHTS}),
    "features of tokens": (
        lambda: Objective(
            f=Term(RKD()).on("a").per_event(), g=FitNet().on("a", student_proj=TokenLinear()),
            outputs=Outputs("BTC"),
        ), PAIR, SERIES, TAGS, {"mask": MASK},
    ),
    "tokens as maps": (
        lambda: Objective(
            f=FitNet().on("a", student_proj=Chain(Tokens(), Conv1x1(out_width=7)), teacher_proj=Tokens()),
            outputs=Outputs("BTC"),
        ), PAIR, SERIES, TAGS, {},
    ),
    "maps": (
        lambda: Objective(
            at=10.0 * AT().on(["a", "b"]), hint=FitNet().on("b", student_proj=Chain(Pool(1), Linear()),
                                                            teacher_proj=Pool(1)), ce=CE(),
        ), MAPS, IMAGES, Y, {},
    ),
    "taps": (lambda: Objective(f=SP().on("b:input", "a"), g=SP().on("fc:input")), MAPS, IMAGES, Y, {}),
    "maps through the classifier": (lambda: Objective(f=AT().on("b>fc")), MAPS, IMAGES, Y, {}),
    "schedules": (
        lambda: Objective(kd=Ramp(0.1, 0.9, steps=0.5) * KD(), ce=Ramp(1.0, 0.0, steps=4.0) * CE()), PAIR, X, Y, {}
    ),
    "a memory": (lambda: Objective(crd=CRD(9, 4, 7, dim=3, negatives=4).on("a")), PAIR, X, Y, {}),
    "a function": (lambda: Objective(f=Term(FunctionLoss(mixed))), PAIR, X, Y, {}),
    "losses of torch": (
        lambda: Objective(
            a=Term(nn.CrossEntropyLoss()), b=Term(nn.SmoothL1Loss()).against("teacher"), c=Term(nn.MSELoss()).on("b")
        ), PAIR, X, Y, {},
    ),
    "scikit-learn": (plain, SKLEARN, X, Y, {}),
    "scikit-learn with fewer classes": (plain, SOME, X, Y, {}),
    "scikit-learn with names": (plain, NAMED, X, Y, {}),
    "a regressor": (lambda: Objective(kd=MSE(), outputs=Outputs(kind="regression")), FITTED, X, None, {}),
    "probabilities": (plain, (PAIR[0], lambda: lambda x: x[:, :4].softmax(1)), X, Y, {}),
    "logits of a function": (plain, (PAIR[0], lambda: CallableTeacher(lambda x: x[:, 1:], gives="logits")), X, Y, {}),
    "probabilities of labels": (
        lambda: Objective(kd=BinaryKD(), outputs=Outputs(kind="multi_label")),
        (PAIR[0], lambda: lambda x: x[:, :4].sigmoid().round()), X, None, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_recorded_ones(name, recorded):
    make, networks, x, targets, options = CASES[name]
    torch.manual_seed(0)
    student, teacher = (build() for build in networks)
    for network in (student, *(teacher.values() if isinstance(teacher, dict) else [teacher])):
        if isinstance(network, nn.Module):
            network.double().eval()
    objective = make().double().build(student, teacher, x[:2], torch.arange(2)).double()
    found = []
    for step in (0.0, 2.0):
        out = objective(student, teacher, x, targets, index=torch.arange(6), step=step, total=4.0, **options)
        if out.loss.requires_grad:
            out.loss.backward()
        grads = [p.grad for p in (*student.parameters(), *objective.parameters()) if p.grad is not None]
        terms = {name: float(value.detach()) for name, value in out.terms.items()}
        found.append([float(out.loss.detach()), terms, dict(out.weights), grads])
    if isinstance(teacher, nn.Module):
        assert all(parameter.grad is None for parameter in teacher.parameters())
    recorded("objectives", name, found)
