"""Lazy exports of a package: names are imported at first use, so that configuration and help do not load torch.

It uses the standard library alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module-level ``__getattr__`` for names that are defined in submodules.

    Args:
        package: the package's ``__name__``.
        exports: submodule that defines each name.

    Returns:
        The function to bind to ``__getattr__``.
    """

    def getattr_(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{exports[name]}"), name)

    return getattr_
