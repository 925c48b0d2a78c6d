"""Policies for a robot whose joints stand in another order: inputs and outputs are reordered by name.

The actions of a remapped policy equal those of the original by name. ``orders`` finds the order of the features,
``networks`` reorders weights and statistics, ``files`` works on policy files and checks that the bodies are equal.
"""

from policykd.lazy import lazy_exports

_HOME = {
    "RemapReport": "files",
    "remap_file": "files",
    "reordered": "networks",
    "Orders": "orders",
    "find_orders": "orders",
}
__getattr__ = lazy_exports(__name__, _HOME)
__all__ = ["Orders", "RemapReport", "find_orders", "remap_file", "reordered"]
