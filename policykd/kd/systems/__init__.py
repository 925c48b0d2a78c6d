"""Systems: whole distillation methods (data, teachers, stages, objective), each with the experiment that tests it.

One module per system and nothing else. A module holds the method's reusable pieces, a frozen configuration,
``run(seed, config)``, which trains every arm of one paired cell, and ``EXPERIMENT``, which says what the paper claims
and how the cells decide it. What systems share is in :mod:`policykd.kd.experiments` and :mod:`policykd.kd.training`.

``policykd kd run hinton_kd --seeds 10`` does the same from the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policykd.names import Registry

if TYPE_CHECKING:
    from policykd.kd.experiments.experiment import Experiment

SYSTEMS: Registry[Experiment] = Registry.of_folder("system", __name__, "EXPERIMENT")
"""The experiments of all systems by module name; a module is imported when its experiment is asked for."""

__all__ = ["SYSTEMS"]
