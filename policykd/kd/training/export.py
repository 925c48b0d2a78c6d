"""Export: the bare student, and its weights as a file that anybody can load.

It writes one file and leaves the run's own files alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from policykd.kd.objective.taps import unwrap
from policykd.storage import write_bytes


def export_student(student: nn.Module, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A copy of the student alone: in eval mode, unwrapped, without gradients.

    Taps are attached only inside ``with`` blocks and teachers and projectors are never part of the student, so there is
    nothing to strip; hooks that the user put on the student himself are kept.

    Args:
        student: The trained student, wrapped or not.
        weights: A state dict to put into the copy; the student's own if None.
    """
    clean = copy.deepcopy(unwrap(student))
    if weights is not None:
        clean.load_state_dict(dict(weights))
    clean.zero_grad()
    return clean.eval()


def save_weights(student: nn.Module, path: str | Path, info: Mapping[str, Any] | None = None) -> None:
    """Write a module's weights as safetensors, atomically.

    Args:
        student: The module.
        path: File to write.
        info: JSON-serializable facts that go into the file's metadata.

    Raises:
        OutputError: The file cannot be written, for example to a full disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in student.state_dict().items()}
    write_bytes(path, save_tensors(tensors, {"info": json.dumps(dict(info or {}))}))


def load_weights(student: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load weights written by ``save_weights`` into a module of the same architecture.

    Returns:
        The facts that were stored with the weights.

    Raises:
        ValueError: The file is missing or damaged, or does not fit the module; the message names what differs.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            info = json.loads((file.metadata() or {}).get("info", "{}"))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as weights ({error})") from None
    own = student.state_dict()
    for name in sorted(own.keys() | tensors.keys()):  # the same message whatever the order of sets
        given = tuple(tensors[name].shape) if name in tensors else None
        needed = tuple(own[name].shape) if name in own else None
        if given != needed:
            who = type(student).__name__
            raise ValueError(f"{path} does not fit {who}: {name!r} is {given} in the file and {needed} in the module")
    with torch.no_grad():
        student.load_state_dict(tensors)
    return info
