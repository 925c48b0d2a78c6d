"""Partial mixup: invariances, how many samples are really mixed, and what the teacher sees."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.losses.std_scaled import std_scaled_loss
from policykd.kd.networks import MLP
from policykd.kd.systems.mixup_kd import EXPERIMENT, Mixup, MixupKDRecipe, mixed_loss
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded


def rng(seed=0):
    return np.random.default_rng(seed)


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
    value = mixed_loss(teacher, std_scaled_loss, Mixup(), rng(3))(student, batch, 0)
    mixed, y = Mixup()(x, labels, 10, rng(3))
    torch.testing.assert_close(value, std_scaled_loss(student(mixed), teacher(mixed), y))
    value.backward()
    assert all(p.grad is None for p in teacher.parameters())
    plain = mixed_loss(None, std_scaled_loss, None, rng())(student, batch, 0)
    torch.testing.assert_close(plain, F.cross_entropy(student(x), labels))


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"fraction": 1.5}, {"fraction": -0.1}, {"mode": "other"}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Mixup(**options)
    with pytest.raises(ConfigError, match="partial"):
        MixupKDRecipe(partial=2.0)


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = MixupKDRecipe(teacher=Fit((8,), epochs=1), student=Fit((24,), epochs=1))
    cell = EXPERIMENT.run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, tiny) == cell
