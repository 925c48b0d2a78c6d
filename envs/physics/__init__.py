"""Physics engines: dynamics of many simulations at once.

``protocol`` defines the interface of an engine; ``mujoco_batch`` is the CPU engine on MuJoCo's native thread pool;
``mujoco_warp`` is the GPU engine; ``reference_loop`` steps one MjData after the other and is the reference in tests.
"""

from policykd.envs.physics.mujoco_batch import BatchEngine
from policykd.envs.physics.protocol import FIELDS, Engine
from policykd.envs.physics.reference_loop import LoopEngine

__all__ = ["FIELDS", "BatchEngine", "Engine", "LoopEngine"]
