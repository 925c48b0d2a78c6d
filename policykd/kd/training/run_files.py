"""The checkpoint of a distiller's run: where it is, and whether a resumed run is the one that wrote it.

No other module knows the names of these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from policykd.kd.training import checkpoint
from policykd.kd.training.checkpoint import CheckpointError
from policykd.kd.training.distributed import barrier, rank

LAST = "last.safetensors"
_FREE = {"log_steps", "checkpoint_steps", "checkpoint_epochs"}  # they change no number of a run


def as_json(record: Any) -> Any:
    """Return a configuration as JSON gives it back (tuples become lists)."""
    plain = asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    return json.loads(json.dumps(plain))


def save(folder: Path, tree: Mapping[str, Any]) -> None:
    """Write a checkpoint from the first process; the others wait."""
    if rank() == 0:
        checkpoint.save(folder / LAST, dict(tree))
    barrier()


def load(folder: Path, config: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of a run, or return None where there is none yet.

    Raises:
        CheckpointError: It is damaged, or was made with another configuration.
    """
    path = folder / LAST
    if not path.exists():
        return None
    tree: dict[str, Any] = checkpoint.load(path)
    stored = {**tree["config"], **tree.get("run", {})}
    current = {**config, **(run if "run" in tree else {})}
    other = [name for name in current if name not in _FREE and stored.get(name) != current[name]]
    if other:
        listed = ", ".join(f"{name} {stored.get(name)} -> {current[name]}" for name in other)
        raise CheckpointError(f"{path} was made with another configuration ({listed}): use it, or another folder")
    return tree


@contextmanager
def fitting(folder: Path | None) -> Iterator[None]:
    """Turn errors of states that do not fit into errors of the checkpoint.

    Raises:
        CheckpointError: The states are those of other networks or objectives.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        where = "the checkpoint" if folder is None else folder / LAST
        raise CheckpointError(f"{where} does not fit this student and objective: {error}") from error
