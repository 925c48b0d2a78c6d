"""The curriculum's level, which is how hard the tracks of new training episodes are: when it is reviewed and raised."""

from __future__ import annotations

from policykd.agents.training.config import TrainConfig
from policykd.envs.batched_env import BatchedEnv

_LEVEL_STEP = 0.04


def review_due(config: TrainConfig, steps: int, fresh: int) -> bool:
    """Whether a multiple of ``config.review_steps`` was passed in the last ``fresh`` of ``steps`` environment steps."""
    return steps // config.review_steps > (steps - fresh) // config.review_steps


def next_level(env: BatchedEnv, config: TrainConfig, success: float) -> float:
    """The level after training episodes of which a share ``success`` succeeded; never lower than now."""
    raised = env.config.graded and success > config.raise_above
    return min(1.0, env.level + _LEVEL_STEP) if raised else env.level
