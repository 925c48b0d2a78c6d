"""Join the batches of all processes, with gradients, so that a loss can compare samples across processes.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from policykd.divergences import Reduction
from policykd.errors import ConfigError


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


def check_gathering(gather_distributed: bool, reduction: Reduction) -> None:
    """Raise ConfigError for a joined batch whose reduction is not a mean, for which gradients would not add up."""
    if gather_distributed and reduction not in ("mean", "batchmean"):
        raise ConfigError(f"gather_distributed needs reduction mean or batchmean, got {reduction!r}")


def gather_pair(
    student: Tensor, teacher: Tensor, gather_distributed: bool, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """Return both tensors, joined over all processes in order of rank if `gather_distributed` is set.

    Two processes of b samples then give the loss and, after the averaging of gradients that ``DistributedDataParallel``
    does, the gradient of one process with 2 b. Batches must have one size on all processes.

    Raises:
        ConfigError: the reduction is not a mean.
    """
    check_gathering(gather_distributed, reduction)
    if not gather_distributed or not dist.is_initialized() or dist.get_world_size() == 1:
        return student, teacher
    return _GatherBatch.apply(student), _GatherBatch.apply(teacher.detach())
