"""Supervised knowledge distillation: losses, taps, objectives, a trainer, systems, tasks and benchmarks.

* ``policykd.kd.functional``: the losses as functions of tensors, student first, teacher second.
* ``policykd.kd.losses``: their module twins, which own what is trained or remembered.
* ``policykd.kd.registry``: ``methods.list()`` and ``methods.get(name)``, what a loss is and where its numbers are from.
* ``policykd.kd.objective.taps``, ``objective``, ``trainer``: features by module path, weighted terms, and a loop.

Importing this package loads no torch; names below are found when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_NAMES = {
    "Distiller": "training",
    "Objective": "objective",
    "Taps": "objective",
    "Term": "objective",
    "methods": "registry",
}

__all__ = ["Distiller", "Objective", "Taps", "Term", "functional", "losses", "methods", "registry"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    losses = importlib.import_module(f"{__name__}.losses")
    if name in losses.__all__:
        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
