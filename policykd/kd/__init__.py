"""Supervised knowledge distillation: losses, taps, objectives, a trainer, systems, tasks and benchmarks.

* ``policykd.kd.losses``: one file per loss, with its function and its module, which owns what is trained or remembered.
* ``policykd.kd.functional``: the functions alone, student first, teacher second.
* ``policykd.kd.registry``: ``LOSSES.list()`` and ``LOSSES.get(name)``, what a loss is and where its numbers are from.
* ``policykd.kd.objective``, ``policykd.kd.training``: features by module path, weighted terms, and a loop.

Importing this package loads no torch; names below are found when they are first used, loss modules such as ``KD``, too.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "Distiller": "training",
    "Stage": "training",
    "LOSSES": "registry",
    "Objective": "objective",
    "Outputs": "objective",
    "Taps": "objective",
    "Term": "objective",
}
_MODULES = ("functional", "losses", "registry")

__all__ = ["LOSSES", "Distiller", "Objective", "Outputs", "Stage", "Taps", "Term", "functional", "losses", "registry"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name[:1].isupper():
        return getattr(importlib.import_module(f"{__name__}.losses"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
