"""Gradients of two networks that learn together, and the arms of the experiment."""

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.losses.balanced_kl import balanced_kl, own_first_kl
from policykd.kd.networks import MLP
from policykd.kd.systems.bd_kd import EXPERIMENT, BDKDRecipe, online
from policykd.kd.training.batches import Batch
from policykd.kd.training.loop import seeded

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch(X, torch.arange(8) % 3, torch.arange(8), (8,))
FITS = {"teacher": Fit((8,), epochs=1), "student": Fit((16,), epochs=1)}


def networks():
    return [seeded(lambda: MLP((4,), (5,), classes=3), 0, role) for role in ("student", "teacher")]


def test_each_network_gets_the_gradient_of_its_own_loss_alone():
    student, teacher = networks()
    arm = online(teacher, balanced_kl, own_first_kl, BDKDRecipe(kd_weight=0.7))
    assert arm.along == (teacher,)
    arm.loss(student, BATCH, 0).backward()
    alone_s, alone_t = networks()
    fixed_s, fixed_t = alone_s(X).detach(), alone_t(X).detach()
    (F.cross_entropy(alone_s(X), BATCH.targets) + 0.7 * balanced_kl(alone_s(X), fixed_t)).backward()
    (F.cross_entropy(alone_t(X), BATCH.targets) + 0.7 * own_first_kl(alone_t(X), fixed_s)).backward()
    for network, other in ((student, alone_s), (teacher, alone_t)):
        for own, expected in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own.grad, expected.grad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_noise": 2.0}, "label_noise is 2.0"),
        ({"delta": 0.5}, "delta is 0.5"),
        ({"student": Fit((16,), epochs=3)}, "trained together"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        BDKDRecipe(**change)


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, BDKDRecipe(**FITS))
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, BDKDRecipe(**FITS)) == cell


def test_without_divergences_all_students_are_one():
    """Pairing: at kd_weight 0 every arm trains the same student on the same batches."""
    cell = EXPERIMENT.run(1, BDKDRecipe(**FITS, kd_weight=0.0))
    assert len(cell) == 5
    assert len({tuple(figures.values()) for figures in cell.values()}) == 1
