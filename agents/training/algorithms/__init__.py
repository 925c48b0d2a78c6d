"""The reinforcement learning algorithms of expert training, one module each. Names and settings load no torch.

A module holds the algorithm's settings and ``ALGORITHM``, its record; it may import torch and stable-baselines3 only
inside functions. To add one, add a module; from another package, name the record: ``package.module:ALGORITHM``.
"""

from policykd.agents.training.algorithm import Algorithm
from policykd.names import Registry

ALGORITHMS: Registry[Algorithm] = Registry.of_folder("algorithm", __name__, "ALGORITHM", Algorithm)
"""The algorithms by name; a module is imported when its record is asked for."""

__all__ = ["ALGORITHMS"]
