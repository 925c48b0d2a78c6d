"""Two tasks of one small environment, and small runs of fine-tuning on them."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
import foreign_envs

from policykd.agents.training import PpoConfig
from policykd.envs.foreign.skill import gym_skill
from policykd.finetune import FinetuneConfig
from policykd.finetune.run import _Run

NAME = f"gym:{foreign_envs.__name__}:policykd-tests/Point-v0"
OLD, NEW = (gym_skill(f'{NAME}?{{"goal": {goal}}}', tasks=2, task_number=i) for i, goal in enumerate((-0.5, 1.0)))
SMALL = FinetuneConfig(
    steps=9_216, segment_steps=3_072, warm_up_steps=1_024, validation_episodes=12, final_episodes=16, noise=0.2,
    threads=1, ppo=PpoConfig(envs=16, rollout_steps=32, epochs=4, minibatch=128, learning_rate=6e-4, final_std=0.1,
                             learning_rate_range=(1e-6, 3e-3), gamma=0.9),
)  # fmt: skip


class Killed(Exception):
    """A run died."""


@contextmanager
def killed_at(steps):
    """A run that begins in this context must die as soon as it has saved its state at this step."""
    save = _Run._save

    def dying(self):
        save(self)
        if self._steps == steps:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "_save", dying)
        with pytest.raises(Killed):
            yield
