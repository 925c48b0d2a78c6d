"""The experiment of CA-MKD: teachers with wrong halves, arms, and refused settings."""

import math

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.ca_mkd import EXPERIMENT, CAMKDRecipe, shifted


def test_shifted_classes_go_round_within_their_half():
    labels = torch.arange(10)
    assert shifted(labels, 5, 5).tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 5]
    assert shifted(labels, 0, 5).tolist() == [1, 2, 3, 4, 0, 5, 6, 7, 8, 9]


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = CAMKDRecipe(teacher=Fit((64,), epochs=2, lr=5e-3), student=Fit((24,), epochs=2, lr=5e-3))
    cell = EXPERIMENT.run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, tiny) == cell
    assert math.isclose(cell["average"]["wrong_class_weight"], 1 / 3, rel_tol=1e-6)


def test_configurations_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="kd_weight"):
        CAMKDRecipe(kd_weight=-1.0)
