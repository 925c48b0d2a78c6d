"""Constants of tasks as tensors, created once per device.

It caches by device and value, and holds nothing that changes.
"""

from __future__ import annotations

from functools import lru_cache

import torch


def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], like: torch.Tensor) -> torch.Tensor:
    """Return numbers as a cached tensor; creating one from Python numbers in every step would wait for the device.

    Args:
        values: the numbers, nested like the tensor's axes.
        like: a tensor with the device and dtype of the result.

    Returns:
        The tensor. All callers share it: do not write to it.
    """
    return _made(values, like.dtype, like.device)


@lru_cache(maxsize=1024)
def _made(
    values: tuple[float, ...] | tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
