"""Join the batches of all processes, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.rank, ctx.size = dist.get_rank(), part.shape[0]
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process computes the whole loss, so the gradients of this part add up; the optimizer averages them.
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return whole[ctx.rank * ctx.size : (ctx.rank + 1) * ctx.size]


def gather_batch(part: Tensor) -> Tensor:
    """Return the batches of all processes in order of rank; one process gets its own back."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return part
    result: Tensor = _GatherBatch.apply(part)
    return result
