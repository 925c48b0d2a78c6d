"""Codes and their retrieval metrics against worked values and a brute-force ranking."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from policykd.errors import ConfigError, ShapeError
from policykd.kd.hashing import (
    average_precision,
    hamming_distances,
    mean_average_precision,
    pack_codes,
    precision_within,
    ranked,
)

U = np.array([[1, 1, 1, -1], [1, -1, 1, 1]])
V = np.array([[1, 1, -1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])


def test_the_worked_distances():
    found = hamming_distances(pack_codes(U), pack_codes(V))
    assert found.tolist() == [[1, 3, 1], [3, 1, 1]]
    np.testing.assert_array_equal(found, ((U[:, None] - V[None]) ** 2).sum(-1) // 4)


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 64, 100])
def test_packed_distances_are_those_of_signs(bits):
    rng = np.random.default_rng(bits)
    u, v = rng.normal(size=(5, bits)), rng.normal(size=(6, bits))
    expected = (bits - np.sign(u) @ np.sign(v).T) / 2
    np.testing.assert_array_equal(hamming_distances(pack_codes(u), pack_codes(v)), expected)


def test_zero_is_positive():
    assert hamming_distances(pack_codes(np.array([[0.0, -1.0]])), pack_codes(np.array([[1.0, -1.0]]))).item() == 0


def test_the_worked_average_precision():
    one = average_precision(np.array([[1, 0, 1, 0, 0]]))
    other = average_precision(np.array([[0, 1, 1]]))
    assert float(one[0]) == pytest.approx(0.833333, abs=1e-6)
    assert float(other[0]) == pytest.approx(0.583333, abs=1e-6)
    assert average_precision(np.zeros((1, 4)))[0] == 0.0


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    relevant = rng.uniform(size=(20, 15)) < 0.4
    relevant[:, 3] = True
    expected = [average_precision_score(row, -np.arange(15)) for row in relevant]
    np.testing.assert_allclose(average_precision(relevant), expected)


def brute(queries, query_labels, database, labels, skip=False):
    """Mean average precision by sorting pairs (distance, place) and counting."""
    values = []
    for q, (code, label) in enumerate(zip(queries, query_labels, strict=True)):
        rows = [(int((np.sign(code) != np.sign(d)).sum()), k) for k, d in enumerate(database) if not (skip and k == q)]
        hits, precisions = 0, []
        for rank, (_, k) in enumerate(sorted(rows), 1):
            if labels[k] == label:
                hits += 1
                precisions.append(hits / rank)
        values.append(sum(precisions) / max(len(precisions), 1))
    return sum(values) / len(values)


@pytest.mark.parametrize("skip", [False, True])
def test_mean_average_precision_is_that_of_a_brute_force_ranking(skip):
    rng = np.random.default_rng(1)
    codes, labels = rng.normal(size=(30, 6)), rng.integers(0, 3, 30)
    queries, asked = (codes, labels) if skip else (rng.normal(size=(12, 6)), rng.integers(0, 3, 12))
    packed = pack_codes(queries), asked, pack_codes(codes), labels
    assert mean_average_precision(*packed, exclude_self=skip) == pytest.approx(
        brute(queries, asked, codes, labels, skip)
    )


def test_precision_within_a_radius_counts_entries_and_empty_queries():
    labels = np.array([0, 1, 0])
    packed = pack_codes(U), np.array([0, 1]), pack_codes(V), labels
    assert precision_within(*packed, radius=1) == pytest.approx((1.0 + 0.5) / 2)
    assert precision_within(*packed, radius=0) == 0.0
    assert precision_within(*packed, radius=4) == pytest.approx((2 / 3 + 1 / 3) / 2)
    own = pack_codes(V)
    assert precision_within(own, labels, own, labels, radius=0) == 1.0
    assert precision_within(own, labels, own, labels, radius=0, exclude_self=True) == 0.0


def test_ties_keep_the_order_of_the_database():
    assert ranked(np.array([[2, 1, 2, 1]])).tolist() == [[1, 3, 0, 2]]
    assert ranked(np.array([[0, 1], [1, 0]]), exclude_self=True).tolist() == [[1], [0]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="codes must be"):
        pack_codes(np.zeros(4))
    with pytest.raises(ShapeError, match="1 bytes, the database has 2"):
        hamming_distances(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8))
    with pytest.raises(ShapeError, match="2 queries are not the 3 entries"):
        ranked(np.zeros((2, 3)), exclude_self=True)
    with pytest.raises(ConfigError, match="radius"):
        precision_within(pack_codes(U), np.zeros(2), pack_codes(V), np.zeros(3), radius=-1)
