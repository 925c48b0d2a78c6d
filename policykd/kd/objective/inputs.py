"""What goes into a network: a tensor, a tuple of tensors (positional arguments) or a mapping (keyword arguments).

A trainer that cuts, moves and checks batches does it here, whatever their form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from policykd.kd.objective.signals import check_finite

Inputs: TypeAlias = Tensor | Mapping[str, Any] | Sequence[Any]
"""Tensors with the batch first; entries of a mapping or sequence that are not tensors are passed on as they are."""


def call_network(network: Callable[..., Any], x: Inputs) -> Any:
    """Call a network with a tensor, with positional or with keyword arguments.

    Raises:
        TypeError: The network refused images of bytes.
    """
    try:
        if isinstance(x, Tensor):
            return network(x)
        return network(**x) if isinstance(x, Mapping) else network(*x)
    except RuntimeError as error:
        if any(tensor.dtype == torch.uint8 for tensor in tensors_of(x)):
            name = type(network).__name__
            raise TypeError(
                f"{name} does not take the bytes (uint8) of this batch ({error}): convert the data, for example by "
                "x.float() / 255"
            ) from error
        raise


def tensors_of(x: Inputs) -> Iterator[Tensor]:
    """Iterate over the tensors of an input."""
    if isinstance(x, Tensor):
        yield x
    else:
        yield from (item for item in (x.values() if isinstance(x, Mapping) else x) if isinstance(item, Tensor))


def first_tensor(x: Inputs) -> Tensor:
    """Return the first tensor of an input, which tells its batch size and its device.

    Raises:
        TypeError: There is none.
    """
    for tensor in tensors_of(x):
        return tensor
    raise TypeError(f"a batch needs at least one input tensor, got {type(x).__name__} {list(x)!r}")


def count_samples(x: Inputs) -> int:
    """Return the number of samples of an input."""
    return len(first_tensor(x))


def map_tensors(function: Callable[[Tensor], Any], x: Any) -> Any:
    """Return an input of the same form whose tensors went through a function."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, Mapping):
        return {name: map_tensors(function, item) for name, item in x.items()}
    if isinstance(x, tuple | list):
        return tuple(map_tensors(function, item) for item in x)
    return x


def split_inputs(x: Inputs, sizes: Sequence[int]) -> list[Inputs]:
    """Cut an input along the batch into parts of these sizes."""
    if isinstance(x, Tensor):
        return list(x.split(list(sizes)))
    return [cut_inputs(x, sum(sizes[:place]), size) for place, size in enumerate(sizes)]


def cut_inputs(x: Inputs, start: int, size: int) -> Inputs:
    """Return some samples of an input that follow one another."""
    cut: Inputs = map_tensors(lambda tensor: tensor[start : start + size], x)
    return cut


def check_inputs(x: Inputs) -> None:
    """Refuse inputs with NaN or infinity.

    Raises:
        ValueError: Names how many entries are bad and the first bad sample.
    """
    if isinstance(x, Tensor):
        check_finite(x, "the input batch")
        return
    named = x.items() if isinstance(x, Mapping) else enumerate(x)
    for name, item in named:
        if isinstance(item, Tensor):
            check_finite(item, f"input {name!r} of the batch")


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter, or the CPU."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
