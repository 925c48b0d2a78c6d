"""Grounds that vary in x and y, one module each: a frozen dataclass that draws maps, and its presets.

Every module of this folder is imported, and registers its terrain with ``register_terrain``. So a new ground is one
file. Sizes are leg lengths.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
