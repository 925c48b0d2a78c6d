"""JSON and YAML that may come from a stranger, as the values that they hold.

It bounds size and depth, and refuses what no file can hold; :mod:`policykd.plain` makes records of the values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from policykd.errors import OutputError, PolicykdError

MakeError = Callable[[str], PolicykdError]
"""An error class, or a function that returns an error with a longer message."""

_SHOWN = 60  # characters of a number that is too large in a message
_MOST_VALUES = 100_000  # of YAML, aliases unfolded
_MOST_YAML = 200_000  # bytes; PyYAML reads about 100 kB per second
_DEEPEST = 100  # brackets of YAML


def parse_json(content: bytes, what: str, error: MakeError = OutputError) -> Any:
    """Return the value of JSON that may come from a stranger.

    Args:
        content: UTF-8.
        what: name of the file in messages.
        error: error to raise.

    Raises:
        OutputError: or ``error``, for anything but JSON; NaN and infinity are not JSON.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    def finite(text: str) -> float:
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{text[:_SHOWN]} is not a finite number")
        return number

    try:
        found = json.loads(text := content.decode(), parse_constant=refuse, parse_float=finite)
        if "\\u" in text:  # half of a pair of surrogates is a string that no file can hold
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as problem:
        raise error(f"{what} is not valid JSON ({str(problem)[:200]})") from None


def parse_yaml(content: bytes, what: str, error: MakeError = OutputError, *, loader: Any = None) -> Any:
    """Return the value of YAML that may come from a stranger.

    Args:
        content: UTF-8.
        what: name of the file in messages.
        error: error to raise.
        loader: class of PyYAML that reads it; None for ``SafeLoader``.

    Raises:
        OutputError: or ``error``, for anything but YAML, for more than :data:`_MOST_YAML` bytes, for brackets that are
            nested deeper than :data:`_DEEPEST`, for aliases that unfold to more than :data:`_MOST_VALUES` values or
            contain themselves, and for whole numbers that no float is as large as.
    """
    import yaml

    if len(content) > _MOST_YAML:
        raise error(f"{what} has {len(content):,} bytes; at most {_MOST_YAML:,} are read")
    try:
        text = content.decode()
        _check_depth(text)
        value = yaml.load(text, Loader=loader or yaml.SafeLoader)
        _check_unfolded(value)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        AttributeError,
        TypeError,
        LookupError,
        OverflowError,
    ) as problem:
        # PyYAML lets the errors of int, float and datetime through
        mark = getattr(problem, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        reason = getattr(problem, "problem", None) or str(problem)[:200]
        raise error(f"{what} is not valid YAML: {reason}{where}") from None
    return value


def _check_depth(text: str) -> None:
    """Raise ValueError for brackets that are nested deeply, over which PyYAML takes the square of their number."""
    depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if depth > _DEEPEST:
            raise ValueError(f"its brackets are nested deeper than {_DEEPEST} levels")


def _check_unfolded(value: Any) -> None:
    """Raise ValueError for a value that holds more than :data:`_MOST_VALUES`, counted once per alias."""
    todo, count = [value], 0
    while todo:
        node = todo.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ValueError(f"its aliases unfold to more than {_MOST_VALUES:,} values")
        if isinstance(node, Mapping):
            todo.extend(node.values())
        elif isinstance(node, list | tuple | set):
            todo.extend(node)
        elif isinstance(node, int) and node.bit_length() > 1000:
            raise ValueError("a whole number has more than 1,000 bits")
