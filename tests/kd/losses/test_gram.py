"""The modality-level Gram loss: known values, invariances, and a loop as oracle."""

import numpy as np
import pytest
import torch

from policykd.kd.losses.gram import gram_loss, modality_gram, pairwise_cosines

TEACHER = torch.tensor([[[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]]], dtype=torch.float64)
STUDENT = torch.tensor([[[1, 0], [0.8, 0.6], [-1, 0]]], dtype=torch.float64)
SQUARED = ("per_sample", "off_diagonal", "batch")


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_known_matrices_and_loss():
    expected_t = torch.tensor([[1, 0.6, 0], [0.6, 1, 0], [0, 0, 1]], dtype=torch.float64)
    expected_s = torch.tensor([[1, 0.8, -1], [0.8, 1, -0.8], [-1, -0.8, 1]], dtype=torch.float64)
    torch.testing.assert_close(modality_gram(TEACHER)[0], expected_t)
    torch.testing.assert_close(modality_gram(STUDENT)[0], expected_s)
    assert (expected_t - expected_s).square().sum().item() == pytest.approx(3.36)
    assert gram_loss(STUDENT, TEACHER).item() == pytest.approx(0.373333, abs=5e-7)
    assert gram_loss(STUDENT, TEACHER, variant="off_diagonal").item() == pytest.approx(0.56)
    torch.testing.assert_close(pairwise_cosines(STUDENT)[0], expected_s[[0, 0, 1], [1, 2, 2]])


def test_against_loops_over_pairs_of_modalities():
    student, teacher = random(4, 3, 2), random(4, 3, 5, seed=1)

    def entry(f, b, i, j, normalize):
        x, y = f[b, i].numpy(), f[b, j].numpy()
        return x @ y / (np.linalg.norm(x) * np.linalg.norm(y) if normalize else len(x))

    for variant, normalize in (("per_sample", True), ("raw", False)):
        expected = [
            np.mean(
                [
                    (entry(student, b, i, j, normalize) - entry(teacher, b, i, j, normalize)) ** 2
                    for i in range(3)
                    for j in range(3)
                ]
            )
            for b in range(4)
        ]
        values = gram_loss(student, teacher, variant=variant, reduction="none")
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_variants_against_their_definition():
    student, teacher = random(4, 3, 2), random(4, 3, 5, seed=1)
    flat_s, flat_t = (f.transpose(0, 1).reshape(3, -1).numpy() for f in (student, teacher))
    cosines = [f @ f.T / np.outer(*[np.linalg.norm(f, axis=1)] * 2) for f in (flat_s, flat_t)]
    expected = ((cosines[0] - cosines[1]) ** 2).mean()
    assert gram_loss(student, teacher, variant="batch").item() == pytest.approx(expected)
    p, q = (modality_gram(f).softmax(-1).numpy() for f in (teacher, student))
    expected = (p * np.log(p / q)).sum(-1).mean()
    assert gram_loss(student, teacher, variant="probability").item() == pytest.approx(expected)


@pytest.mark.parametrize("variant", SQUARED)
def test_rotation_scale_and_order_of_modalities_change_nothing(variant):
    student, teacher = random(6, 3, 4), random(6, 3, 7, seed=1)
    value = gram_loss(student, teacher, variant=variant)
    rotation = torch.linalg.qr(random(4, 4, seed=2)).Q
    torch.testing.assert_close(gram_loss(student @ rotation, teacher, variant=variant), value)
    scale = torch.tensor([0.1, 2.0, 30.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(gram_loss(student * scale, teacher, variant=variant), value)
    order = [2, 0, 1]
    torch.testing.assert_close(gram_loss(student[:, order], teacher[:, order], variant=variant), value)


def test_per_sample_scale_changes_nothing_and_duplicating_the_batch_neither():
    student, teacher = random(6, 3, 4), random(6, 3, 7, seed=1)
    value = gram_loss(student, teacher)
    scale = random(6, 3, 1, seed=3).abs() + 0.1
    torch.testing.assert_close(gram_loss(student * scale, teacher), value)
    torch.testing.assert_close(gram_loss(student.repeat(2, 1, 1), teacher.repeat(2, 1, 1)), value)
    torch.testing.assert_close(gram_loss(student, teacher, variant="off_diagonal"), value * 9 / 6)


def test_the_matrix_is_a_gram_matrix_with_unit_diagonal():
    gram = modality_gram(random(5, 4, 3))
    torch.testing.assert_close(gram, gram.transpose(1, 2))
    torch.testing.assert_close(gram.diagonal(dim1=1, dim2=2), torch.ones(5, 4, dtype=torch.float64))
    assert torch.linalg.eigvalsh(gram).min() > -1e-12
    assert gram_loss(random(50, 2, 3), -random(50, 2, 3, seed=1), reduction="none").max() <= 4


def test_zero_exactly_where_all_cosines_agree():
    teacher = random(5, 3, 6)
    wider = torch.cat([3 * teacher, torch.zeros(5, 3, 2, dtype=torch.float64)], dim=2)
    assert gram_loss(wider, teacher).item() == pytest.approx(0, abs=1e-24)
    bent = wider.clone()
    bent[:, 0] += random(8, seed=4)
    assert gram_loss(bent, teacher) > 1e-3


def test_one_modality_carries_no_relation():
    for variant in (*SQUARED, "probability"):
        assert gram_loss(random(4, 1, 3), random(4, 1, 2, seed=1), variant=variant).item() == pytest.approx(
            0, abs=1e-15
        )


def test_a_missing_modality_is_left_out_of_the_teachers_matrix():
    student, teacher = random(4, 2, 3), random(4, 3, 5, seed=1)
    torch.testing.assert_close(gram_loss(student, teacher, present=(0, 2)), gram_loss(student, teacher[:, [0, 2]]))
    with pytest.raises(ValueError, match="name those that the student has in present"):
        gram_loss(student, teacher)
    with pytest.raises(ValueError, match=r"\[0, 2\], got \[0, 3\]"):
        gram_loss(student, teacher, present=(0, 3))


def test_gradient_stops_at_the_teacher_and_is_right_for_the_student():
    student, teacher = random(3, 3, 2).requires_grad_(), random(3, 3, 4, seed=1).requires_grad_()
    gram_loss(student, teacher).backward()
    assert teacher.grad is None
    for variant in ("per_sample", "off_diagonal", "batch", "raw", "probability"):
        assert torch.autograd.gradcheck(lambda s, v=variant: gram_loss(s, teacher.detach(), variant=v), student)
    zero = torch.zeros(2, 3, 4, requires_grad=True)
    gram_loss(zero, random(2, 3, 4)).backward()
    assert torch.isfinite(zero.grad).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\(B, M, d\)"):
        gram_loss(random(4, 3), random(4, 3))
    with pytest.raises(ValueError, match="same batch size"):
        gram_loss(random(4, 3, 2), random(5, 3, 2))
    with pytest.raises(ValueError, match="variant must be one of"):
        gram_loss(STUDENT, TEACHER, variant="cosine")
