"""The matrix and the curves against numbers worked out by hand."""

import numpy as np
import pytest

from policykd.errors import ConfigError, OutputError
from policykd.evaluation.curves import area, curve_of, forward_transfer, steps_to
from policykd.evaluation.matrix import SkillMatrix

MATRIX = SkillMatrix(
    stages=("a", "b", "c"),
    skills=("biped/a", "biped/b", "biped/c"),
    scores=((0.8, 0.2, 0.1), (0.6, 0.5, 0.2), (0.4, 0.6, 0.4)),
    success=((1.0, 0.1, 0.0), (0.9, 0.8, 0.1), (0.5, 0.9, 0.7)),
    experts=(0.8, 0.5, 0.5),
    untrained=(0.08, 0.05, 0.1),
    learned=(0, 1, 2),
)


def test_figures_worked_out_by_hand():
    assert MATRIX.normalized.tolist() == pytest.approx(np.array([[1, 0.4, 0.2], [0.75, 1, 0.4], [0.5, 1.2, 0.8]]))
    assert MATRIX.retention.tolist() == pytest.approx([0.5, 1.2, 0.8])
    assert MATRIX.forgetting.tolist() == pytest.approx([0.5, -0.2, 0.0])
    assert MATRIX.relative_forgetting.tolist() == pytest.approx([-0.5, 0.2, 0.0])
    assert MATRIX.old.tolist() == [True, True, False]
    assert MATRIX.mean_absolute_forgetting == pytest.approx(0.35)
    assert MATRIX.backward_transfer == pytest.approx(-0.15)
    assert MATRIX.jumpstart[0] is None
    assert MATRIX.jumpstart[1:] == pytest.approx((0.4 - 0.1, 0.4 - 0.2))


def test_one_row_forgets_nothing_and_transfers_nothing():
    single = SkillMatrix(("all",), ("x", "y"), ((0.5, 0.25),), ((1.0, 1.0),), (0.5, 0.5), (0.1, 0.1), (0, 0))
    assert single.mean_absolute_forgetting is None
    assert single.backward_transfer is None
    assert single.jumpstart == (None, None)


def test_other_experts_rescale():
    assert MATRIX.with_experts([0.4, 1.0, 0.8]).retention.tolist() == pytest.approx([1.0, 0.6, 0.5])


def test_round_trip_and_missing_fields():
    content = MATRIX.to_json()
    assert SkillMatrix.from_json(content) == MATRIX
    assert content["derived"]["retention"] == pytest.approx({"biped/a": 0.5, "biped/b": 1.2, "biped/c": 0.8})
    del content["learned"]
    with pytest.raises(OutputError, match="learned"):
        SkillMatrix.from_json(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": ((0.8, 0.2), (0.6, 0.5), (0.4, 0.6))}, "3 rows of 3"),
        ({"scores": ((0.8, 0.2, 0.1), (0.6, 0.5), (0.4, 0.6, 0.4))}, "3 rows of 3"),
        ({"success": ((np.nan,) * 3,) * 3}, "finite"),
        ({"experts": (0.8, 0.0, 0.5)}, "score of 0"),
        ({"learned": (0, 1, 3)}, "indices of the 3 stages"),
        ({"learned": (0, -1, 2)}, "indices of the 3 stages"),
        ({"scores": ((0.8, 0.2, 0.1), (0.6, 0.5, 0.2))}, "3 rows of 3"),
        ({"success": ((1.0, 0.1, 0.0),) * 4}, "3 rows of 3"),
        ({"experts": (0.8, -0.1, 0.5)}, "score of 0"),
        ({"learned": (0, 1)}, "each of the 3 skills"),
        ({"untrained": (0.1,)}, "each of the 3 skills"),
        ({"random": (0.1, 0.6, 0.2)}, "experts must be better"),
        ({"random": (0.8, 0.1, 0.2)}, "experts must be better"),
        ({"random": (0.1,)}, "or none"),
    ],
)
def test_bad_matrices_are_refused(change, message):
    fields = {name: getattr(MATRIX, name) for name in MATRIX.__dataclass_fields__}
    with pytest.raises(ConfigError, match=message):
        SkillMatrix(**{**fields, **change})


CURVE = [(100.0, 0.5), (200.0, 1.0)]


def test_area_under_a_curve():
    """From 0 to 0.5, then to 1, then constant: (25 + 75 + 200) / 400."""
    assert area(CURVE, 400.0) == pytest.approx(0.75)
    assert area(CURVE, 100.0, start=0.5) == pytest.approx(0.5)
    assert area(CURVE, 150.0) == pytest.approx((25 + 0.5 * (0.5 + 0.75) * 50) / 150)


def test_forward_transfer():
    scratch = [(400.0, 0.5)]  # area over 400: 0.25
    assert forward_transfer(CURVE, scratch, 400.0) == pytest.approx((0.75 - 0.25) / 0.75)
    assert forward_transfer(scratch, scratch, 400.0) == 0
    with pytest.raises(ConfigError, match="no room"):
        forward_transfer(CURVE, [(1.0, 1.0)], 400.0, scratch_start=1.0)


def test_steps_to_a_threshold():
    assert steps_to(CURVE, 0.5) == 100
    assert steps_to(CURVE, 0.75) == 200
    assert steps_to(CURVE, 1.1) is None


def test_curves_come_from_logs_and_are_checked():
    assert curve_of([{"steps": 5, "reward_per_step": 0.5}, {"round": 1}]) == [(5.0, 0.5)]
    for bad in ([], [(2.0, 0.1), (1.0, 0.2)]):
        with pytest.raises(ConfigError, match="steps rising"):
            area(bad, 10.0)


def test_an_empty_curve_has_no_area():
    with pytest.raises(ConfigError, match="at least one validation"):
        area([], 10.0)
