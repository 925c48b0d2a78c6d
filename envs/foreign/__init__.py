"""Environments that policykd does not ship: any gymnasium environment as a skill, ``gym:BipedalWalker-v3``.

It uses gymnasium only; robots, terrains and engines of this package are unknown to it but for their interfaces.
"""

PREFIX = "gym:"
"""Begin of the ids of these skills."""
