"""Dense layers and activations in state dictionaries, found by the names that torch gives them.

It looks names up and checks shapes; it knows no library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policykd.agents.action_map import ActionMap
from policykd.agents.architecture import ACTIVATIONS
from policykd.agents.importing.foreign_policy import Layer
from policykd.errors import PolicyFileError


def numbered_layers(weights: Mapping[str, np.ndarray], prefix: str) -> tuple[Layer, ...]:
    """Return the dense layers ``prefix.<number>`` in order of their numbers; none if there are none."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
    numbers = sorted(int(match[1]) for key in weights if (match := pattern.fullmatch(key)))
    return tuple(dense_layer(weights, f"{prefix}.{number}") for number in numbers)


def dense_layer(weights: Mapping[str, np.ndarray], name: str) -> Layer:
    """Return the dense layer of a name; without biases they are 0.

    Raises:
        PolicyFileError: if there is none.
    """
    weight = weights.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise PolicyFileError(f"its weights lack the layer {name}")
    bias = weights.get(f"{name}.bias")
    return Layer(weight, np.zeros(len(weight), dtype=np.float32) if bias is None else bias)


def arrays(tree: Any, what: str) -> dict[str, np.ndarray]:
    """Return the arrays of a state dictionary, without the prefix of compiled modules.

    Raises:
        PolicyFileError: if ``tree`` is not a dictionary.
    """
    if not isinstance(tree, dict):
        raise PolicyFileError(f"{what} is not a state dictionary")
    return {str(k).removeprefix("_orig_mod."): v for k, v in tree.items() if isinstance(v, np.ndarray)}


def named_activation(given: str | None, path_name: str, library: str) -> str:
    """Return the activation that a user or a configuration names.

    Raises:
        PolicyFileError: if none is given, or for one that policies do not have.
    """
    if not given:
        raise PolicyFileError(
            f"{path_name} names no activation ({library} keeps it in the run's configuration); give --activation elu, "
            f"relu, silu or tanh"
        )
    name = given.lower()
    if name not in ACTIVATIONS:
        raise PolicyFileError(f"the activation of {path_name} is {given}; {', '.join(ACTIVATIONS)} are imported")
    return name


def chain_actions(squash: bool, count: int) -> ActionMap:
    """Return how the output of a chain acts: as it is, or within [-1, 1] if a tanh bounds it."""
    return ActionMap("rescale", (-1.0,) * count, (1.0,) * count) if squash else ActionMap("none")


def chain_activations(found: Sequence[tuple[int, str]], layers: int, file: str) -> tuple[str, bool]:
    """Return the one activation between the dense layers of a chain, and whether a tanh follows the last one.

    Args:
        found: activations in their order, each with the number of layers in front of it.
        layers: number of layers.
        file: name of the file, for messages.

    Raises:
        PolicyFileError: for different activations, one behind the last layer that is not a tanh, and places between two
            layers without an activation or with several.
    """
    between, behind = ([item for item in found if (item[0] == layers) is last] for last in (False, True))
    kinds = sorted({kind for _, kind in between})
    ending = [kind for _, kind in behind]
    if len(kinds) > 1 or ending not in ([], ["tanh"]):
        raise PolicyFileError(f"{file} has the activations {kinds} and ends with {ending}")
    if [place for place, _ in between] != list(range(1, layers)):
        raise PolicyFileError(f"{file} does not have exactly one activation between every two of its {layers} layers")
    return (kinds[0] if kinds else "tanh"), bool(ending)
