"""Retrieval by binary codes: packed bits, Hamming distances, rankings, average precision, precision within a radius.

Arrays of codes and labels go in, numbers come out; nothing here trains. Ranks of equal distance keep the order of the
database (a stable sort), so the metrics depend on that order: shuffle a database that is sorted by label.
"""

from __future__ import annotations

import numpy as np

from policykd.errors import ShapeError, check_range


def pack_codes(values: np.ndarray) -> np.ndarray:
    """Return the signs of real codes ``(N, m)`` as packed bits ``(N, ceil(m / 8))`` in uint8; 0 counts as positive.

    Raises:
        ShapeError: The values are not ``(N, m)``.
    """
    if values.ndim != 2:
        raise ShapeError(f"codes must be (N, m), got {values.shape}")
    return np.packbits(values >= 0, axis=1)


def hamming_distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return the number of different bits ``(Q, N)`` in int64 of packed codes ``(Q, b)`` and ``(N, b)``.

    Raises:
        ShapeError: The codes differ in length.
    """
    if queries.shape[1] != database.shape[1]:
        raise ShapeError(f"queries have {queries.shape[1]} bytes, the database has {database.shape[1]}")
    return np.bitwise_count(queries[:, None] ^ database[None]).sum(-1, dtype=np.int64)


def ranked(distances: np.ndarray, *, exclude_self: bool = False) -> np.ndarray:
    """Return the positions in the database by rising distance, ties in the order of the database ``(Q, N)``.

    Args:
        distances: ``(Q, N)``.
        exclude_self: Leave the query itself out, query i being entry i of the database; then ``(Q, N - 1)``.

    Raises:
        ShapeError: Queries are to be left out, but there are not as many as entries.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    if not exclude_self:
        return order
    if distances.shape[0] != distances.shape[1]:
        raise ShapeError(f"{distances.shape[0]} queries are not the {distances.shape[1]} entries of the database")
    return order[order != np.arange(len(order))[:, None]].reshape(len(order), -1)


def average_precision(relevant: np.ndarray) -> np.ndarray:
    """Return the average precision ``(Q,)`` of rankings, given whether each rank is relevant ``(Q, N)``.

    It is the mean over relevant ranks of the share of relevant entries up to there; 0 where none is relevant.
    """
    hits = relevant.astype(float)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(1) / np.maximum(hits.sum(1), 1.0)


def mean_average_precision(
    queries: np.ndarray,
    query_labels: np.ndarray,
    database: np.ndarray,
    labels: np.ndarray,
    *,
    exclude_self: bool = False,
) -> float:
    """Return the mean average precision of retrieval by Hamming distance; entries of the query's label are relevant.

    Args:
        queries: Packed codes ``(Q, b)``.
        query_labels: ``(Q,)``.
        database: Packed codes ``(N, b)``.
        labels: ``(N,)``.
        exclude_self: See :func:`ranked`.
    """
    order = ranked(hamming_distances(queries, database), exclude_self=exclude_self)
    return float(average_precision(labels[order] == query_labels[:, None]).mean())


def precision_within(
    queries: np.ndarray,
    query_labels: np.ndarray,
    database: np.ndarray,
    labels: np.ndarray,
    *,
    radius: int = 2,
    exclude_self: bool = False,
) -> float:
    """Return the mean share of relevant entries within a Hamming radius; a query that finds nothing counts as 0.

    Args:
        queries: Packed codes ``(Q, b)``.
        query_labels: ``(Q,)``.
        database: Packed codes ``(N, b)``.
        labels: ``(N,)``.
        radius: Largest distance.
        exclude_self: Leave the query itself out.

    Raises:
        ConfigError: The radius is negative.
    """
    check_range("radius", radius, 0, 10**6)
    found = hamming_distances(queries, database) <= radius
    if exclude_self:
        found &= ~np.eye(len(queries), len(database), dtype=bool)
    right = found & (labels[None] == query_labels[:, None])
    return float((right.sum(1) / np.maximum(found.sum(1), 1)).mean())
