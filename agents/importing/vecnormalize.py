"""Statistics of stable-baselines3's VecNormalize, read from its pickle without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.foreign_policy import Standardization
from policykd.errors import PolicyFileError
from policykd.symbolic_pickle import PickleError, Record, read_symbolic_pickle


def read_vecnormalize(path: Path, keys: list[str]) -> Standardization | None:
    """Return the statistics of a pickled VecNormalize; None if it does not normalize observations.

    Args:
        path: the pickle.
        keys: observation groups in the order of the policy's input.

    Raises:
        PolicyFileError: for a damaged file, or one that holds something else.
    """
    try:
        record = read_symbolic_pickle(read_bytes(path))
    except PickleError as error:
        raise PolicyFileError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, Record) or not record.name.endswith(".VecNormalize"):
        raise PolicyFileError(f"{path} does not hold a VecNormalize of stable-baselines3")
    attributes = record.attributes
    if not attributes.get("norm_obs", True):
        return None
    statistics = attributes.get("obs_rms")
    parts = [statistics.get(key) for key in keys] if isinstance(statistics, dict) else [statistics]
    records = [part for part in parts if isinstance(part, Record)]
    if len(records) < len(parts):
        raise PolicyFileError(f"{path} lacks statistics of an observation group; the policy reads {', '.join(keys)}")
    mean, var = (np.concatenate([_statistic(path, record, key) for record in records]) for key in ("mean", "var"))
    epsilon, clip = _number(path, attributes, "epsilon", 1e-8), _number(path, attributes, "clip_obs", 10.0)
    return Standardization(mean, np.sqrt(var + epsilon), clip)


def _statistic(path: Path, record: Record, key: str) -> np.ndarray:
    values = record.attributes.get(key)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise PolicyFileError(f"{path}: {key} of the observations is not an array of numbers")
    return values.ravel()


def _number(path: Path, attributes: Mapping[str, Any], key: str, default: float) -> float:
    value = attributes.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise PolicyFileError(f"{path}: {key} is {str(value)[:40]!r}; it must be a number")
    return float(value)
