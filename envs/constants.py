"""Numbers of tasks as tensors, made once for each device."""

from __future__ import annotations

from functools import lru_cache

import torch


def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], like: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor. A new tensor of Python numbers would make every step wait for the device.

    Args:
        values: the numbers, nested as the tensor's axes.
        like: a tensor on the device, and of the precision, that the result is to have.

    Returns:
        The tensor, which all callers share: not to be written to.
    """
    return _made(values, like.dtype, like.device)


@lru_cache(maxsize=1024)
def _made(
    values: tuple[float, ...] | tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
