"""Options with a fixed set of values: a wrong one is refused by name, with the valid ones and the closest.

The parser of options would print a page about it; all other bad input ends in one line.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from policykd.errors import UnknownNameError


def unchecked_choices() -> ConstructorRegistry:
    """Return rules by which the parser takes any text for a literal; :func:`check_choices` looks at it afterwards."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_literal)
    return registry


def _literal(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[str] | None:
    """Return how to parse and show a literal of texts; None for other types."""
    if info.type_origin is not Literal:
        return None
    choices = get_args(info.type)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices) + "}",
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: value in choices,
        str_from_instance=lambda value: [value],
    )


def check_choices(command: Any) -> None:
    """Check the options of a command, or of the command of a group, that have a fixed set of values.

    Args:
        command: a parsed command, a dataclass of options.

    Raises:
        UnknownNameError: for a value that is not in the set; the option, the set and close values are named.
    """
    for name, hint in get_type_hints(type(command)).items():
        value, choices = getattr(command, name), choices_of(hint)
        if dataclasses.is_dataclass(value):
            check_choices(value)
        elif choices and value is not None and value not in choices:
            raise UnknownNameError(f"value of --{name.replace('_', '-')}:", value, choices)


def choices_of(hint: Any) -> tuple[str, ...]:
    """Return the values of a literal or an optional literal; none for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((get_args(part) for part in get_args(hint) if get_origin(part) is Literal), ())
