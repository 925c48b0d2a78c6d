"""Systems: whole distillation methods (data, teachers, stages, objective), each with the experiment that tests it.

One module per system and nothing else. A module holds a frozen recipe, a subclass of
:class:`policykd.kd.experiments.system.System` with the method's arms and the claims that they decide, and
``EXPERIMENT``, its record. Losses are in :mod:`policykd.kd.losses`; the pieces that systems share are in
:mod:`policykd.kd.experiments` and :mod:`policykd.kd.training`.

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
