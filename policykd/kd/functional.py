"""The losses as plain functions of tensors: student first, teacher second, options by keyword.

``functional.dkd`` is the function of ``policykd/kd/losses/dkd.py``; files in that folder are found by name. Every
function makes one value per sample, ``(B,)``, and reduces it by `reduction`. Losses that compare the samples of a batch
say so in their docstring. Static tools read types from the file: ``from policykd.kd.losses.dkd import dkd``.
"""

from __future__ import annotations

import importlib
from typing import Any

from policykd.names import public_modules

_FILES = public_modules("policykd.kd.losses")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [file for file in _FILES if hasattr(importlib.import_module(f"policykd.kd.losses.{file}"), file)]
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"policykd.kd.losses.{name}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
