"""The objective adds up what its terms say, alone in anybody's loop, and refuses bad batches in words."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.kd.losses import CE, CRD, FSP, KD, SP
from policykd.kd.networks import MLP, resnet
from policykd.kd.objective.loss_call import FunctionLoss, LossCall
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Chain, Conv1x1, Linear, Pool, ProjectorError
from policykd.kd.objective.taps import TapError
from policykd.kd.objective.teachers import TeacherError
from policykd.kd.objective.terms import Term
from policykd.kd.training.batches import Batch
from policykd.schedules import Ramp


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return MLP((4,), (6, 6), classes=3), MLP((4,), (9, 8), classes=3).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def distance(student, teacher):
    return (student - teacher).square().mean()


def gram(student, teacher):
    return (student @ student.T - teacher @ teacher.T).square().mean()


def test_the_loss_is_the_weighted_sum_of_named_terms(pair, batch):
    student, teacher = pair
    x, y = batch
    objective = Objective(
        ce=0.1 * Term(CE()), kd=0.9 * Term(KD(temperature=4.0)), gram=Term(FunctionLoss(gram)).on("hidden2")
    )
    out = objective(student, teacher, x, y)
    z, t = student(x), teacher(x)
    soft = F.kl_div(F.log_softmax(z / 4, 1), F.log_softmax(t / 4, 1), reduction="batchmean", log_target=True) * 16
    h_s, h_t = student.hidden2(student.hidden1(x)), teacher.hidden2(teacher.hidden1(x))
    expected = {"ce": F.cross_entropy(z, y), "kd": soft, "gram": gram(h_s, h_t)}
    for name, value in expected.items():
        torch.testing.assert_close(out.terms[name], value.detach())
    torch.testing.assert_close(out.loss, 0.1 * expected["ce"] + 0.9 * expected["kd"] + expected["gram"])
    torch.testing.assert_close(out.logits, z)
    assert out.weights == {"ce": 0.1, "kd": 0.9, "gram": 1.0}


def test_a_loss_becomes_a_term_by_weighing_or_tapping_it(pair, batch):
    short = Objective(ce=0.1 * CE(), kd=KD() * 0.9, sp=Ramp(0, 4, steps=2) * SP().on("hidden1", "hidden2"))
    long = Objective(
        ce=0.1 * Term(CE()), kd=0.9 * Term(KD()), sp=Ramp(0, 4, steps=2) * Term(SP()).on("hidden1", "hidden2")
    )
    outs = [objective(*pair, *batch, step=1) for objective in (short, long)]
    assert outs[0].weights == outs[1].weights == {"ce": 0.1, "kd": 0.9, "sp": 2.0}
    assert torch.equal(outs[0].loss, outs[1].loss)
    with pytest.raises(TypeError, match="a weight is a number or a schedule"):
        "heavy" * KD()


def test_gradients_reach_student_and_projectors_but_never_the_teacher(pair, batch):
    student, teacher = pair
    objective = Objective(hint=Term(nn.MSELoss()).on("hidden1", student_proj=Linear(6, 9)))
    objective(student, teacher, *batch).loss.backward()
    assert student.hidden1[0].weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_nothing_of_student_or_teacher_is_kept(pair, batch):
    student, teacher = pair
    keys = list(student.state_dict())
    objective = Objective(hint=Term(nn.MSELoss()).on("hidden1", student_proj=Linear(6, 9)))
    objective(student, teacher, *batch)
    assert list(student.state_dict()) == keys
    assert not any(module._forward_hooks or module._forward_pre_hooks for m in pair for module in m.modules())
    assert sorted(objective.state_dict()) == [
        "student_projectors.hint.0.map.bias",
        "student_projectors.hint.0.map.weight",
    ]


def test_scheduled_weights_follow_the_position(pair, batch):
    objective = Objective(ce=CE(), kd=Ramp(0.0, 4.0, steps=2.0) * Term(KD()))
    assert [objective(*pair, *batch, step=s).weights["kd"] for s in (0, 1, 5)] == [0.0, 2.0, 4.0]
    with pytest.raises(ValueError, match=r"is a schedule: call objective\(..., step=..., total=...\)"):
        objective(*pair, *batch)


def test_a_weight_that_goes_to_zero_changes_nothing_abruptly(pair, batch):
    plain = Objective(ce=CE())(*pair, *batch).loss
    for weight in (0.0, 1e-9):
        loss = Objective(ce=CE(), kd=weight * Term(KD()))(*pair, *batch).loss
        torch.testing.assert_close(loss, plain, atol=1e-6, rtol=0)


def test_several_teachers_average_listen_or_pool(pair, batch):
    student, first = pair
    x, _ = batch
    second = MLP((4,), (5,), classes=3).eval()
    teachers = {"a": first, "b": second}
    z, logits = student(x), [first(x), second(x)]
    each = [KD(temperature=1.0)(z, t) for t in logits]
    term = Term(KD(temperature=1.0))
    torch.testing.assert_close(Objective(kd=term)(student, teachers, x).loss, (each[0] + each[1]) / 2)
    torch.testing.assert_close(Objective(kd=term.of("b"))(student, teachers, x).loss, each[1])
    mean = (logits[0].softmax(1) + logits[1].softmax(1)).div(2).log()
    pooled = Objective(kd=term.combined("ensemble"))(student, teachers, x).loss
    torch.testing.assert_close(pooled, KD(temperature=1.0)(z, mean))
    total = Objective(p=Term(FunctionLoss(lambda s, t: t.exp().sum(1).mean())).combined("ensemble"))
    torch.testing.assert_close(total(student, teachers, x).loss, torch.tensor(1.0))  # log-probabilities, normalized
    stacked = Objective(k=Term(FunctionLoss(lambda s, t: (t.mean(0) - s).square().sum())).combined("stack"))
    torch.testing.assert_close(stacked(student, teachers, x).loss, (sum(logits) / 2 - z).square().sum())
    with pytest.raises(ValueError, match=r"listens to teacher 'c'; given: \['a', 'b'\]"):
        Objective(kd=term.of("c"))(student, teachers, x)


def test_losses_that_need_no_teacher_or_labels_do_without(pair, batch):
    student, teacher = pair
    x, y = batch
    torch.testing.assert_close(
        Objective(ce=nn.CrossEntropyLoss())(student, None, x, y).loss, F.cross_entropy(student(x), y)
    )
    assert Objective(kd=KD())(student, teacher, x).loss > 0
    with pytest.raises(ValueError, match=r"term 'ce' \(CE\) needs labels"):
        Objective(ce=CE())(student, teacher, x)
    with pytest.raises(ValueError, match=r"term 'kd' \(KD\) needs a teacher"):
        Objective(kd=KD())(student, None, x, y)


def test_several_taps_reach_a_loss_as_a_list():
    torch.manual_seed(0)
    student, teacher = resnet(8), resnet(14).eval()
    x = torch.randn(4, 3, 16, 16)
    objective = Objective(fsp=Term(FSP()).on(["layer1", "layer2", "layer3"]))
    with torch.no_grad():
        out = objective(student, teacher, x)
    features = [list(signals.features.values()) for signals in (out.student, out.teachers["teacher"])]
    torch.testing.assert_close(out.loss, FSP()(*features))


def test_widths_that_differ_without_a_projector_are_refused_with_both_shapes_and_the_fix(pair, batch):
    for loss in (nn.MSELoss(), nn.SmoothL1Loss(), FunctionLoss(distance)):
        with pytest.raises(
            ValueError,
            match=r"student 'hidden1' gives \(8, 6\), teacher 'hidden1' gives \(8, 9\): add a projector.*Linear",
        ):
            Objective(hint=Term(loss).on("hidden1"))(*pair, *batch)
    one = MLP((4,), (1, 6), classes=3)
    with pytest.raises(
        ValueError, match=r"gives \(8, 1\), teacher 'hidden1' gives \(8, 9\)"
    ):  # would broadcast silently
        Objective(hint=Term(FunctionLoss(distance)).on("hidden1"))(one, pair[1], *batch)
    assert Objective(sp=Term(SP()).on("hidden1"))(*pair, *batch).loss > 0  # compares samples, so widths may differ


def test_class_counts_that_differ_are_refused_with_both_shapes(pair, batch):
    other = MLP((4,), (5,), classes=7).eval()
    with pytest.raises(ValueError, match=r"student logits gives \(8, 3\), teacher logits gives \(8, 7\)"):
        Objective(kd=KD())(pair[0], other, *batch)


def test_build_infers_widths_and_leaves_the_student_alone(batch):
    torch.manual_seed(0)
    student, teacher = resnet(8), resnet(8, wide=True).eval()
    x = torch.randn(2, 3, 16, 16)
    objective = Objective(
        map=Term(nn.MSELoss()).on("layer2", student_proj=Conv1x1()),
        vector=Term(nn.MSELoss()).on("layer1", "pool", student_proj=Chain(Pool(1), Linear())),
        back=Term(nn.MSELoss()).on("pool", teacher_proj=Linear()),
    )
    with pytest.raises(ProjectorError, match="term 'map', student: Conv1x1 does not know its widths yet"):
        objective(student, teacher, x)
    before = copy.deepcopy(student.state_dict())
    student.train()
    objective.build(student, teacher, x)
    assert student.training
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    objective(student, teacher, x).loss.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_build_initializes_lazy_losses_without_touching_their_memory(pair, batch):
    x, y = batch
    loss = CRD(8, dim=4, negatives=3)
    objective = Objective(crd=Term(loss).on("hidden1"))
    banks = loss.student_bank.clone()
    objective.build(*pair, x[:2])
    assert loss.student_embed.weight.shape == (4, 6)
    assert torch.equal(loss.student_bank, banks)
    assert bool(loss.log_z.isnan().all())
    objective(*pair, x, y, index=torch.arange(8)).loss.backward()
    assert not bool(loss.log_z.isnan().any())


def bad_x(x, y):
    return x.index_put((torch.tensor(3), torch.tensor(0)), torch.tensor(float("nan"))), y


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (bad_x, ValueError, r"the input batch \(8, 4\) has 1 non-finite value\(s\), the first in sample 3"),
        (lambda x, y: (x, y + 1), ValueError, r"labels must be in \[0, 2\] for logits with 3 classes, got 1 to 3"),
        (lambda x, y: (x, y - 3), ValueError, r"labels must be in \[0, 2\]"),
        (lambda x, y: (x, y[:5]), ValueError, r"targets must be \(8,\) for a batch of 8, got \(5,\)"),
        (lambda x, y: (x, y.float()), TypeError, r"must be integer class labels"),
        (lambda x, y: (x, torch.zeros(8, 4)), ValueError, r"soft targets must be \(8, 3\), got \(8, 4\)"),
    ],
)
def test_bad_batches_are_refused(pair, batch, change, error, message):
    with pytest.raises(error, match=message):
        Objective(ce=CE(), kd=KD())(*pair, *change(*batch))


def test_bad_networks_are_refused(pair, batch):
    student, teacher = pair
    x, y = batch
    objective = Objective(ce=CE(), kd=KD())
    with pytest.raises(TeacherError, match="train mode"):
        objective(student, teacher.train(), x, y)
    teacher.eval().fc.bias.data[0] = float("inf")
    with pytest.raises(ValueError, match=r"teacher 'teacher': logits \(8, 3\) has 8 non-finite"):
        objective(student, teacher, x, y)
    with pytest.raises(ValueError, match=r"student Unflatten must return logits \(8, C\).*returned \(8, 2, 2\)"):
        Objective(ce=CE())(nn.Unflatten(1, (2, 2)), None, x, y)
    with pytest.raises(TapError, match="close matches: hidden1"):
        Objective(sp=Term(SP()).on("hiden1"))(student, teacher, x, y)


def test_a_loss_that_explodes_is_named(pair, batch):
    objective = Objective(ce=CE(), boom=Term(FunctionLoss(lambda s, t: s.sum() * float("inf"))))
    with pytest.raises(FloatingPointError, match="boom = "):
        objective(*pair, *batch)


def test_terms_that_cannot_work_fail_when_they_are_made():
    with pytest.raises(TapError, match=r"term 'sp': SP compares features, say where"):
        Objective(sp=SP())
    with pytest.raises(TypeError, match="a term needs a loss module"):
        Term(lambda s, t: s)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"2 student projector\(s\) for 1 tap"):
        Term(SP()).on("a", student_proj=[Linear(), Linear()])
    with pytest.raises(TypeError, match="one number or one schedule"):
        Ramp() * (0.5 * Term(KD()))
    with pytest.raises(ValueError, match="at least one term"):
        Objective()
    with pytest.raises(TypeError, match=r"cannot give \['mask'\]"):
        Term(FunctionLoss(lambda s, t, mask: s))
    with pytest.raises(ValueError, match=r"must give one number, it gave \(8,\)"):
        Objective(kd=KD(reduction="none"))(MLP((4,), classes=3), MLP((4,), classes=3).eval(), torch.randn(8, 4))


def test_calls_are_read_from_signatures():
    assert LossCall.of(nn.MSELoss()) == LossCall(pair=True, undecided=True)
    assert LossCall.of(nn.MSELoss(), "teacher") == LossCall(pair=True)
    assert LossCall.of(CE()).target == "target"
    assert LossCall.of(CRD(8, 2, 2, dim=2, negatives=2)).required == {"index"}
    assert not LossCall.of(FunctionLoss(lambda student: student)).pair


def test_half_precision_networks_meet_losses_in_float32(pair, batch):
    student, teacher = pair
    x, y = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Objective(ce=CE(), kd=KD())(student, teacher, x, y)
    assert out.logits.dtype == out.loss.dtype == torch.float32
    torch.testing.assert_close(out.loss, Objective(ce=CE(), kd=KD())(student, teacher, x, y).loss, rtol=0.05, atol=0.05)


def test_a_bound_objective_is_a_loss_of_a_batch_whose_schedules_follow_the_epoch(pair, batch):
    student, teacher = pair
    x, y = batch
    objective = Objective(ce=CE(), sp=Ramp(0, 4, steps=2) * SP().on("hidden1", "hidden2"))
    assert objective.needs_teacher
    assert objective.teacher_taps == ("hidden2",)
    loss = objective.bind(student, teacher, epochs=3)
    rows = Batch(x, y, torch.arange(len(x)), (len(x),))
    for epoch, weight in ((0, 0.0), (1, 2.0), (2, 4.0)):
        out = objective(student, teacher, x, y, step=float(epoch), total=3.0)
        assert out.weights["sp"] == weight
        assert torch.equal(loss(rows, epoch), out.loss)
    assert not Objective(ce=CE()).needs_teacher


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1.0, 2.0], False),
        ([3e38, 3e38], False),  # every entry is finite, their sum is not
        ([-3e38, -3e38], False),
        ([float("inf"), float("-inf")], True),
        ([float("nan"), 1.0], True),
        ([float("inf"), -3e38], True),
    ],
)
def test_the_cheap_test_of_finite_values_is_exact(values, bad):
    from policykd.kd.objective.signals import check_finite

    tensor = torch.tensor([[1.0, 1.0], values])
    if bad:
        with pytest.raises(ValueError, match="the first in sample 1"):
            check_finite(tensor, "x")
    else:
        check_finite(tensor, "x")
