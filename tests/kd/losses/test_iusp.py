"""Frame similarity inside a clip: worked numbers, an oracle in loops, and invariances."""

import numpy as np
import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses.iusp import frames_first, iusp

A_T = torch.tensor([[[1, 0], [0, 1], [1, 1]], [[1, 0], [1, 0], [0, 1]]], dtype=torch.float64)
A_S = torch.tensor(
    [[[1, 2, 0], [2, 1, 0], [0, 0, 1]], [[1, 1, 0], [1, 1, 0], [1, -1, 0]]],
    dtype=torch.float64,
)


def clips(seed, batch=3, frames=5, width=4):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, frames, width)))


def loop(student, teacher):
    total = 0.0
    for a_s, a_t in zip(student.numpy(), teacher.numpy(), strict=True):
        grams = []
        for a in (a_s, a_t):
            g = np.array([[float(x @ y) for y in a] for x in a])
            grams.append(g / np.sqrt((g**2).sum(1, keepdims=True)))
        total += ((grams[0] - grams[1]) ** 2).sum() / len(a_s) ** 2
    return total / len(student)


def test_known_values():
    assert iusp(A_S, A_T, reduction="none").tolist() == pytest.approx([0.239820, 0.0], abs=1e-6)
    assert float(iusp(A_S, A_T)) == pytest.approx(0.119910, abs=1e-6)
    assert float(kf.sp(A_S, A_T)) == pytest.approx(0.010028, abs=1e-6)


def test_one_clip_is_enough_and_clips_are_batches_of_sp():
    student, teacher = clips(0), clips(1, width=6)
    assert float(iusp(student[:1], teacher[:1])) > 1e-3
    assert float(kf.sp(student[:1], teacher[:1])) == 0.0
    singly = torch.stack([kf.sp(s, t) for s, t in zip(student, teacher, strict=True)])
    torch.testing.assert_close(iusp(student, teacher, reduction="none"), singly)
    assert float(iusp(student, teacher)) == pytest.approx(loop(student, teacher), rel=1e-12)


def test_invariances():
    student, teacher = clips(0), clips(1, width=6)
    value = iusp(student, teacher)
    order, clip_order = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
    torch.testing.assert_close(iusp(student[:, order], teacher[:, order]), value)
    torch.testing.assert_close(iusp(student[clip_order], teacher[clip_order]), value)
    turn, _ = torch.linalg.qr(clips(2, batch=3, frames=4))
    scale = torch.tensor([0.1, 3.0, 20.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(iusp(scale * student @ turn, teacher), value)
    assert abs(float(iusp(student[:, order], teacher) - value)) > 1e-4


def test_repeated_frames_halve_the_loss():
    student, teacher = clips(0), clips(1)
    again = iusp(student.repeat_interleave(2, 1), teacher.repeat_interleave(2, 1))
    torch.testing.assert_close(again, iusp(student, teacher) / 2)


def test_masked_frames_count_for_nothing():
    student, teacher = clips(0), clips(1)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:], mask[2, 1:4] = False, False
    expected = [float(iusp(s[m][None], t[m][None])) for s, t, m in zip(student, teacher, mask, strict=True)]
    assert iusp(student, teacher, mask=mask, reduction="none").tolist() == pytest.approx(expected)
    student[~mask] = 99.0
    assert iusp(student, teacher, mask=mask, reduction="none").tolist() == pytest.approx(expected)


def test_other_frame_rates_are_averaged():
    student, teacher = clips(0, frames=6), clips(1, frames=3)
    halved = student.reshape(3, 3, 2, 4).mean(2)
    torch.testing.assert_close(iusp(student, teacher), iusp(halved, teacher))


def test_silence_has_a_finite_gradient_and_the_teacher_none():
    student, teacher = clips(0).requires_grad_(), clips(1).requires_grad_()
    silent = student * torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)[:, None]
    iusp(silent, teacher).backward()
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: iusp(s, teacher), clips(3).requires_grad_())


def test_maps_become_frames():
    maps = torch.randn(2, 3, 5, 4)
    frames = frames_first(maps)
    assert frames.shape == (2, 5, 12)
    assert torch.equal(frames[1, 2], maps[1, :, 2].flatten())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        iusp(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="a mask needs equal frame rates"):
        iusp(clips(0), clips(1, frames=3), mask=torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least one real frame"):
        iusp(clips(0), clips(1), mask=torch.zeros(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask must be boolean"):
        iusp(clips(0), clips(1), mask=torch.ones(3, 5))
