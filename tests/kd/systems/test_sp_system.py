"""The steps on labels and a pool, and the arms of the experiment."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import LabeledDraws, some_per_class
from policykd.kd.experiments.system import Cell, Fit
from policykd.kd.systems.sp import EXPERIMENT, SPRecipe, on_pool
from policykd.kd.training.batches import Batch

TINY = SPRecipe(teacher=Fit((8,), epochs=1), student=Fit((6, 5), epochs=1), ce_weight=0.5, temperature=2.0)
INDEX = torch.arange(2, 8)


def step(**weights):
    """The loss of one step, with the student, the batch of the pool and the labeled batch that it saw."""
    cell = Cell(0, TINY)
    student = cell.network("student", TINY.student)
    batch = Batch(cell.train.x[INDEX], torch.full((6,), -1), INDEX, (6,))  # labels that nothing may read
    known = LabeledDraws(some_per_class(cell.train, TINY.labeled_per_class, 0), TINY.labeled_batch, 0).draw()
    return on_pool(cell, **weights).loss(student, batch, 0), cell, student, batch, known


def test_a_step_adds_labels_similarities_and_logits_of_the_right_rows():
    value, cell, student, batch, known = step(sp_weight=30.0, kd_weight=0.7)
    own, said = student.features_and_logits(batch.x)
    features, logits = (known_to_teacher[2:8] for known_to_teacher in cell.taught)
    expected = 0.5 * F.cross_entropy(student(known.x), known.y) + 30 * kf.sp(own, features)
    torch.testing.assert_close(value, expected + 0.7 * kf.kd(said, logits, temperature=2.0))


def test_without_weights_only_the_labeled_batch_counts():
    value, _, student, _, known = step()
    torch.testing.assert_close(value, 0.5 * F.cross_entropy(student(known.x), known.y))


@pytest.mark.parametrize(
    "change", [{"sp_weights": ()}, {"sp_weights": (0.0,)}, {"sp_weights": (5.0, 0.0)}, {"labeled_batch": 61}]
)
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        SPRecipe(**change)


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    assert list(cell) == ["teacher", "CE", "SP 100", "SP", "KD"]
    assert cell["teacher"]["sp"] == 0.0
