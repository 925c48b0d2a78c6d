"""Supervised knowledge distillation: losses, taps, objectives, a trainer, systems, tasks and benchmarks.

* ``policykd.kd.functional``: the losses as functions of tensors, student first, teacher second.
* ``policykd.kd.losses``: their module twins, which own what is trained or remembered.
* ``policykd.kd.registry``: ``methods.list()`` and ``methods.get(name)``, what a loss is and where its numbers are from.
* ``policykd.kd.taps``, ``objective``, ``trainer``: features by module path, weighted terms, and a loop.

Importing this package loads no torch; names below are found when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_SUBMODULES = (
    "functional",
    "losses",
    "objective",
    "projectors",
    "registry",
    "tasks",
    "taps",
    "teachers",
    "terms",
    "trainer",
)
_NAMES = {"Objective": "objective", "Taps": "taps", "Term": "terms", "methods": "registry"}

__all__ = ["Objective", "Taps", "Term", "functional", "losses", "methods", "registry"]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    losses = importlib.import_module(f"{__name__}.losses")
    if name in losses.__all__:
        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
