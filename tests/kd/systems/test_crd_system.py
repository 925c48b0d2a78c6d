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
    assert list(cell) == ["teacher", "ce", "crd", "kd", "kd, same weights", "kd + crd"]
    assert {arm for arm, figures in cell.items() if "information" in figures} == {"ce", "crd", "kd + crd"}
    assert {arm for arm, figures in cell.items() if "cka" in figures} == set(cell) - {"teacher"}


def test_the_claim_about_plain_distillation_isolates_the_contrastive_term():
    """The compared arms have equal weights of labels and divergence: without the term they are the same student."""
    joint = next(one for one in EXPERIMENT.comparisons if one.student == "kd + crd")
    cell = EXPERIMENT.run(0, replace(SMALL, crd_weight=0.0))
    same, other = ({m: v for m, v in cell[arm].items() if m != "information"} for arm in joint.arms)
    assert same == other
    assert cell["kd"]["cka"] != other["cka"]  # the arm with the published weights of plain distillation is another one


@pytest.mark.parametrize(("change", "message"), [({"per_class": 1}, "per_class"), ({"crd_weight": -1.0}, "crd_weight")])
def test_configurations_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        CRDRecipe(**change)
