"""A training small enough for tests of what surrounds the learning."""

from policykd.agents.architecture import Architecture
from policykd.agents.training import PpoConfig, TrainConfig

SMALL = TrainConfig(
    steps=6144,
    segment_steps=2048,
    validation_episodes=4,
    threads=1,
    architecture=Architecture(hidden=(32,), critic_hidden=(32,)),
    ppo=PpoConfig(envs=32, rollout_steps=16, minibatch=256, epochs=2),
)
