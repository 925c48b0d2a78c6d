"""Data-parallel work: the processes that torchrun started, and what they tell each other.

Every process runs the same program. What one of them does for all is exchanged here, errors included: an error in one
process is raised in all of them, so that none waits for another one that has ended. Without torchrun everything here is
the identity. Importing this loads no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from policykd.errors import ConfigError, PolicykdError
from policykd.threads import usable_cores

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others; one that has ended is noticed at once."""


class LostProcessError(PolicykdError):
    """Another process of the same run ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of ``count`` rows: contiguous, the first parts larger by one if need be."""
        least, rest = divmod(count, self.size)
        begin = self.rank * least + min(self.rank, rest)
        return slice(begin, begin + least + (self.rank < rest))

    def mine(self, count: int) -> range:
        """Return this process's part of ``count`` jobs: every ``size``-th."""
        return range(self.rank, count, self.size)

    def threads(self, threads: int | None) -> int | None:
        """Return a number of threads per process; for None, this process's part of the cores of its machine."""
        if self.alone or threads is not None:
            return threads
        return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", self.size)))

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do something in every process, and return what all of them returned, in the order of their ranks.

        Raises:
            PolicykdError: if it failed in a process; all processes raise the error of the first that failed.
            LostProcessError: if a process ended.
        """
        if self.alone:
            return [work()]
        done, error = _tried(work)
        found: list[Any] = [None] * self.size
        with _connected():
            _collectives().all_gather_object(found, (done, error))
        for _, failed in found:
            if failed is not None:
                raise failed
        return [value for value, _ in found]

    def each(self, count: int, work: Callable[[int], T]) -> list[T]:
        """Do ``count`` jobs, each in one process, and return the results of all of them in order; errors as above."""
        parts = self.gather(lambda: {i: work(i) for i in self.mine(count)})
        found = {i: value for part in parts for i, value in part.items()}
        return [found[i] for i in range(count)]

    def from_first(self, work: Callable[[], T]) -> T:
        """Do something in the first process only, and return what it returned in all of them; errors as above."""
        if self.alone:
            return work()
        told: list[Any] = [_tried(work) if self.first else None]
        with _connected():
            _collectives().broadcast_object_list(told, src=0)
        value, error = told[0]
        if error is not None:
            raise error
        return cast(T, value)

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace the gradients of parameters by their sums over the processes; a missing one counts as zero."""
        if self.alone:
            return
        import torch

        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        self.sum(flat)
        for parameter, part in zip(parameters, flat.split([grad.numel() for grad in grads]), strict=True):
            parameter.grad = part.view_as(parameter)

    def sum(self, values: torch.Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        if not self.alone:
            with _connected():
                _collectives().all_reduce(values)

    def check_equal(self, tensors: Mapping[str, torch.Tensor], what: str) -> None:
        """Raise unless tensors are equal to the last bit in all processes.

        Args:
            tensors: tensors by name.
            what: what they are, for the message.

        Raises:
            ConfigError: naming the processes that differ from the first.
        """
        if self.alone:
            return
        hashes = self.gather(lambda: _hash(tensors))
        others = [str(rank) for rank, one in enumerate(hashes) if one != hashes[0]]
        if others:
            raise ConfigError(
                f"{what} of process {', '.join(others)} differ from those of process 0: machines or versions of torch "
                f"are not equal; start all processes on equal ones"
            )


def processes() -> Processes:
    """Return the processes of this run: those of an initialized ``torch.distributed``, otherwise this one alone."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return Processes()
    return Processes(dist.get_rank(), dist.get_world_size())


def launched() -> Processes:
    """Return the processes that torchrun started, by the environment that it sets; this one alone without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes()
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def joined(group: Processes) -> Iterator[None]:
    """Connect the processes that torchrun started, over gloo, inside the block.

    Raises:
        LostProcessError: if a process ended before all were connected.
    """
    if group.alone:
        yield
        return
    import torch.distributed as dist

    with _connected():
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _connected() -> Iterator[None]:
    """Turn what gloo raises about a lost connection into one line."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, PolicykdError):
            raise
        reason = str(error).partition("\n")[0]
        raise LostProcessError(
            f"another process of this run ended, so this one ends, too ({reason}); start the same command with "
            f"--resume to continue from the last round"
        ) from error


def _tried(work: Callable[[], T]) -> tuple[T | None, PolicykdError | None]:
    """Return a result, or the error that policykd raised deliberately; a fault of the program ends this process."""
    try:
        return work(), None
    except PolicykdError as error:
        return None, error


def _collectives() -> Any:
    import torch.distributed as dist

    return dist


def _hash(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
