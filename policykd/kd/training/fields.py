"""How samples and batches of a data set are read: which entries are inputs, labels, mask and weights.

It only looks entries up; it converts and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from policykd.errors import ConfigError
from policykd.kd.objective.inputs import Inputs

Key: TypeAlias = str | int
"""A key of a mapping or a position in a tuple."""
LABEL_KEYS = ("labels", "label", "targets", "target", "y")
"""Keys under which labels are looked for in a mapping."""


class Parts(NamedTuple):
    """The parts of a sample or a batch.

    Attributes:
        x: Inputs of the networks.
        targets: Labels, or None.
        mask: Which events exist, or None.
        weights: Weights of the samples, or None.
    """

    x: Inputs
    targets: Any = None
    mask: Any = None
    weights: Any = None


@dataclass(frozen=True)
class Fields:
    """Which entries of a sample or batch are what.

    Attributes:
        inputs: The entry that goes into the networks as their only argument, or a list of entries: keyword arguments
            from a mapping, positional ones from a tuple. None takes the first entry of a pair, and of a mapping all
            entries that are nothing else.
        targets: The entry of the labels. None takes the second entry of a pair, and of a mapping the only key among
            ``labels``, ``label``, ``targets``, ``target`` and ``y``; there may be none.
        mask: The entry that says which events exist, such as ``"attention_mask"``; inputs may use it, too. None for no
            mask.
        weights: The entry of the samples' weights; None for equal ones.
    """

    inputs: Key | Sequence[Key] | None = None
    targets: Key | None = None
    mask: Key | None = None
    weights: Key | None = None

    def read(self, item: Any) -> Parts:
        """Read a sample or a batch.

        Raises:
            ConfigError: It has no such entry, or it is not clear which entries are meant.
        """
        if isinstance(item, Tensor):
            return Parts(item)
        if isinstance(item, Mapping):
            return self._from_mapping(item)
        if isinstance(item, tuple | list):
            return self._from_sequence(item)
        raise ConfigError(f"a batch is a tensor, a tuple or a mapping, not a {type(item).__name__}")

    def _from_mapping(self, item: Mapping[Any, Any]) -> Parts:
        target = self.targets
        if target is None:
            found = [key for key in LABEL_KEYS if key in item]
            if len(found) > 1:
                raise ConfigError(f"the batch has {' and '.join(found)}: say Fields(targets={found[0]!r})")
            target = found[0] if found else None
        other = {key: _entry(item, key) for key in (target, self.mask, self.weights) if key is not None}
        if self.inputs is None:
            kept = {key: value for key, value in item.items() if key not in (target, self.weights)}
            x: Any = next(iter(kept.values())) if len(kept) == 1 else kept
        elif isinstance(self.inputs, str | int):
            x = _entry(item, self.inputs)
        else:
            x = {key: _entry(item, key) for key in self.inputs}
        return Parts(x, *(None if key is None else other[key] for key in (target, self.mask, self.weights)))

    def _from_sequence(self, item: Sequence[Any]) -> Parts:
        given = [key for key in (self.targets, self.mask, self.weights) if key is not None]
        if self.inputs is None and not given and len(item) > 2:
            raise ConfigError(f"a batch has {len(item)} entries: say which are what, e.g. Fields(inputs=0, targets=1)")
        target = 1 if self.targets is None and len(item) > 1 else self.targets
        inputs = 0 if self.inputs is None else self.inputs
        x = _entry(item, inputs) if isinstance(inputs, str | int) else tuple(_entry(item, key) for key in inputs)
        keys = (target, self.mask, self.weights)
        return Parts(x, *(None if key is None else _entry(item, key) for key in keys))


def _entry(item: Any, key: Key) -> Any:
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        known = sorted(map(str, item)) if isinstance(item, Mapping) else f"{len(item)} entries"
        raise ConfigError(f"the batch has no entry {key!r}; it has {known}") from None


def as_targets(targets: Any) -> Tensor | None:
    """Return labels as a tensor: whole numbers in int64, all others as they are.

    Raises:
        TypeError: They are not numbers.
    """
    if targets is None:
        return None
    try:
        tensor = targets if isinstance(targets, Tensor) else torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"labels must be numbers, got {targets!r:.80}; map names to 0 ... C - 1 in the data set"
        ) from None
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return tensor.long() if whole else tensor


def collate(items: Sequence[Any]) -> Any:
    """Stack samples into a batch of the same form: tensors, arrays and numbers along a new first axis.

    Raises:
        TypeError: Something cannot be stacked.
    """
    first = items[0]
    if isinstance(first, Mapping):
        return {key: collate([item[key] for item in items]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(collate(column) for column in zip(*items, strict=True))
    if isinstance(first, str | bytes) or first is None:
        raise TypeError(f"a data set gives {first!r:.60}; networks and losses take numbers: map it in the data set")
    return torch.stack([item if isinstance(item, Tensor) else torch.as_tensor(item) for item in items])
