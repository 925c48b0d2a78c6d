"""Training budgets counted in optimizer steps, so that a system's arms and data sizes can be compared at equal cost."""

from __future__ import annotations

from policykd.errors import check_range
from policykd.kd.training.config import OptimizerConfig, TrainConfig


def step_budget(samples: int, *, steps: int, batch_size: int, learning_rate: float, seed: int) -> TrainConfig:
    """A run of at least ``steps`` steps with full batches, rounded up to whole epochs, by Adam without weight decay.

    Args:
        samples: Size of the training set.
        steps: Optimizer steps.
        batch_size: Samples per step; a larger one than there are samples means all of them.
        learning_rate: Constant learning rate.
        seed: Seeds the order of the data. Arms that share it see the same batches.

    Raises:
        ConfigError: No sample, step or batch.
    """
    check_range("samples", samples, 1, 10**9)
    check_range("steps", steps, 1, 10**9)
    check_range("batch_size", batch_size, 1, 10**9)
    size = min(batch_size, samples)
    epochs = -(-steps // (samples // size))
    optimizer = OptimizerConfig("adam", lr=learning_rate, weight_decay=0.0)
    return TrainConfig(epochs=epochs, batch_size=size, seed=seed, drop_last=True, optimizer=optimizer)
