"""Data-parallel helpers: who am I, and how signals of one batch are put together across processes.

Without an initialized ``torch.distributed`` everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from policykd.kd.training.checkpoint import CheckpointError, random_states, restore_random_states


def rank() -> int:
    """Position of this process, 0 without distribution."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without distribution."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def shares(batch: int, parts: int) -> list[int]:
    """Sizes of the contiguous parts of a batch; the first ones are larger by one where it does not divide."""
    return [batch // parts + (place < batch % parts) for place in range(parts)]


def gather_rows(rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of all processes in order of rank, off the graph.

    Args:
        rows: This process's rows ``(sizes[rank], ...)``.
        sizes: How many rows each process has; None where this process does not know, then the processes tell.
    """
    if (world_size() if sizes is None else len(sizes)) == 1:
        return rows.detach()
    if sizes is None:
        sizes = _exchanged_sizes(rows)
    longest = max(sizes)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _exchanged_sizes(rows: Tensor) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    every = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(every, own)
    return [int(size) for size in every]


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Make every process hold process 0's values."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def data_parallel(student: nn.Module) -> nn.Module:
    """The student in torch's data-parallel wrapper if there are several processes, else itself.

    Buffers are not broadcast at every step (a memory bank would travel each time); the trainer aligns them per epoch.
    """
    if world_size() == 1:
        return student
    return nn.parallel.DistributedDataParallel(student, broadcast_buffers=False)


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        dist.barrier()


def gather_random_states(device: torch.device) -> dict[str, Any]:
    """Random states for a checkpoint: torch's of every process, numpy's and Python's of this one."""
    sizes = (1,) * world_size()
    states = random_states()
    states["torch"] = gather_rows(states["torch"][None].to(device), sizes).cpu()
    states.pop("cuda", None)
    if device.type == "cuda":
        states["cuda"] = gather_rows(torch.cuda.get_rng_state(device)[None].to(device), sizes).cpu()
    return states


def restore_gathered_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Set what ``gather_random_states`` gave.

    Raises:
        CheckpointError: The checkpoint was written by another number of processes.
    """
    if len(states["torch"]) != world_size():
        made = len(states["torch"])
        raise CheckpointError(f"the checkpoint was written by {made} process(es), this run has {world_size()}")
    restore_random_states({**states, "torch": states["torch"][rank()], "cuda": []})
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][rank()], device)
