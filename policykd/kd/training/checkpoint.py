"""Checkpoints: one safetensors file each, written atomically and read without executing anything.

Tensors are stored as tensors; everything else (positions, counters, the shape of nested states) is JSON in the file's
metadata. A file is complete or absent: it is written next to its final name, flushed and renamed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from policykd.errors import PolicykdError
from policykd.storage import write_bytes
from policykd.torch_seeding import seed_torch

_KEY = "policykd"
_FORMAT = 1


class CheckpointError(PolicykdError, ValueError):
    """A checkpoint is missing, damaged, or belongs to another run."""


def save(path: str | Path, tree: Any) -> None:
    """Write a nested structure of tensors, numbers, strings, None, dicts, lists and tuples.

    Args:
        path: File to write; an older one is replaced at once or not at all.
        tree: What to store.

    Raises:
        TypeError: The tree holds something else.
        OutputError: The file cannot be written, for example to a full disk.
    """
    path, tensors = Path(path), {}  # type: ignore[var-annotated]
    text = json.dumps({"format": _FORMAT, "tree": _pack(tree, tensors, "")})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save_tensors(tensors, {_KEY: text}))


def load(path: str | Path) -> Any:
    """Read what ``save`` wrote.

    Raises:
        CheckpointError: The file is missing, cut short, not a checkpoint or of a newer format.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); its size is {path.stat().st_size} bytes") from None
    if text is None:
        raise CheckpointError(f"{path} is a safetensors file but no checkpoint of this library")
    try:
        content = json.loads(text)  # figures may be infinite
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its description is not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path} has format {found}, this version reads {_FORMAT}")
    try:
        return _unpack(content["tree"], tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its description does not fit its tensors ({error})") from None


def _pack(node: Any, tensors: dict[str, Tensor], path: str) -> Any:
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(node, dict):
        # pairs and not a JSON object, because optimizer states have integer keys
        return {"dict": [[key, _pack(item, tensors, f"{path}/{key}")] for key, item in node.items()]}
    if isinstance(node, list | tuple):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_pack(item, tensors, f"{path}/{place}") for place, item in enumerate(node)]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"cannot store a {type(node).__name__} at {path or '/'}")


def _unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def random_states() -> dict[str, Any]:
    """The states of torch's, numpy's and Python's global generators."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - users' code may draw from it
    name, keys, position, has_gauss, cached = legacy
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": (name, torch.from_numpy(keys.astype("int64")), position, has_gauss, cached),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Set what ``random_states`` gave."""
    torch.set_rng_state(states["torch"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, cached))  # noqa: NPY002
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if states.get("cuda") and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for a while and give the caller's random states back afterward."""
    before = random_states()
    seed_torch(seed)
    try:
        yield
    finally:
        restore_random_states(before)
