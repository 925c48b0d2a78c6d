"""Expert training: an algorithm of stable-baselines3 on the batched simulation, with our policy inside.

``config`` describes a run, ``experts`` starts it, ``trainer`` drives it with one of ``algorithms``. On a CUDA device
``device_trainer`` drives our own PPO of ``device_ppo``.
"""

from policykd.agents.training.algorithm import Adaptation, Algorithm
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.config import PpoConfig, SacConfig, TrainConfig
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(__name__, {"TrainResult": "experts", "train_expert": "experts"})
__all__ = [
    "ALGORITHMS",
    "Adaptation",
    "Algorithm",
    "PpoConfig",
    "SacConfig",
    "TrainConfig",
    "TrainResult",
    "train_expert",
]
