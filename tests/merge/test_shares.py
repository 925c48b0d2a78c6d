"""Quotas: sums, proportions, and the equal split that leaves a merge as it was."""

import pytest

from policykd.merge.collect import shares, split


@pytest.mark.parametrize("gaps", [[0.1, 0.3, 0.0], [0.0, 0.0], [1.0]])
@pytest.mark.parametrize("adaptive", [0.0, 0.5, 0.9])
def test_shares_sum_to_one_and_follow_the_gaps(gaps, adaptive):
    found = shares(gaps, adaptive)
    assert sum(found) == pytest.approx(1.0)
    if sum(gaps) == 0 or adaptive == 0:
        assert found == pytest.approx([1 / len(gaps)] * len(gaps))
    else:
        for share, gap in zip(found, gaps, strict=True):
            assert share == pytest.approx((1 - adaptive) / len(gaps) + adaptive * gap / sum(gaps))


@pytest.mark.parametrize(("total", "count"), [(144, 3), (1023, 3), (240, 5), (21, 7), (49, 49)])
def test_equal_shares_give_equal_numbers(total, count):
    assert split(total // count * count, [1 / count] * count) == [total // count] * count


def test_rounding_loses_nothing_and_leaves_nobody_out():
    assert split(10, [0.55, 0.25, 0.2]) == [6, 2, 2]
    assert split(10, [0.98, 0.01, 0.01])[1:] == [1, 1]
    for total in range(3, 60):
        assert sum(split(total, [0.5, 0.3, 0.2])) == total
