"""The losses: one file per loss, with the function, its equation, and the module that objectives and trainers use.

A loss is imported from its file, ``from policykd.kd.losses.dkd import DKD, dkd``, which static tools understand, or as
``policykd.kd.losses.DKD``: every file without a leading underscore is a loss, found by its class name in lower case.
"""

from __future__ import annotations

import importlib
from typing import Any

from policykd.kd.losses._base import KDLoss as KDLoss
from policykd.kd.losses._base import Kind as Kind
from policykd.kd.losses._base import Signal as Signal
from policykd.kd.losses._function import loss_function as loss_function
from policykd.kd.losses._function import loss_module as loss_module
from policykd.names import public_modules

_FILES = {name.replace("_", ""): name for name in public_modules(__name__)}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        own = (kind for file in _FILES.values() for kind in _modules(file))
        return ["KDLoss", "Kind", "Signal", "loss_function", "loss_module", *own]
    file = _FILES.get(name.lower())
    if file is None or name == name.lower():  # a name in lower case is a file, which the import system finds
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _modules(file: str) -> list[str]:
    """Names of the loss modules that a file defines under its own name in lower case."""
    defined = vars(importlib.import_module(f"{__name__}.{file}"))
    return [name for name in defined if name != file and name.lower() == file.replace("_", "")]
