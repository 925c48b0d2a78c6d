"""Similarity preservation against worked numbers and bounds, and the steps on labels and a pool."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.losses.sp import similarity_matrix
from policykd.kd.networks import MLP
from policykd.kd.networks.penultimate import penultimate
from policykd.kd.systems.sp import EXPERIMENT, LabeledDraws, SPConfig, on_pool, run
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded

QT = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.double)
QS = torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]], dtype=torch.double)


def features(batch=6, width=4, seed=0):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def close(tensor, expected):
    torch.testing.assert_close(tensor, torch.tensor(expected, dtype=tensor.dtype), atol=1e-6, rtol=0)


def test_the_worked_values():
    close(similarity_matrix(QT), [[0.707107, 0, 0.707107], [0, 0.707107, 0.707107], [0.408248, 0.408248, 0.816497]])
    close(similarity_matrix(QS), [[0.780869, 0.624695, 0], [0.624695, 0.780869, 0], [0, 0, 1]])
    assert float(kf.sp(QS, QT)) == pytest.approx(0.239820, abs=1e-6)


def test_columns_instead_of_rows_give_the_same_value():
    gap = F.normalize(QS @ QS.T, dim=0) - F.normalize(QT @ QT.T, dim=0)
    assert float(gap.square().sum() / 9) == pytest.approx(0.239820, abs=1e-6)


def test_rotations_and_a_common_scale_do_not_count():
    student, teacher = features(), features(seed=1)
    turn, _ = torch.linalg.qr(features(4, 4, seed=2))
    value = kf.sp(student, teacher)
    torch.testing.assert_close(kf.sp(2.5 * student @ turn, teacher), value)
    torch.testing.assert_close(kf.sp(student, 0.1 * teacher @ turn), value)
    assert float(kf.sp(3.0 * teacher @ turn, teacher)) == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize(("batch", "expected"), [(2, 0.292893), (4, 0.25), (8, 0.161612)])
def test_orthonormal_against_collapsed_features(batch, expected):
    value = float(kf.sp(torch.eye(batch, dtype=torch.double), torch.ones(batch, 3, dtype=torch.double)))
    assert value == pytest.approx((2 - 2 / batch**0.5) / batch)
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5, 9])
def test_bounds(batch):
    for seed in range(5):
        student, teacher = features(batch, 3, seed), features(batch, 2, seed + 50)
        assert 0 <= float(kf.sp(student, teacher)) <= 4 / batch
        assert float(kf.sp(student.abs(), teacher.abs())) <= 2 / batch


def test_the_order_of_the_batch_counts_only_if_one_changes_it():
    student, teacher, turn = features(), features(seed=1), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(kf.sp(student[turn], teacher[turn]), kf.sp(student, teacher))
    assert float(kf.sp(student[turn], teacher)) != pytest.approx(float(kf.sp(student, teacher)), rel=1e-3)


def test_one_sample_has_nothing_to_be_like():
    assert float(kf.sp(features(1), features(1, seed=1))) == 0.0


def test_the_gradient_has_its_closed_form():
    """D = 2 / b**2 (G_s - G_t); dG~[i] = (D[i] - (D[i] . G_s[i]) G_s[i]) / |G~_s[i]|; dQ = (dG~ + dG~') Q."""
    student, teacher = features().requires_grad_(), features(width=3, seed=1)
    kf.sp(student, teacher).backward()
    q = student.detach().numpy()
    gram = q @ q.T
    norms = np.linalg.norm(gram, axis=1, keepdims=True)
    g = gram / norms
    d = 2 / 36 * (g - similarity_matrix(teacher).numpy())
    inner = (d - (d * g).sum(1, keepdims=True) * g) / norms
    np.testing.assert_allclose(student.grad.numpy(), (inner + inner.T) @ q, atol=1e-14)


POOL = torch.randn(12, 4, generator=torch.Generator().manual_seed(7))
KNOWN = Split(torch.randn(6, 4, generator=torch.Generator().manual_seed(8)), torch.arange(6) % 3)
BATCH = Batch(POOL[2:8], torch.full((6,), -1), torch.arange(2, 8), (6,))


def parts():
    student = seeded(lambda: MLP((4,), (6, 5), classes=3), 0, "student")
    teacher = seeded(lambda: MLP((4,), (9,), classes=3), 0, "teacher")
    with torch.no_grad():
        return student, LabeledDraws(KNOWN, 4, 0), *penultimate(teacher, POOL)


def test_a_step_adds_labels_similarities_and_logits_of_the_right_rows():
    student, draws, taught, logits = parts()
    weights = {"ce_weight": 0.5, "sp_weight": 30.0, "kd_weight": 0.7, "temperature": 2.0}
    value = on_pool(student, draws, taught, logits, **weights)(BATCH, 0)
    known = LabeledDraws(KNOWN, 4, 0).draw()
    own, said = penultimate(student, BATCH.x)
    expected = 0.5 * F.cross_entropy(student(known.x), known.y) + 30 * kf.sp(own, taught[2:8])
    torch.testing.assert_close(value, expected + 0.7 * kf.kd(said, logits[2:8], temperature=2.0))


def test_the_pools_labels_are_never_read_and_a_weight_of_zero_needs_no_teacher():
    student, draws, _, _ = parts()
    nothing = torch.empty(0)
    value = on_pool(student, draws, nothing, nothing)(BATCH, 0)
    known = LabeledDraws(KNOWN, 4, 0).draw()
    torch.testing.assert_close(value, F.cross_entropy(student(known.x), known.y))


def test_draws_repeat_and_hold_no_sample_twice():
    first, second = LabeledDraws(KNOWN, 4, 3), LabeledDraws(KNOWN, 4, 3)
    for _ in range(5):
        drawn = first.draw()
        assert torch.equal(drawn.x, second.draw().x)
        assert len({tuple(row) for row in drawn.x.tolist()}) == 4
    assert len(LabeledDraws(KNOWN, 6, 0).draw()) == 6
    with pytest.raises(ConfigError, match="labeled samples per step"):
        LabeledDraws(KNOWN, 7, 0)


@pytest.mark.parametrize("change", [{"sp_weights": ()}, {"sp_weights": (0.0,)}, {"pool": 1.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError):
        SPConfig(**change)


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = SPConfig(teacher_hidden=(8,), teacher_epochs=1, epochs=1)
    cell = run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert run(0, tiny) == cell
    assert cell["teacher"]["sp"] == 0.0
