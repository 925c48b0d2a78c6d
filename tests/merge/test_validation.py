"""What a student's validation says: gaps, the choice of the best, and when a merge may stop."""

import pytest

from policykd.merge.retention import Score


def score(retention, lacking):
    ids = [f"biped/{i}" for i in range(len(retention))]
    kept, missing = dict(zip(ids, retention, strict=True)), dict(zip(ids, lacking, strict=True))
    return Score({i: 1.0 - missing[i] for i in ids}, {i: 0.9 * kept[i] for i in ids}, kept, missing)


def test_gaps_add_what_reward_and_success_lack():
    assert score((0.9, 1.1, 0.8), (0.0, 0.2, -0.3)).gaps == pytest.approx([0.1, 0.2, 0.2])


def test_the_best_student_is_chosen_by_its_weakest_skill_and_its_largest_lack_of_success():
    assert score((0.9, 1.0), (0.0, 0.0)).value == pytest.approx(0.9)
    assert score((0.9, 1.0), (0.0, 0.25)).value == pytest.approx(0.65)
    assert score((0.9, 1.0), (-0.1, -0.2)).value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("retention", "lacking", "holds"),
    [
        ((0.98, 0.99), (0.0, 0.0), True),
        ((0.98, 0.97), (0.0, 0.0), False),
        ((1.2, 1.0), (0.0, 0.05), True),
        ((1.2, 1.0), (0.0, 0.06), False),
        ((1.2, 1.0), (-0.5, -0.5), True),
    ],
)
def test_a_merge_may_stop_when_every_skill_keeps_reward_and_success(retention, lacking, holds):
    assert score(retention, lacking).holds(0.98) is holds
