"""A recording of torch's operations on the CPU that is replayed as a CUDA graph is.

A replay runs no Python of the recorded work: it does the same operations with the same numbers on the same memory.
Work that depends on anything else (a tensor that was replaced, a number that changed, a shape) replays wrongly, and
here as there the results say so. What a CUDA graph refuses is refused, too: reading a value back to the host, shapes
that depend on values, and tensors that are made from numbers of the host.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITS = ("_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "_unique2", "masked_select")
"""Operations for whose result the host waits."""

FROM_HOST = ("lift_fresh",)
"""Operations that make a tensor of the host's numbers, which a device has to fetch; a scalar is filled in there."""


def name_of(func):
    return func.overloadpacket.__name__


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


def boolean_index(func, args):
    """Whether an index is a mask: how many rows it selects is known on the device only."""
    return name_of(func).startswith("index") and any(
        isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
    )


def _as_it_is(value):
    """A tensor on the same memory whose shape nothing changes later."""
    return value.detach() if isinstance(value, torch.Tensor) else value


class Tape(TorchDispatchMode):
    """Notes every operation, and refuses those that a CUDA graph refuses.

    Attributes:
        entries: operations with their arguments and results.
    """

    def __init__(self, generators=None):
        super().__init__()
        self.entries, self._generators = [], generators

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if name_of(func) in (*WAITS, *FROM_HOST) or boolean_index(func, args):
            raise AssertionError(f"{func} cannot be recorded: the host waits for the device or copies to it")
        result = func(*args, **kwargs)
        self._check_generator(kwargs.get("generator"))
        self.entries.append((func, *(tree_map(_as_it_is, part) for part in (args, kwargs, result))))
        return result

    def _check_generator(self, generator):
        """A generator comes here in another Python object; its state tells which one it is."""
        if generator is None or self._generators is None:
            return
        states = [g.get_state() for g in self._generators]
        assert any(torch.equal(generator.get_state(), s) for s in states), "the work draws from one that was not named"


def record_tape(work, generators=()):
    """The replay of ``work``; its first call is the recorded one. See ``policykd.envs.capture.Recorder``."""
    with Tape(generators) as tape:
        result = work()
    fresh = [True]

    def replay():
        if not fresh.pop():
            for entry in tape.entries:
                _again(*entry)
        fresh.append(False)
        return result

    return replay


@torch.no_grad()
def _again(func, args, kwargs, recorded):
    """Do an operation again and put its result where the recorded one is."""
    result = func(*args, **kwargs)
    given = {storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
    pairs = zip(tree_leaves(recorded), tree_leaves(result), strict=True)
    for old, new in pairs:
        if isinstance(old, torch.Tensor) and storage(old) not in given and not name_of(func).startswith("empty"):
            old.copy_(new)
