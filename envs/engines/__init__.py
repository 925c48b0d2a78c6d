"""Engines: what advances the physics of many simulations at once.

``protocol`` says what an environment may ask of an engine; ``batch`` is the CPU engine on MuJoCo's native thread
pool; ``loop`` steps one MjData after the other and is the oracle that the others are tested against.
"""

from policykd.envs.engines.batch import BatchEngine
from policykd.envs.engines.loop import LoopEngine
from policykd.envs.engines.protocol import FIELDS, Engine

__all__ = ["FIELDS", "BatchEngine", "Engine", "LoopEngine"]
