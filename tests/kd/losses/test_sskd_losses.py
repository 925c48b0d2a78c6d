"""Similarities of views, error levels and selective transfer: the card's numbers and what holds for every input."""

import numpy as np
import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses.selective_kd import SelectiveKD, error_level, select_rows, selective_kd
from policykd.kd.losses.sskd import SSKD, head_loss, originals, split_views, sskd, view_similarity

# rows per image: the original, then its three rotations
TEACHER = torch.tensor(
    [[[1, 0], [1, 0.2], [0.9, 0.1], [0.1, 1]], [[0, 1], [0, 1], [1, 0.3], [0.3, 1]]], dtype=torch.float64
).flatten(0, 1)
STUDENT = torch.tensor(
    [[[1, 1], [1, 0.5], [1, 0], [0.5, 1]], [[0, 1], [0.2, 1], [1, 1], [0, 1]]], dtype=torch.float64
).flatten(0, 1)


def test_known_similarity_ranks_and_head_loss():
    a_t = view_similarity(TEACHER)
    expected = [
        (0.980581, 0.196116),
        (0.993884, 0.110432),
        (0.099504, 0.995037),
        (0, 1),
        (0.957826, 0.287348),
        (0.287348, 0.957826),
    ]
    np.testing.assert_allclose(a_t.numpy(), expected, atol=1e-6)
    assert originals(a_t).tolist() == [0, 0, 0, 1, 1, 1]
    assert error_level(a_t, originals(a_t)).tolist() == [0, 0, 1, 0, 1, 0]
    assert float(head_loss(a_t)) == pytest.approx(0.628298, abs=1e-6)


@pytest.mark.parametrize(
    ("share", "rows", "loss"),
    [
        (1.0, [0, 1, 2, 3, 4, 5], 0.028754),
        (0.75, [0, 1, 2, 3, 5], 0.031825),
        (0.5, [0, 1, 2, 3, 5], 0.031825),
        (0.0, [0, 1, 3, 5], 0.019588),
    ],
)
def test_known_selective_transfer(share, rows, loss):
    a_t = view_similarity(TEACHER)
    assert select_rows(error_level(a_t, originals(a_t)), share).tolist() == rows
    assert float(sskd(STUDENT, TEACHER, temperature=0.5, share=share)) == pytest.approx(loss, abs=1e-6)
    similar = view_similarity(STUDENT)
    assert float(selective_kd(similar, a_t, originals(a_t), temperature=0.5, share=share)) == pytest.approx(
        loss, abs=1e-6
    )


def test_scale_of_the_head_does_not_matter():
    torch.testing.assert_close(view_similarity(7.0 * TEACHER), view_similarity(TEACHER))
    assert torch.isfinite(view_similarity(torch.zeros(8, 2))).all()


def test_a_student_equal_to_the_teacher_has_no_loss():
    scores, labels = torch.randn(12, 5, dtype=torch.float64), torch.randint(0, 5, (12,))
    value = selective_kd(scores, scores, labels, temperature=4.0, share=1.0)
    assert float(value) == pytest.approx(0.0, abs=1e-12)
    assert float(kf.kd(scores, scores)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_number_and_order_of_kept_rows(share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        levels = torch.from_numpy(rng.integers(0, 4, 17))
        kept = select_rows(levels, share)
        wrong = int((levels > 0).sum())
        assert len(kept) == 17 - wrong + int(share * wrong)
        assert set(torch.nonzero(levels == 0).flatten().tolist()) <= set(kept.tolist())
        left = levels[np.setdiff1d(np.arange(17), kept.numpy())]
        assert not len(left) or levels[kept].max() <= left.min()


def test_error_level_against_numpy_and_its_ties():
    scores, target = torch.randn(40, 7), torch.randint(0, 7, (40,))
    expected = [(row > row[label]).sum() for row, label in zip(scores.numpy(), target.numpy(), strict=True)]
    assert error_level(scores, target).tolist() == expected
    assert error_level(torch.zeros(3, 4), torch.tensor([0, 2, 3])).tolist() == [0, 2, 3]


def test_no_row_kept_is_a_zero_with_a_gradient():
    scores = torch.tensor([[0.0, 1.0]], requires_grad=True)
    value = selective_kd(scores, scores.detach(), torch.tensor([0]), temperature=1.0, share=0.0)
    value.backward()
    assert value == 0
    assert (scores.grad == 0).all()
    each = selective_kd(scores, scores.detach(), torch.tensor([0]), share=0.0, reduction="none")
    assert each.shape == (0,)


def test_reductions_act_on_the_kept_rows_in_their_order():
    scores, teacher = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 4
    rows = select_rows(error_level(teacher, labels), 0.5)
    assert 0 < len(rows) < 9
    for reduction in ("none", "mean", "sum", "batchmean"):
        value = selective_kd(scores, teacher, labels, share=0.5, reduction=reduction)
        torch.testing.assert_close(value, kf.kd(scores[rows], teacher[rows], reduction=reduction))


def test_the_modules_are_their_functions():
    loss = SSKD(temperature=1.0, share=0.5)
    assert torch.equal(loss(STUDENT, TEACHER), sskd(STUDENT, TEACHER, temperature=1.0, share=0.5))
    scores, labels = torch.randn(2, 6, 3), torch.arange(6) % 3
    assert torch.equal(SelectiveKD(share=0.2)(*scores, labels), selective_kd(*scores, labels, share=0.2))


@pytest.mark.parametrize("module", [SSKD, SelectiveKD])
def test_options_out_of_range_are_refused(module):
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 1.5"):
        module(share=1.5)
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        module(temperature=0.0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="not a whole number of images"):
        split_views(torch.zeros(6, 2))
    with pytest.raises(ValueError, match="not a whole number of images"):
        sskd(torch.zeros(6, 2), torch.zeros(6, 2))
    with pytest.raises(ValueError, match="share must be in"):
        select_rows(torch.zeros(3, dtype=torch.long), 1.5)
    with pytest.raises(ValueError, match="labels must have shape"):
        error_level(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long))
