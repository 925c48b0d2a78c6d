"""The curriculum's next level: how hard the tracks of new training episodes are."""

from __future__ import annotations

from policykd.agents.training.config import TrainConfig
from policykd.envs.batched_env import BatchedEnv

_LEVEL_STEP = 0.04


def next_level(env: BatchedEnv, config: TrainConfig, success: float, steps: int, fresh: int) -> float:
    """The curriculum's level after a rollout.

    Args:
        env: the training's environment, which has the level now.
        config: the training.
        success: share of the last training episodes that succeeded.
        steps: environment steps so far.
        fresh: those of the last rollout.

    Returns:
        The level from here on, in (0, 1]; never lower than now.
    """
    reviewed = steps // config.review_steps > (steps - fresh) // config.review_steps
    if not env.config.graded or not reviewed or success <= config.raise_above:
        return env.level
    return min(1.0, env.level + _LEVEL_STEP)
