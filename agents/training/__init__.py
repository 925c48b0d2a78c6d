"""Expert training: stable-baselines3's PPO and SAC on the batched simulation, with our policy inside.

``config`` says what a run is, ``experts`` starts it, ``trainer`` drives it with an algorithm of ``learners``. On a CUDA
device ``device_trainer`` drives our own PPO of ``device_ppo``.
"""

from policykd.agents.training.config import PpoConfig, SacConfig, TrainConfig
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(__name__, {"TrainResult": "experts", "train_expert": "experts"})
__all__ = ["PpoConfig", "SacConfig", "TrainConfig", "TrainResult", "train_expert"]
