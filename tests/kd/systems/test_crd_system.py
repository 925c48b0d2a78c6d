"""The arms of the experiment on contrastive distillation."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError
from policykd.kd.systems.crd import EXPERIMENT, CRDRecipe

SMALL = replace(
    EXPERIMENT.config,
    teacher=replace(EXPERIMENT.config.teacher, steps=20),
    student=replace(EXPERIMENT.config.student, steps=6),
)


def test_arms_differ_by_the_contrastive_term_alone():
    config = replace(SMALL, crd_weight=0.0, joint_ce_weight=SMALL.ce_weight, joint_kd_weight=SMALL.kd_weight)
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    of_student = {arm: (figures["accuracy"], figures.get("cka")) for arm, figures in cell.items()}
    assert of_student["crd"] == of_student["ce"]
    assert of_student["kd + crd"] == of_student["kd"] != of_student["ce"]
    assert EXPERIMENT.run(0, SMALL)["crd"] != cell["crd"]
    assert list(cell) == ["teacher", "ce", "crd", "kd", "kd + crd"]
    assert {arm for arm, figures in cell.items() if "information" in figures} == {"ce", "crd", "kd + crd"}
    assert {arm for arm, figures in cell.items() if "cka" in figures} == {"ce", "crd", "kd", "kd + crd"}


@pytest.mark.parametrize(("change", "message"), [({"per_class": 1}, "per_class"), ({"crd_weight": -1.0}, "crd_weight")])
def test_configurations_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        CRDRecipe(**change)
