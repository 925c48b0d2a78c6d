"""Expert training: stable-baselines3's PPO and SAC on the batched simulation, with our policy inside.

``config`` says what a run is, ``learners`` builds the algorithm, ``checkpoint`` stores a run, ``trainer`` drives it.
"""

from policykd.agents.training.config import PpoConfig, SacConfig, TrainConfig
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(__name__, {"TrainResult": "trainer", "train_expert": "trainer"})
__all__ = ["PpoConfig", "SacConfig", "TrainConfig", "TrainResult", "train_expert"]
