"""Systems on real data: one module per system, with the data, the arms and the claims that decide it there.

``EVIDENCE`` is the registry of these experiments by the name of their system; ``policykd kd run takd --data
data/cifar10.npz`` runs one. They use the methods of ``policykd.kd.systems`` and only change data, networks and claims.
"""

from __future__ import annotations

from policykd.kd.experiments.experiment import Experiment
from policykd.names import Registry

EVIDENCE: Registry[Experiment] = Registry.of_folder("system with real data", __name__, "EXPERIMENT", Experiment)
"""The experiments on real data by the name of their system."""
