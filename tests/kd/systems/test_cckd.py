"""The arms of the experiment on correlation congruence."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError
from policykd.kd.systems.cckd import EXPERIMENT

SMALL = replace(
    EXPERIMENT.config,
    teacher=replace(EXPERIMENT.config.teacher, steps=20),
    student=replace(EXPERIMENT.config.student, steps=8),
)


def test_arms_differ_by_the_correlation_term_alone():
    cell = EXPERIMENT.run(0, replace(SMALL, cc_weight=0.0, joint_cc_weight=0.0))
    EXPERIMENT.check_cell(cell)
    assert cell["cc"] == cell["ce"]
    assert cell["kd + cc"] == cell["kd"] != cell["ce"]
    other = EXPERIMENT.run(0, SMALL)
    assert other["ce"] == cell["ce"]
    assert other["cc"]["correlation gap"] < other["ce"]["correlation gap"]
    assert cell["cur batches"]["same-class pairs"] == pytest.approx(60 / 780)


def test_bad_configurations_are_refused():
    with pytest.raises(ConfigError, match="labeled_batch"):
        replace(SMALL, labeled_batch=61)
