"""The similarity-keeping Gram matrix: worked numbers, Pearson correlations, and invariances."""

import numpy as np
import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses.similarity_keeping import keeping_gram, similarity_keeping

F_S = torch.tensor(
    [[[1, 2, 3], [2, 0, 1]], [[3, 2, 1], [0, 1, 0]], [[1, 0, 2], [1, 1, 2]]],
    dtype=torch.float64,
)
F_T = torch.tensor([[[2, 1, 0]], [[0, 1, 3]], [[1, 1, 4]]], dtype=torch.float64)


def maps(seed, batch=4, channels=3, time=6):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, channels, time)))


def test_known_values():
    g_s = [[1, -0.933013, 0.25], [-0.933013, 1, -0.5], [0.25, -0.5, 1]]
    g_t = [[1, -0.981981, -0.866025], [-0.981981, 1, 0.944911], [-0.866025, 0.944911, 1]]
    for features, expected in ((F_S, g_s), (F_T, g_t)):
        np.testing.assert_allclose(keeping_gram(features).numpy(), expected, atol=1e-6)
    assert float(similarity_keeping(F_S, F_T)) == pytest.approx(0.741262, abs=1e-6)
    assert float(kf.sp(F_S, F_T)) == pytest.approx(0.098582, abs=1e-6)


def test_gram_is_the_mean_correlation_over_channels():
    features = maps(0)
    expected = np.mean([np.corrcoef(features[:, c].numpy()) for c in range(3)], axis=0)
    np.testing.assert_allclose(keeping_gram(features).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(keeping_gram(features[:, :, None]).numpy(), expected, atol=1e-12)
    high = maps(1, channels=6).reshape(4, 3, 2, 6)
    np.testing.assert_allclose(keeping_gram(high).numpy(), keeping_gram(high.flatten(1, 2)).numpy())


def test_invariances():
    student, teacher = maps(0), maps(1, channels=2, time=9)
    gram, value = keeping_gram(student), similarity_keeping(student, teacher)
    torch.testing.assert_close(gram.diagonal(), torch.ones(4).double())
    assert gram.abs().max() <= 1 + 1e-12
    offset = torch.tensor([3.0, -1.0, 100.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(keeping_gram(2.5 * student + offset), gram)
    torch.testing.assert_close(keeping_gram(student[:, [2, 0, 1]]), gram)
    torch.testing.assert_close(keeping_gram(student.repeat(1, 2, 1)), gram)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(keeping_gram(student[order]), gram[order][:, order])
    torch.testing.assert_close(similarity_keeping(student[order], teacher[order]), value)
    assert float(similarity_keeping(student, student)) == 0.0
    assert float(similarity_keeping(student[:1], teacher[:1])) == pytest.approx(0.0, abs=1e-24)


def test_blocks_are_summed_and_reduction_honored():
    students, teachers = (maps(0), maps(2, time=4)), (maps(1), maps(3))
    singly = [similarity_keeping(s, t, reduction="none") for s, t in zip(students, teachers, strict=True)]
    torch.testing.assert_close(similarity_keeping(students, teachers, reduction="none"), sum(singly))
    torch.testing.assert_close(similarity_keeping(students, teachers), sum(singly).mean())


def test_uncentered_form_is_the_cosine_gram():
    student, teacher = maps(0, channels=1), maps(1, channels=1, time=9)
    torch.testing.assert_close(
        similarity_keeping(student, teacher, center=False),
        kf.cc(student[:, 0], teacher[:, 0], kernel="bilinear"),
    )


def test_flat_channels_give_no_nan_and_the_teacher_no_gradient():
    student, teacher = maps(0), maps(1).requires_grad_()
    student[1, 2] = 4.0
    student.requires_grad_()
    similarity_keeping(student, teacher).backward()
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: similarity_keeping(s, teacher), maps(5).requires_grad_())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="equal numbers of blocks, got 2 and 1"):
        similarity_keeping((maps(0), maps(1)), maps(2))
    with pytest.raises(ValueError, match="same batch size"):
        similarity_keeping(maps(0), maps(1, batch=3))
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        similarity_keeping(torch.zeros(2, 3), torch.zeros(2, 3))
