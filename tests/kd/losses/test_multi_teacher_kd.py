"""Confidence weights against worked numbers, their bounds and symmetries, and the feature term."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.kd import functional as kf
from policykd.kd.losses import CE
from policykd.kd.losses.multi_teacher_kd import (
    ConfidenceFeatures,
    MultiTeacherKD,
    confidence_weights,
    entropy_weights,
    equal_weights,
    label_confidence,
    multi_teacher_kd,
)
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.terms import Term
from policykd.kd.training.loop import seeded

TEACHERS = torch.tensor([[[2.0, 0, 0]], [[0, 2.0, 0]], [[0.5, 0.5, 0.5]]], dtype=torch.double)
STUDENT = torch.tensor([[1.0, 0, 0]], dtype=torch.double)
LABEL = torch.tensor([0])


def some_logits(teachers=3, batch=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(teachers, batch, classes, generator=generator, dtype=torch.double)
    return logits, torch.arange(batch) % classes


def test_weights_and_loss_have_the_worked_values():
    losses = F.cross_entropy(TEACHERS[:, 0], LABEL.expand(3), reduction="none")
    assert losses.tolist() == pytest.approx([0.239545, 2.239545, 1.098612], abs=1e-6)
    weights = label_confidence(TEACHERS, LABEL)
    assert weights[:, 0].tolist() == pytest.approx([0.453488, 0.156323, 0.390188], abs=1e-6)
    values = [float(kf.kd(STUDENT, teacher, temperature=4.0)) for teacher in TEACHERS]
    assert values == pytest.approx([0.122542, 0.833718, 0.113989], abs=1e-6)
    assert float(multi_teacher_kd(STUDENT, TEACHERS, weights)) == pytest.approx(0.230378, abs=1e-6)
    reference = float(multi_teacher_kd(STUDENT, TEACHERS, weights, reference_scale=True))
    assert reference == pytest.approx(0.076793, abs=1e-6)
    average = float(multi_teacher_kd(STUDENT, TEACHERS, equal_weights(TEACHERS, LABEL)))
    assert average == pytest.approx(0.356750, abs=1e-6)


def test_entropy_cannot_tell_the_right_teacher_from_the_wrong_one():
    """The code's weights sum to K - 1 = 2; ours are these over 2."""
    weights = entropy_weights(TEACHERS, LABEL)[:, 0]
    assert (2 * weights).tolist() == pytest.approx([0.726074, 0.726074, 0.547851], abs=1e-6)
    assert float(weights.sum()) == pytest.approx(1.0)


def test_the_formula_as_it_is_written():
    logits, labels = some_logits()
    inverse = torch.stack([1 / z.softmax(1)[torch.arange(6), labels] for z in logits])  # exp(CE) = 1 / p_y
    expected = (1 - inverse / inverse.sum(0)) / 2
    torch.testing.assert_close(label_confidence(logits, labels), expected)


@pytest.mark.parametrize("weighting", [label_confidence, entropy_weights, equal_weights])
@pytest.mark.parametrize("teachers", [1, 2, 3, 5])
def test_weights_sum_to_one_and_keep_their_bound(weighting, teachers):
    weights = weighting(*some_logits(teachers))
    torch.testing.assert_close(weights.sum(0), torch.ones(6, dtype=torch.double))
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1 / max(1, teachers - 1)


def test_a_surer_teacher_never_weighs_less():
    logits, labels = some_logits(5)
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits])
    order = losses.argsort(0)
    assert bool((label_confidence(logits, labels).gather(0, order).diff(dim=0) <= 0).all())


def test_weights_follow_the_teachers_order_and_ignore_a_constant():
    logits, labels = some_logits()
    weights, turn = label_confidence(logits, labels), torch.tensor([2, 0, 1])
    torch.testing.assert_close(label_confidence(logits[turn], labels), weights[turn])
    moved = logits + torch.tensor([5.0, 0, -3.0]).view(3, 1, 1)
    torch.testing.assert_close(label_confidence(moved, labels), weights)


def test_equal_teachers_are_one_teacher():
    logits, labels = some_logits(1)
    many, student = logits.expand(4, -1, -1), some_logits(1, seed=1)[0][0]
    weights = label_confidence(many, labels)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25))
    torch.testing.assert_close(multi_teacher_kd(student, many, weights), kf.kd(student, logits[0]))


def test_perfect_and_hopeless_teachers():
    hopeless = 800.0
    two = confidence_weights(torch.tensor([[0.0], [hopeless]]))
    assert two[:, 0].tolist() == [1.0, 0.0]
    three = confidence_weights(torch.tensor([[0.0], [hopeless], [hopeless]]))
    assert three[:, 0].tolist() == [0.5, 0.25, 0.25]
    assert confidence_weights(torch.tensor([[3.0]])).tolist() == [[1.0]]


def test_sure_teachers_have_no_entropy_to_share():
    sure = 1e4 * torch.eye(3).view(3, 1, 3)
    assert bool(torch.isfinite(entropy_weights(sure, LABEL)).all())


def test_the_loss_works_in_an_objective_over_several_teachers():
    student = seeded(lambda: MLP((4,), (5,), classes=3), 0, "student")
    teachers = [seeded(lambda: MLP((4,), (5,), classes=3), n, "teacher").eval() for n in range(3)]
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    objective = Objective(ce=CE(), ca=Term(MultiTeacherKD(temperature=2.0)).combined("stack"))
    out = objective(student, teachers, x, y)
    logits = torch.stack([teacher(x) for teacher in teachers])
    expected = multi_teacher_kd(student(x), logits, label_confidence(logits, y), temperature=2.0)
    torch.testing.assert_close(out.terms["ca"], expected.detach())
    out.loss.backward()
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


@pytest.mark.parametrize(
    ("student", "teachers", "weights"),
    [((2, 3), (3, 1, 3), (3, 2)), ((2, 3), (2, 3), (2, 2)), ((2, 3), (4, 2, 3), (2, 4))],
)
def test_shapes_that_do_not_fit_are_named(student, teachers, weights):
    with pytest.raises(ValueError, match=r"teachers must be \(K, 2, 3\)"):
        multi_teacher_kd(torch.zeros(student), torch.zeros(teachers), torch.zeros(weights))


def test_labels_out_of_range_are_refused():
    with pytest.raises(ValueError, match="labels must be"):
        label_confidence(TEACHERS, torch.tensor([3]))


class Head(nn.Module):
    """Global pooling and a linear classifier."""

    def __init__(self, channels, seed):
        super().__init__()
        self.fc = seeded(lambda: nn.Linear(channels, 3), seed, "head")

    def forward(self, maps):
        return self.fc(maps.mean((2, 3)))


SHAPES = [(5, 2, 2), (7, 4, 4), (4, 8, 6)]  # smaller, equal and larger than the student's 4 x 4
MAPS = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(6) % 3


def features(**options):
    heads = [Head(shape[0], n).eval() for n, shape in enumerate(SHAPES)]
    return seeded(lambda: ConfidenceFeatures(3, SHAPES, heads, **options), 0, "adapters"), heads


def test_the_feature_term_is_zero_for_equal_features_and_weights_come_from_the_heads():
    term, heads = features()
    with torch.no_grad():
        adapted = term.adapted(MAPS)
    assert [tuple(maps.shape[1:]) for maps in adapted] == SHAPES
    assert term(MAPS, adapted, LABELS).item() == 0.0
    expected = label_confidence(torch.stack([h(a) for h, a in zip(heads, adapted, strict=True)]), LABELS)
    torch.testing.assert_close(term.weights(adapted, LABELS), expected.detach())


def test_the_feature_term_weighs_the_mean_squared_distance_of_each_teacher():
    """Every teacher's map differs from the adapted one by a constant of its own: the distances are their squares."""
    term, _ = features()
    with torch.no_grad():
        adapted = term.adapted(MAPS)
        weights = term.weights(adapted, LABELS)
        others = [maps + gap for maps, gap in zip(adapted, (0.5, 1.0, 2.0), strict=True)]
        expected = (weights * torch.tensor([0.25, 1.0, 4.0])[:, None]).sum(0).mean()
        torch.testing.assert_close(term(MAPS, others, LABELS), expected)
        reference, _ = features(reference_scale=True)
        torch.testing.assert_close(reference(MAPS, others, LABELS), expected / 3)


@pytest.mark.parametrize("detach", [True, False])
def test_heads_are_not_trained_whether_or_not_weights_carry_a_gradient(detach):
    term, heads = features(detach_weights=detach)
    others = [torch.zeros(6, *shape) for shape in SHAPES]
    term(MAPS, others, LABELS).backward()
    assert all(p.grad is None for head in heads for p in head.parameters())
    assert all(p.grad is not None for p in term.parameters())
    assert not {id(p) for head in heads for p in head.parameters()} & {id(p) for p in term.parameters()}
    assert term.weights(term.adapted(MAPS), LABELS).requires_grad is not detach


def test_feature_teachers_need_a_head_each():
    with pytest.raises(ValueError, match="every teacher needs"):
        ConfidenceFeatures(3, SHAPES, [Head(5, 0)])
