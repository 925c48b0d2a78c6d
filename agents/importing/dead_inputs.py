"""Dead inputs: features that hardly moved in training, so that a normalizer divides them by next to nothing.

Any other value drowns the policy. It can treat them as constant at their means, or be made to read without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization
from policykd.errors import ConfigError, PolicyFileError, UnknownNameError

WAYS = ("mean", "drop")
"""What may become of dead inputs."""

_LEAST_VARIANCE = 1e-6


def find_dead(given: Standardization | None) -> np.ndarray:
    """Return (k,) the features whose variance in training was below 1e-6."""
    return np.flatnonzero([] if given is None else given.divisor**2 < _LEAST_VARIANCE)


def note_on_dead(given: Standardization | None) -> str:
    """Return a remark on dead inputs; empty if there are none."""
    dead = find_dead(given)
    if given is None or not len(dead):
        return ""
    return (
        f"{len(dead)} of {len(given.mean)} features had a variance below 1e-6 in training ({dead[0]} to {dead[-1]}): "
        f"dead inputs, which must be fed their means (--dead-inputs mean) or left out (--dead-inputs drop)"
    )


def without_dead_inputs(foreign: ForeignPolicy, way: str, name: str) -> ForeignPolicy:
    """Return a policy that does not depend on its dead inputs; its actions at their means stay as they are.

    Args:
        foreign: the policy as its file has it.
        way: ``mean``, the policy goes on to read them and behaves as if they had their means; ``drop``, it does not
            read them, and fits an environment that does not have them; empty for the policy as it is.
        name: name of the file, for messages.

    Raises:
        UnknownNameError: for another way.
        ConfigError: for a policy without dead inputs.
        PolicyFileError: for one with a recurrent layer.
    """
    if not way:
        return foreign
    if way not in WAYS:
        raise UnknownNameError("treatment of dead inputs", way, WAYS)
    given, dead = foreign.standardization, find_dead(foreign.standardization)
    if given is None or not len(dead):
        raise ConfigError(f"{name} has no feature with a variance below 1e-6 in training; leave out --dead-inputs")
    if foreign.recurrence is not None:
        raise PolicyFileError(f"{name} has a recurrent layer; --dead-inputs is for feed-forward policies")
    kept = np.ones(len(given.mean), dtype=bool)
    kept[dead] = False
    frames = sum(foreign.groups.values()) // len(given.mean)  # stacked observations are normalized one by one
    change = _dropped if way == "drop" else _at_means
    notes = tuple(note for note in foreign.notes if note != note_on_dead(given))
    fed = "are not read" if way == "drop" else "count as their means"
    changed = change(foreign, given, kept, np.tile(kept, frames))
    return replace(changed, notes=(*notes, f"{len(dead)} dead inputs of {name} {fed}"))


def _at_means(foreign: ForeignPolicy, given: Standardization, kept: np.ndarray, columns: np.ndarray) -> ForeignPolicy:
    """Return the policy with weights of 0 for inputs that are not kept, whose mean is normalized to 0."""
    divisor = np.where(kept, given.divisor, 1.0)
    actor, critic = (_first(layers, lambda weight: weight * columns) for layers in (foreign.actor, foreign.critic))
    return replace(foreign, actor=actor, critic=critic, standardization=replace(given, divisor=divisor))


def _dropped(foreign: ForeignPolicy, given: Standardization, kept: np.ndarray, columns: np.ndarray) -> ForeignPolicy:
    """Return the policy without the inputs that are not kept."""
    bounds = np.cumsum([0, *foreign.groups.values()])
    sizes = [int(columns[a:b].sum()) for a, b in pairwise(bounds)]
    groups = {name: size for name, size in zip(foreign.groups, sizes, strict=True) if size}
    actor, critic = (_first(layers, lambda weight: weight[:, columns]) for layers in (foreign.actor, foreign.critic))
    statistics = Standardization(given.mean[kept], given.divisor[kept], given.clip)
    return replace(foreign, groups=groups, actor=actor, critic=critic, standardization=statistics)


def _first(layers: tuple[Layer, ...], change: Callable[[np.ndarray], np.ndarray]) -> tuple[Layer, ...]:
    """Return layers with changed weights of the first; a policy may have no critic."""
    return tuple(Layer(change(one.weight), one.bias) if i == 0 else one for i, one in enumerate(layers))
