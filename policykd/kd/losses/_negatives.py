"""Which samples a contrastive loss compares a sample with: drawn by counting, not by a generator's state.

The draw is a function of (seed, sample, how often it was seen). So it is the same whether a batch is one piece, several
micro-batches or spread over processes, and a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Shift int64 as if it were unsigned."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def scramble(values: Tensor) -> Tensor:
    """Map int64 to well-mixed int64 (the finalizer of the splitmix64 generator); overflow wraps around."""
    values = (values ^ _shift_right(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shift_right(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shift_right(values, 31)


class NegativeDraw(nn.Module):
    """Draws negatives uniformly, with replacement, from all other samples or from those of other classes.

    Args:
        n_data: Size of the training set.
        labels: Class of every sample ``(n_data,)``; given, no negative shares the class of its sample.
        seed: Number of the stream.

    Raises:
        ConfigError: labels do not fit `n_data`, or all samples have one class.
    """

    order: Tensor
    size: Tensor
    start: Tensor

    def __init__(self, n_data: int, labels: Tensor | None = None, *, seed: int = 0) -> None:
        super().__init__()
        if n_data < 2:
            raise ConfigError(f"negatives need a training set of at least 2 samples, got n_data={n_data}")
        labels = torch.arange(n_data) if labels is None else labels.detach().cpu()
        if tuple(labels.shape) != (n_data,):
            raise ConfigError(f"labels must have shape ({n_data},), got {tuple(labels.shape)}")
        _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise ConfigError("all samples have one class: there are no negatives of another class")
        self.seed = seed
        # Sorted by class, the samples of other classes are all but one interval. Made from labels: not saved.
        self.register_buffer("order", classes.argsort(stable=True), persistent=False)
        self.register_buffer("size", sizes[classes], persistent=False)
        self.register_buffer("start", (sizes.cumsum(0) - sizes)[classes], persistent=False)

    def forward(self, index: Tensor, visits: Tensor, count: int) -> Tensor:
        """Return `count` negatives ``(B, count)`` for samples `index` ``(B,)`` seen `visits` ``(B,)`` times before."""
        stream = scramble(scramble(scramble(torch.full_like(index, self.seed)) + index) + visits.long())
        steps = torch.arange(1, count + 1, device=index.device) * _signed(0x9E3779B97F4A7C15)
        words = scramble(stream[:, None] + steps)
        size, start = self.size[index][:, None], self.start[index][:, None]
        rank = _shift_right(words, 1) % (len(self.order) - size)
        return self.order[torch.where(rank >= start, rank + size, rank)]
