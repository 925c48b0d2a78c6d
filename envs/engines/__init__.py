"""Engines: physics of many simulations at once.

``protocol`` defines the interface of an engine; ``batch`` is the CPU engine on MuJoCo's native thread pool; ``warp`` is
the GPU engine; ``loop`` steps one MjData after the other and is the reference in tests of the others.
"""

from policykd.envs.engines.batch import BatchEngine
from policykd.envs.engines.loop import LoopEngine
from policykd.envs.engines.protocol import FIELDS, Engine

__all__ = ["FIELDS", "BatchEngine", "Engine", "LoopEngine"]
