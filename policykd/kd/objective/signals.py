"""Signals: what one network says about a batch, and the checks that every batch passes before a loss sees it.

It computes no loss and changes no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """What a student or a teacher gives for a batch.

    Attributes:
        logits: Outputs with the axes of the objective's :class:`~policykd.kd.objective.outputs.Outputs`, ``(B, C)`` by
            default; a teacher of probabilities gives their logarithm.
        features: Tap name -> feature, batch first.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """The logits and then the features, in the order of the taps."""
        return [self.logits, *self.features.values()]

    def replaced(self, tensors: Sequence[Tensor]) -> Signals:
        """The same names over other tensors, given in the order of ``tensors()``."""
        return Signals(tensors[0], dict(zip(self.features, tensors[1:], strict=True)))

    def full_precision(self) -> Signals:
        """Half-precision tensors raised to float32, which losses need; other types are left alone."""
        half = (torch.float16, torch.bfloat16)
        return self.replaced([t.float() if t.dtype in half else t for t in self.tensors()])

    @staticmethod
    def concatenated(parts: Sequence[Signals]) -> Signals:
        """The signals of one big batch from those of its parts."""
        columns = zip(*(part.tensors() for part in parts), strict=True)
        return parts[0].replaced([torch.cat(column) for column in columns])


def shape_text(tensor: Tensor) -> str:
    """A shape as it is written in messages, ``(64, 10)``."""
    return str(tuple(tensor.shape))


def check_finite(tensor: Tensor, what: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: Names the tensor, how many entries are bad and the first bad sample.
    """
    # one NaN or infinity makes a sum NaN or infinite, and a sum is far cheaper than a test of every entry
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach().sum())):
        return
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        first = int((~finite).flatten(1).any(1).nonzero()[0]) if tensor.dim() > 1 else int((~finite).nonzero()[0])
        raise ValueError(
            f"{what} {shape_text(tensor)} has {bad} non-finite value(s), the first in sample {first}: "
            "clean the data or lower the learning rate"
        )
