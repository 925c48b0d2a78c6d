"""The choice of a teacher, angular fields and stages against worked values, and the arms of the experiment."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.adaptive_confidence import adaptive_confidence, class_vectors, most_confident, teachers_of_stage
from policykd.kd.data.angular_field import angular_field, scale_series
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.pskd_har import EXPERIMENT, PSKDCell, PSKDRecipe, pskd
from policykd.kd.training.batches import Batch

TINY = PSKDRecipe(
    teacher=Fit((8,), epochs=2), student=Fit((6,), epochs=3, batch_size=40), samples=80, test_samples=50, vector_size=9
)
Y = torch.tensor([0, 1, 0])
FIRST = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 3]], dtype=torch.float64)
SECOND = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 3, 0]], dtype=torch.float64)
STUDENT = torch.zeros(3, 3, dtype=torch.float64)


def loss(*teachers, student=STUDENT, target=Y):
    return float(adaptive_confidence(student, torch.stack(teachers), target, temperature=4.0))


def test_worked_values():
    own = [float(one.softmax(1)[row, Y[row]]) for one in (FIRST, SECOND) for row in range(3)]
    assert own == pytest.approx([0.786986, 0.576117, 0.045279, 0.576117, 0.786986, 0.045279], abs=1e-6)
    chosen, right = most_confident(torch.stack([FIRST, SECOND]), Y)
    assert chosen[:2].tolist() == [0, 1]
    assert right.tolist() == [True, True, False]
    assert loss(FIRST, SECOND) == pytest.approx(0.687984, abs=1e-6)
    rows = [float(adaptive_confidence(STUDENT[[k]], torch.stack([FIRST, SECOND])[:, [k]], Y[[k]])) for k in range(3)]
    assert rows == pytest.approx([0.482670, 0.482670, 1.098612], abs=1e-6)


def test_teachers_that_are_always_right_or_always_wrong():
    right = torch.eye(3, dtype=torch.float64)[Y] * 2
    student = torch.tensor([[0.3, -1.0, 0.2], [1.0, 0.5, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    assert loss(right, student=student) == pytest.approx(float(kf.kd(student, right, temperature=4.0)))
    assert loss(-right, student=student) == pytest.approx(float(F.cross_entropy(student, Y)))


def test_copies_of_teachers_and_confidence_in_an_error_change_nothing():
    assert loss(FIRST, SECOND, FIRST) == loss(FIRST, SECOND)
    surer = FIRST.clone()
    surer[2, 2] = 30.0
    assert loss(surer, SECOND) == loss(FIRST, SECOND)


def test_the_choice_has_no_gradient_and_the_student_has():
    student = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teachers = torch.stack([FIRST, SECOND]).requires_grad_()
    adaptive_confidence(student, teachers, Y).backward()
    assert teachers.grad is None
    assert torch.autograd.gradcheck(lambda z: adaptive_confidence(z, teachers.detach(), Y), (student,))


def test_angular_fields_of_a_short_series():
    series = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    scaled = scale_series(series)
    assert scaled.tolist() == [-1.0, -0.5, 0.0, 1.0]
    total, difference = angular_field(series), angular_field(series, "difference")
    assert total[0].tolist() == pytest.approx([1, 0.5, 0, -1], abs=1e-6)
    assert total[1].tolist() == pytest.approx([0.5, -0.5, -0.866025, -0.5], abs=1e-6)
    assert difference[0].abs().tolist() == pytest.approx([0, 0.866025, 1, 0], abs=1e-6)
    torch.testing.assert_close(total, total.T)
    torch.testing.assert_close(total.diagonal(), 2 * scaled.square() - 1)
    torch.testing.assert_close(difference, -difference.T)


def test_fields_are_those_of_the_angles():
    series = torch.rand(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    angle = scale_series(series).arccos()
    torch.testing.assert_close(angular_field(series), torch.cos(angle[..., :, None] + angle[..., None, :]))
    expected = torch.sin(angle[..., :, None] - angle[..., None, :])
    torch.testing.assert_close(angular_field(series, "difference"), expected)
    assert scale_series(torch.full((2, 4), 3.0)).tolist() == [[0.0] * 4] * 2
    with pytest.raises(ConfigError, match="kind"):
        angular_field(series, "product")


def test_stages_add_a_teacher_each():
    assert [teachers_of_stage(epoch, 7, 3) for epoch in range(7)] == [1, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ConfigError, match="epoch"):
        teachers_of_stage(7, 7, 3)


def test_class_vectors_are_orthonormal():
    vectors = class_vectors(5, 9, 0)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(5))
    with pytest.raises(ConfigError, match="width"):
        class_vectors(5, 4, 0)


def test_a_step_uses_the_teachers_of_its_stage():
    cell = PSKDCell(0, TINY)
    student, rows = cell.network("student", TINY.student), torch.arange(3, 9)
    batch = Batch(cell.train.x[rows], cell.train.y[rows], rows, (6,))
    logits = student(batch.x)
    hard, vectors = F.cross_entropy(logits, batch.targets), class_vectors(8, 9, 0)[batch.targets]
    for epoch in range(3):
        soft = adaptive_confidence(logits, cell.answers[: epoch + 1, rows], batch.targets)
        expected = 0.1 * hard + 0.9 * soft + 0.1 * F.mse_loss(torch.zeros_like(vectors), vectors)
        torch.testing.assert_close(pskd(cell).loss(student, batch, epoch), expected)
    both = adaptive_confidence(logits, cell.answers[:, rows], batch.targets)
    torch.testing.assert_close(
        pskd(cell, stages=False, semantic=False).loss(student, batch, 0), 0.1 * hard + 0.9 * both
    )


def test_views_are_paired_and_the_student_sees_one():
    cell = PSKDCell(0, TINY)
    assert torch.equal(cell.views["both"][:, :12], cell.train.x)
    assert torch.equal(cell.views["both"][:, 12:], cell.views["skeleton"])
    assert cell.network("student", TINY.student)(cell.test.x).shape == (50, 8)


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    shares = [cell[f"teacher {name}"]["chosen"] for name in ("accelerometer", "skeleton", "both")]
    assert 0 < sum(shares) <= 1
