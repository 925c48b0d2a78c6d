"""Partial mixup and scaled logits: worked numbers, invariances, and how many samples are really mixed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.networks import MLP
from policykd.kd.systems.mixup_kd import (
    EXPERIMENT,
    Mixup,
    MixupKDConfig,
    mixed_loss,
    run,
    std_scaled,
    std_scaled_loss,
)
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded

S = torch.tensor([[1.0, 2, 4]], dtype=torch.double)
T = torch.tensor([[0.0, 1, 5]], dtype=torch.double)
Y = torch.tensor([[0.7, 0, 0.3]], dtype=torch.double)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_worked_values():
    assert float(S.std()) == pytest.approx(1.527525, abs=1e-6)
    assert float(T.std()) == pytest.approx(2.645751, abs=1e-6)
    ce = std_scaled_loss(S, T, Y, ce_weight=1.0, kd_weight=0.0)
    kl = std_scaled_loss(S, T, Y, ce_weight=0.0, kd_weight=1.0)
    assert float(ce) == pytest.approx(1.718581, abs=2e-6)
    assert float(kl) == pytest.approx(0.003437, abs=1e-6)
    assert float(std_scaled_loss(S, T, Y)) == pytest.approx(0.174951, abs=1e-6)
    assert float(F.cross_entropy(S, Y)) == pytest.approx(2.269846, abs=1e-6)
    assert float(kf.kd(S, T, temperature=4.0)) == pytest.approx(0.490175, abs=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (0.3, -4.0), (10.0, 7.0)])
def test_neither_scale_nor_place_of_the_logits_counts(scale, shift):
    value = std_scaled_loss(S, T, Y)
    torch.testing.assert_close(std_scaled_loss(scale * S + shift, T, Y), value, atol=1e-5, rtol=0)
    torch.testing.assert_close(std_scaled_loss(S, scale * T + shift, Y), value, atol=1e-5, rtol=0)


def test_an_affine_copy_of_the_teacher_has_nothing_to_learn():
    assert float(std_scaled_loss(3 * T - 2, T, Y, ce_weight=0.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 10])
def test_scaled_logits_have_deviation_one_and_a_bounded_peak(classes):
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    scaled = std_scaled(logits)
    torch.testing.assert_close(scaled.std(1), torch.ones(50, dtype=torch.double), atol=1e-4, rtol=0)
    assert torch.equal(scaled.argmax(1), logits.argmax(1))
    bound = (classes - 1) / classes**0.5
    assert float(scaled.max()) < bound
    assert float(std_scaled(torch.eye(classes, dtype=torch.double)).max()) == pytest.approx(bound, abs=1e-5)


def test_the_gradient_flows_through_the_deviation():
    """Scaling the student's logits changes nothing, so that the gradient has no part along them."""
    z = S.clone().requires_grad_()
    std_scaled_loss(z, T, Y).backward()
    assert float(z.grad.abs().max()) > 1e-3
    assert float((z.grad * S).sum()) == pytest.approx(0.0, abs=1e-6)
    assert float(z.grad.sum()) == pytest.approx(0.0, abs=1e-12)
    torch.autograd.gradcheck(lambda s: std_scaled_loss(s, T, Y), (S.clone().requires_grad_(),))


def test_constant_logits_give_finite_values_and_gradients():
    z = torch.ones(1, 3, requires_grad=True)
    value = std_scaled_loss(z, T.float(), Y.float())
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(z.grad).all())


X = torch.arange(24.0).view(12, 2)
LABELS = torch.arange(12) % 3


@pytest.mark.parametrize("mixup", [Mixup(), Mixup(fraction=0.3), Mixup(fraction=0.3, mode="reference"), Mixup(0.2)])
def test_label_distributions_sum_to_one_and_follow_the_inputs(mixup):
    """With inputs that are one-hot themselves, mixed inputs and mixed labels are the same thing."""
    onehot = F.one_hot(LABELS, 3).float()
    x, y = mixup(onehot, LABELS, 3, rng())
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(y.sum(1), torch.ones(12))
    assert float(y.min()) >= 0


def test_unmixed_batches_are_permuted_ones():
    x, y = Mixup(fraction=0.0)(X, LABELS, 3, rng())
    rows = {tuple(row): label for row, label in zip(X.tolist(), LABELS.tolist(), strict=True)}
    assert sorted(map(tuple, x.tolist())) == sorted(rows)
    assert [rows[tuple(row)] for row in x.tolist()] == y.argmax(1).tolist()
    assert set(y.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("count", "fraction"), [(64, 0.1), (64, 0.5), (10, 0.25), (7, 1.0), (7, 0.0)])
def test_partial_mixup_mixes_exactly_its_fraction(count, fraction):
    for seed in range(5):
        a = Mixup(fraction=fraction).coefficients(count, rng(seed))
        assert int((a != 1).sum()) == round(fraction * count)


def test_the_reference_mixes_more_than_it_says():
    """57 of 64 positions drawn with replacement: (1 - 1/64)**57 = 0.41 of the samples stay mixed, not 0.1."""
    drawn = [Mixup(fraction=0.1, mode="reference").coefficients(64, rng(seed)) for seed in range(400)]
    share = float(np.mean([(a != 1).mean() for a in drawn]))
    assert share == pytest.approx((1 - 1 / 64) ** 57, abs=0.01)
    assert share == pytest.approx(0.41, abs=0.02)


def test_full_mixup_is_the_whole_fraction():
    assert Mixup() == Mixup(fraction=1.0)
    a = Mixup().coefficients(20_000, rng())
    assert (a != 1).all()
    assert float(a.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(a.var()) == pytest.approx(1 / 12, abs=0.002)  # Beta(1, 1) is uniform


def test_toward_zero_the_coefficients_are_all_or_nothing():
    a = Mixup(1e-6).coefficients(200, rng())
    assert np.minimum(a, 1 - a).max() < 1e-3
    assert 0.3 < (a > 0.5).mean() < 0.7


def test_the_draws_are_the_generators_alone():
    torch.manual_seed(1)
    first = Mixup()(X, LABELS, 3, rng(4))
    torch.manual_seed(2)
    second = Mixup()(X, LABELS, 3, rng(4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], Mixup()(X, LABELS, 3, rng(5))[0])


def test_one_coefficient_per_sample_mixes_images_too():
    images = X.view(12, 1, 2, 1).expand(-1, 3, -1, 4)
    x, _ = Mixup()(images, LABELS, 3, rng())
    flat, _ = Mixup()(X, LABELS, 3, rng())
    torch.testing.assert_close(x, flat.view(12, 1, 2, 1).expand(-1, 3, -1, 4))


def test_the_teacher_sees_what_the_student_sees():
    """The target is the teacher on mixed inputs, not a mixture of its answers."""
    student = seeded(lambda: MLP((4,), (5,)), 0, "student")
    teacher = seeded(lambda: MLP((4,), (5,)), 0, "teacher").eval()
    x, labels = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 10
    batch = Batch(x, labels, torch.arange(12), (12,))
    value = mixed_loss(student, teacher, std_scaled_loss, Mixup(), rng(3))(batch, 0)
    mixed, y = Mixup()(x, labels, 10, rng(3))
    torch.testing.assert_close(value, std_scaled_loss(student(mixed), teacher(mixed), y))
    value.backward()
    assert all(p.grad is None for p in teacher.parameters())
    plain = mixed_loss(student, None, std_scaled_loss, None, rng())(batch, 0)
    torch.testing.assert_close(plain, F.cross_entropy(student(x), labels))


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"fraction": 1.5}, {"fraction": -0.1}, {"mode": "other"}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Mixup(**options)
    with pytest.raises(ConfigError, match="partial"):
        MixupKDConfig(partial=2.0)


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = MixupKDConfig(epochs=1, teacher_hidden=(8,))
    cell = run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert run(0, tiny) == cell
