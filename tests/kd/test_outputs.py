"""Outputs of any form, layout and kind: every term is that of the rows written out by hand."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.kd import functional as kf
from policykd.kd.losses import BCE, CE, DIST, DKD, KD, MSE, SDD, SP, BinaryKD, FitNet, GaussianKL, GaussianNLL
from policykd.kd.networks import MLP
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import Linear, TokenLinear
from policykd.kd.objective.teachers import CallableTeacher
from policykd.kd.objective.terms import Term
from policykd.kd.training.batches import Batch
from policykd.kd.training.step import StepSetting, backward_step


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Given(nn.Module):
    """A network whose output is given."""

    def __init__(self, output):
        super().__init__()
        self.output = output
        self.eval()

    def forward(self, *args, **kwargs):
        return self.output


# ---- reading ---------------------------------------------------------------------------------------------------------
Z, T, Y = draw(6, 4), draw(6, 4, seed=1), torch.arange(6) % 4
Pair = namedtuple("Pair", ["features", "scores"])
FORMS = {
    "tensor": (lambda z: z, None),
    "logits of a mapping": (lambda z: {"logits": z, "loss": None}, None),
    "attribute logits": (lambda z: SimpleNamespace(logits=z, hidden_states=()), None),
    "key": (lambda z: {"out": z, "aux": 0 * z}, "out"),
    "attribute": (lambda z: Pair([z], z), "scores"),
    "position": (lambda z: (z, [z, z]), 0),
    "function": (lambda z: [{"a": z}], lambda out: out[0]["a"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_read_from_any_form(form):
    wrap, reader = FORMS[form]
    objective = Objective(ce=CE(), kd=KD(), outputs=Outputs(read=reader))
    out = objective(Given(wrap(Z)), Given(wrap(T)), draw(6, 2), Y)
    torch.testing.assert_close(out.loss, F.cross_entropy(Z, Y) + kf.kd(Z, T))
    assert torch.equal(out.logits, Z)


def test_a_teacher_may_answer_in_another_form():
    outputs = Outputs(read="logits", read_teacher=1)
    out = Objective(kd=KD(), outputs=outputs)(Given({"logits": Z}), Given(("x", T)), draw(6, 2))
    torch.testing.assert_close(out.loss, kf.kd(Z, T))


@pytest.mark.parametrize(
    ("output", "reader", "message"),
    [
        ((Z, [Z]), None, r"student Given must return a tensor .* output is a tuple of \['Tensor', 'list'\].*read=0"),
        ({"out": Z, "aux": Z}, None, r"output is a dict with \['aux', 'out'\]"),
        ({"out": Z}, "logits", r"output is a dict with \['out'\]"),
        ({"out": "text"}, "out", r"entry 'out' of its output is a dict"),
        (SimpleNamespace(a=1), "b", "output is a SimpleNamespace"),
        ((Z,), 3, r"output is a tuple of \['Tensor'\]"),
    ],
)
def test_outputs_that_cannot_be_read_are_described(output, reader, message):
    with pytest.raises(TypeError, match=message):
        Objective(ce=CE(), outputs=Outputs(read=reader))(Given(output), None, draw(6, 2), Y)


@pytest.mark.parametrize(("x", "expected"), [((Z, T), Z + T), ({"a": Z, "b": T}, Z + T)])
def test_networks_take_positional_and_keyword_inputs(x, expected):
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    out = Objective(ce=CE())(Sum(), None, x, Y)
    torch.testing.assert_close(out.loss, F.cross_entropy(expected, Y))
    broken = {"a": Z, "b": T.clone().index_put_((torch.tensor(2), torch.tensor(1)), torch.tensor(float("nan")))}
    with pytest.raises(ValueError, match=r"input 'b' of the batch \(6, 4\) has 1 non-finite value"):
        Objective(ce=CE())(Sum(), None, broken, Y)


# ---- layouts ---------------------------------------------------------------------------------------------------------
LAYOUTS = {"BTC": (3, 5, 4), "BCT": (3, 4, 5), "BCHW": (2, 4, 3, 5), "BHWC": (2, 3, 5, 4), "BTNC": (2, 3, 5, 4)}


def by_hand(layout, value):
    return value.movedim(layout.index("C"), -1).reshape(-1, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_terms_on_events_are_those_of_their_rows(layout):
    shape = LAYOUTS[layout]
    z, t = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    events = [size for size, axis in zip(shape, layout, strict=True) if axis != "C"]
    y = torch.randint(0, 4, events, generator=torch.Generator().manual_seed(2))
    objective = Objective(ce=CE(), kd=KD(), dkd=DKD(), outputs=Outputs(layout))
    out = objective(Given(z), Given(t), draw(shape[0], 2), y)
    rows = by_hand(layout, z), by_hand(layout, t), y.flatten()
    expected = F.cross_entropy(rows[0], rows[2]) + kf.kd(rows[0], rows[1]) + kf.dkd(*rows)
    torch.testing.assert_close(out.loss, expected)
    torch.testing.assert_close(torch.autograd.grad(out.loss, z), torch.autograd.grad(expected, z))
    soft = t.softmax(layout.index("C"))
    value = Objective(ce=CE(), outputs=Outputs(layout))(Given(z), None, draw(shape[0], 2), soft).loss
    torch.testing.assert_close(value, F.cross_entropy(rows[0], by_hand(layout, soft)))


def test_ignored_events_are_left_out_of_every_term():
    z, t = draw(3, 5, 4), draw(3, 5, 4, seed=1)
    y = torch.randint(0, 4, (3, 5))
    y[0, 2:], y[2, 4] = -100, -100
    objective = Objective(ce=CE(), kd=KD(), outputs=Outputs("BTC", ignore_index=-100))
    out = objective(Given(z), Given(t), draw(3, 2), y)
    kept = y != -100
    torch.testing.assert_close(out.terms["ce"], F.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=-100))
    torch.testing.assert_close(out.terms["kd"], kf.kd(z[kept], t[kept]))
    with pytest.raises(ValueError, match=r"got -100 to 3; outputs=Outputs\(..., ignore_index=-100\)"):
        Objective(ce=CE(), outputs=Outputs("BTC"))(Given(z), None, draw(3, 2), y.clamp(max=3))
    bad = torch.zeros(3, 5, dtype=torch.long)
    bad[0, 0], bad[0, 1] = 9, -100
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\] or -100 .* got 0 to 9"):
        objective(Given(z), Given(t), draw(3, 2), bad)


def test_a_mask_says_which_events_exist():
    z, t = draw(3, 5, 4), draw(3, 5, 4, seed=1)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    y = torch.randint(0, 4, (3, 5))
    y[1, 1:] = -100
    objective = Objective(ce=CE(), kd=KD(), outputs=Outputs("BTC", ignore_index=-100))
    out = objective(Given(z), Given(t), draw(3, 2), y, mask=mask)
    exists = mask.bool()
    known = exists & (y != -100)
    torch.testing.assert_close(out.terms["kd"], kf.kd(z[exists], t[exists]))
    torch.testing.assert_close(out.terms["ce"], F.cross_entropy(z[known], y[known]))
    nothing = objective(Given(z.clone().requires_grad_()), Given(t), draw(3, 2), y, mask=mask * 0)
    nothing.loss.backward()
    assert float(nothing.loss.detach()) == 0.0
    with pytest.raises(ValueError, match=r"the mask must be \(3, 5\), one entry per event, got \(3,\)"):
        objective(Given(z), Given(t), draw(3, 2), y, mask=mask[:, 0])


@pytest.mark.parametrize(
    ("layout", "output", "message"),
    [
        ("BC", draw(3, 5, 4), r"return logits \(3, C\).*returned \(3, 5, 4\).*Outputs\('BTC'\)\) or Outputs\('BCT'\)"),
        ("BC", draw(3, 4, 2, 2), r"Outputs\('BTSC'\)\) or Outputs\('BCHW'\)"),
        ("BTC", draw(3, 4), r"student Given must return logits \(3, T, C\) for a batch of 3, it returned \(3, 4\)"),
        ("BTC", draw(2, 5, 4), r"it returned \(2, 5, 4\)"),
    ],
)
def test_outputs_of_another_layout_are_refused(layout, output, message):
    with pytest.raises(ValueError, match=message):
        Objective(ce=CE(), outputs=Outputs(layout))(Given(output), None, draw(3, 2), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "TC"}, "must name every axis once, batch first"),
        ({"layout": "BTT"}, "must name every axis once"),
        ({"layout": "BT"}, "has no class axis C, which only regression may leave out"),
        ({"kind": "labels"}, "kind must be one of single_label, multi_label, regression"),
        ({"kind": "multi_label", "ignore_index": -1}, "ignore_index needs kind='single_label'"),
    ],
)
def test_bad_descriptions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Outputs(**fields)


# ---- kinds -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_several_labels_per_sample(dtype):
    y = (draw(6, 4, seed=2) > 0).to(dtype)
    objective = Objective(bce=BCE(), kd=BinaryKD(), outputs=Outputs(kind="multi_label"))
    out = objective(Given(Z), Given(T), draw(6, 2), y)
    torch.testing.assert_close(out.terms["bce"], F.binary_cross_entropy_with_logits(Z, y.float()))
    torch.testing.assert_close(out.terms["kd"], kf.binary_kd(Z, T))
    with pytest.raises(ValueError, match=r"multi_label targets must be in \[0, 1\], got 0 to 2"):
        objective(Given(Z), Given(T), draw(6, 2), 2 * y.float())
    with pytest.raises(ValueError, match=r"multi_label targets must be \(6, 4\), got \(6,\)"):
        objective(Given(Z), Given(T), draw(6, 2), y[:, 0])


def test_values_of_a_regression():
    y = draw(6, 4, seed=2)
    outputs = Outputs(kind="regression")
    out = Objective(fit=MSE().against("labels"), kd=MSE(), outputs=outputs)(Given(Z), Given(T), draw(6, 2), y)
    torch.testing.assert_close(out.terms["fit"], F.mse_loss(Z, y))
    torch.testing.assert_close(out.terms["kd"], F.mse_loss(Z, T))
    one = Objective(fit=MSE().against("labels"), outputs=Outputs("B", kind="regression"))
    torch.testing.assert_close(one(Given(Z[:, 0]), None, draw(6, 2), y[:, 0]).loss, F.mse_loss(Z[:, 0], y[:, 0]))
    huber = Objective(fit=Term(nn.SmoothL1Loss()).against("labels"), outputs=outputs)
    torch.testing.assert_close(huber(Given(Z), None, draw(6, 2), y).loss, F.smooth_l1_loss(Z, y))
    assert not huber.needs_teacher
    spread = Objective(nll=GaussianNLL(), kd=GaussianKL(), outputs=outputs)
    out = spread(Given(Z), Given(T), draw(6, 2), y[:, :2])
    torch.testing.assert_close(out.terms["nll"], kf.gaussian_nll(Z, y[:, :2]))
    torch.testing.assert_close(out.terms["kd"], kf.gaussian_kl(Z, T))
    with pytest.raises(ValueError, match=r"regression targets must be \(6, 4\), got \(6, 3\)"):
        spread(Given(Z), Given(T), draw(6, 2), y[:, :3])
    with pytest.raises(ValueError, match=r"term 'fit' \(MSE\) needs labels"):
        Objective(fit=MSE().against("labels"), outputs=outputs)(Given(Z), None, draw(6, 2))


@pytest.mark.parametrize(
    ("term", "outputs", "message"),
    [
        (KD(), Outputs(kind="multi_label"), r"KD is for outputs of kind single_label.*losses for them: .*binary_kd"),
        (CE(), Outputs(kind="multi_label"), r"these are multi_label; losses for them: bce, "),
        (
            Term(nn.CrossEntropyLoss()),
            Outputs(kind="multi_label"),
            "CrossEntropyLoss is for outputs of kind single_label",
        ),
        (Term(nn.BCEWithLogitsLoss()), Outputs(), "BCEWithLogitsLoss is for outputs of kind multi_label"),
        (BCE(), Outputs(), "BCE is for outputs of kind multi_label, these are single_label; losses for them: ce, "),
        (MSE(), Outputs(), "MSE is for outputs of kind regression"),
        (DIST(), Outputs("BTC"), r"DIST compares the samples of a batch, which has no meaning for the events .*kd"),
        (DKD(), Outputs(kind="regression"), "losses for them: .*gaussian_nll.*mse"),
    ],
)
def test_losses_without_a_meaning_are_refused_with_those_that_have_one(term, outputs, message):
    with pytest.raises(ValueError, match=message):
        Objective(a=term, outputs=outputs)


def test_losses_with_a_meaning_are_computed():
    from policykd.kd.objective.compatibility import suitable_losses
    from policykd.kd.registry import LOSSES

    z, t = draw(4, 3, 4), draw(4, 3, 4, seed=1)
    y = torch.randint(0, 4, (4, 3))
    names = suitable_losses(Outputs("BTC"))
    assert {"ce", "kd", "dkd", "lskd", "jsd", "wsld", "mse_logits"} <= set(names)
    assert not {"dist", "mlkd", "cwtm", "at", "bce"} & set(names)
    for name in names:
        term = Term(LOSSES[name].build())
        term = term.combined("stack") if name == "multi_teacher_kd" else term
        assert torch.isfinite(Objective(a=term, outputs=Outputs("BTC"))(Given(z), Given(t), draw(4, 2), y).loss)


def test_an_ensemble_averages_what_the_kind_says():
    other, term = draw(6, 4, seed=5), Term(FunctionLoss(lambda s, t: t.sum())).combined("ensemble")
    teachers = {"a": Given(T), "b": Given(other)}
    value = Objective(e=term, outputs=Outputs(kind="multi_label"))(Given(Z), teachers, draw(6, 2)).loss
    torch.testing.assert_close(value, ((T.sigmoid() + other.sigmoid()) / 2).logit().sum())
    value = Objective(e=term, outputs=Outputs(kind="regression"))(Given(Z), teachers, draw(6, 2)).loss
    torch.testing.assert_close(value, ((T + other) / 2).sum())


def test_callable_teachers_follow_the_outputs():
    probabilities = T.sigmoid()
    value = Objective(kd=BinaryKD(), outputs=Outputs(kind="multi_label"))(Given(Z), lambda x: probabilities, draw(6, 2))
    torch.testing.assert_close(value.loss, kf.binary_kd(Z, T))
    maps = draw(2, 4, 3, 3)
    value = Objective(kd=KD(), outputs=Outputs("BCHW"))(Given(maps), lambda x: maps.softmax(1), draw(2, 2)).loss
    torch.testing.assert_close(value, torch.tensor(0.0), atol=1e-5, rtol=0)
    teacher = CallableTeacher(lambda x: T, gives="values")
    value = Objective(kd=MSE(), outputs=Outputs(kind="regression"))(Given(Z), teacher, draw(6, 2)).loss
    torch.testing.assert_close(value, F.mse_loss(Z, T))


# ---- weights ---------------------------------------------------------------------------------------------------------
def test_samples_are_weighted():
    w = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
    objective = Objective(ce=CE(), kd=KD(), torch=Term(nn.CrossEntropyLoss()), total=CE(reduction="sum"))
    out = objective(Given(Z), Given(T), draw(6, 2), Y, weights=w)
    each = F.cross_entropy(Z, Y, reduction="none")
    torch.testing.assert_close(out.terms["ce"], (w * each).sum() / w.sum())
    torch.testing.assert_close(out.terms["torch"], (w * each).sum() / w.sum())
    torch.testing.assert_close(out.terms["kd"], (w * kf.kd(Z, T, reduction="none")).sum() / w.sum())
    torch.testing.assert_close(out.terms["total"], (w * each).sum())
    assert objective.losses["ce"].reduction == "mean"
    equal = objective(Given(Z), Given(T), draw(6, 2), Y, weights=torch.full((6,), 7.0))
    torch.testing.assert_close(equal.terms["ce"], F.cross_entropy(Z, Y))


def test_weights_reach_events_and_features():
    torch.manual_seed(0)
    student, teacher = MLP((4,), (6,), classes=3), MLP((4,), (6,), classes=3).eval()
    x, w = draw(5, 4), torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0])
    value = Objective(sp=SP().on("hidden1"))(student, teacher, x, weights=w).loss
    rows = kf.sp(student.hidden1(x), teacher.hidden1(x), reduction="none")
    torch.testing.assert_close(value, (w * rows).sum() / w.sum())
    z, y = draw(3, 5, 4), torch.randint(0, 4, (3, 5))
    y[0, 0] = -100
    w = torch.tensor([2.0, 0.0, 1.0])
    out = Objective(ce=CE(), outputs=Outputs("BTC", ignore_index=-100))(Given(z), None, draw(3, 2), y, weights=w)
    each, spread = F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none"), w.repeat_interleave(5)
    spread = spread * (y.flatten() != -100)
    torch.testing.assert_close(out.loss, (spread * each).sum() / spread.sum())


def test_what_cannot_be_weighted_is_refused():
    w = torch.ones(6)
    with pytest.raises(ValueError, match="term 'f': FunctionLoss gives one number per batch"):
        Objective(f=Term(FunctionLoss(lambda student: student.sum())))(Given(Z), None, draw(6, 2), weights=w)
    for bad, message in ((w[:3], r"sample weights must be \(6,\), got \(3,\)"), (-w, "finite and at least 0")):
        with pytest.raises(ValueError, match=message):
            Objective(ce=CE())(Given(Z), None, draw(6, 2), Y, weights=bad)


# ---- features of events ----------------------------------------------------------------------------------------------
class Tagger(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.Linear(3, width), nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.body(x).relu())


class Pooled(Tagger):
    """A tagger with two more features: one vector per sample, and one of every second token."""

    def __init__(self, width):
        super().__init__(width)
        self.pool, self.second = nn.Identity(), nn.Identity()

    def forward(self, x):
        h = self.body(x)
        self.pool(h.mean(1)), self.second(h[:, ::2])
        return self.head(h.relu())


def test_features_of_every_unmasked_token_are_samples():
    torch.manual_seed(0)
    student, teacher, x = Tagger(5), Tagger(7).eval(), draw(3, 6, 3)
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) > 0.4
    objective = Objective(hint=FitNet().on("body", student_proj=Linear()).per_event(), outputs=Outputs("BTC"))
    objective.build(student, teacher, x)
    value = objective(student, teacher, x, mask=mask).loss
    project = objective.student_projectors["hint"][0].map
    torch.testing.assert_close(value, F.mse_loss(project(student.body(x))[mask], teacher.body(x)[mask]))
    whole = Objective(hint=FitNet().on("body", student_proj=TokenLinear()), outputs=Outputs("BTC"))
    whole.build(student, teacher, x)
    project = whole.student_projectors["hint"][0].map
    torch.testing.assert_close(
        whole(student, teacher, x, mask=mask).loss, F.mse_loss(project(student.body(x)), teacher.body(x))
    )


def test_features_that_are_not_those_of_the_events_are_refused():
    student, teacher, x = Tagger(5), Tagger(5).eval(), draw(3, 6, 3)
    pooled = Pooled(5)
    with pytest.raises(ValueError, match=r"student: 'pool' gives \(3, 5\), by event it must have the axes BTC"):
        Objective(a=SP().on("pool", "body").per_event(), outputs=Outputs("BTC"))(pooled, teacher, x)
    with pytest.raises(ValueError, match=r"student: 'second' has 9 events, the outputs have 18"):
        Objective(a=SP().on("second", "body").per_event(), outputs=Outputs("BTC"))(pooled, teacher, x)
    with pytest.raises(ValueError, match="only a term on features is read by event"):
        Term(KD()).per_event()
    sdd = Objective(a=SDD().on("body"), outputs=Outputs("BTC"))
    with pytest.raises(ValueError, match=r"SDD\) needs one label per sample, but outputs BTC have one per event"):
        sdd(student, teacher, x, torch.zeros(3, 6, dtype=torch.long))


# ---- steps -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("parts", [2, 3])
def test_micro_batches_of_events_with_masks_and_weights_change_nothing(parts):
    def step(count):
        torch.manual_seed(0)
        student, teacher = Tagger(5).double(), Tagger(7).double().eval()
        x, y = draw(7, 6, 3).double(), torch.randint(0, 4, (7, 6), generator=torch.Generator().manual_seed(1))
        y[2, 3:], mask = -100, torch.ones(7, 6, dtype=torch.bool)
        mask[5, 2:] = False
        objective = Objective(
            ce=CE(), kd=KD(), hint=SP().on("body").per_event(), outputs=Outputs("BTC", ignore_index=-100)
        )
        batch = Batch({"x": x}, y, torch.arange(7), (7,), mask=mask, weights=torch.arange(7.0).double())
        setting = StepSetting(micro_batches=count)
        out = backward_step(student, teacher, objective, batch, setting, number=0, step=0, total=1)
        return out.loss.detach(), [p.grad for p in student.parameters()]

    (loss, grads), (split, split_grads) = step(1), step(parts)
    torch.testing.assert_close(split, loss, rtol=1e-12, atol=0)
    for whole, part in zip(grads, split_grads, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-12)
