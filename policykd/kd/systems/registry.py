"""Names of the systems; a system's module is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from policykd.errors import UnknownNameError

if TYPE_CHECKING:
    from policykd.kd.systems.base import Experiment

# A module of this package that defines EXPERIMENT; one per line, in alphabetical order.
_MODULES: tuple[str, ...] = (
    "bd_kd",
    "ca_mkd",
    "cckd",
    "ces_kd",
    "crd",
    "ground_truth_self_distillation",
    "hinton_kd",
    "iusp",
    "mixup_kd",
    "modality_relation_gram",
    "multi_ta_de",
    "revisiting_self_distillation",
    "sk_kd",
    "sp",
    "sskd",
    "stkd",
    "sweet_spot_teacher",
    "takd",
)


def names() -> tuple[str, ...]:
    """Names of all systems, in alphabetical order."""
    return _MODULES


def get(name: str) -> Experiment:
    """The experiment of a system.

    Args:
        name: for example ``hinton_kd``.

    Raises:
        UnknownNameError: there is no such system; close matches are named.
    """
    if name not in _MODULES:
        raise UnknownNameError("system", name, _MODULES)
    return importlib.import_module(f"policykd.kd.systems.{name}").EXPERIMENT
