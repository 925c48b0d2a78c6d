"""Expert training: stable-baselines3's PPO and SAC on the batched simulation, with our policy inside.

``config`` says what a run is, ``learners`` builds the algorithm, ``checkpoint`` stores a run, ``trainer`` drives it.
"""

from policykd.agents.training.config import PpoConfig, SacConfig, TrainConfig
from policykd.agents.training.trainer import TrainResult, train_expert

__all__ = ["PpoConfig", "SacConfig", "TrainConfig", "TrainResult", "train_expert"]
