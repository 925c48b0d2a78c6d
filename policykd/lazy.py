"""Exports of a package that are imported at their first use, so that configuration and help load no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names that live in its submodules.

    Args:
        package: the package's ``__name__``.
        exports: name to the submodule that defines it.

    Returns:
        The function to bind to ``__getattr__``.
    """

    def getattr_(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{exports[name]}"), name)

    return getattr_
