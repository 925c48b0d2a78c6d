"""A curriculum that runs in seconds; its policies learn nothing, which is not what is tested with it."""

from contextlib import contextmanager
from functools import partial

import pytest

from policykd.agents.architecture import Architecture
from policykd.agents.training import PpoConfig, TrainConfig
from policykd.curriculum import Injection, Measurement, Recipe, SkillPlan, stage_runner
from policykd.envs.robots.robot import Robot
from policykd.finetune import FinetuneConfig
from policykd.merge import MergeConfig

EPISODE = 64
"""Steps of an episode in the tests of curricula; the biped's 256 would be most of their time."""

NETWORKS = Architecture(hidden=(8,), critic_hidden=(8,))
TINY = Recipe(
    skills=tuple(SkillPlan(f"biped/{name}", steps=1024) for name in ("flat", "incline", "gaps")),
    injection=Injection(blind=2),
    train=TrainConfig(
        segment_steps=512,
        validation_episodes=3,
        finalists=1,
        architecture=NETWORKS,
        ppo=PpoConfig(envs=8, rollout_steps=16, minibatch=128, epochs=1),
    ),
    joint=PpoConfig(envs=6, rollout_steps=16, minibatch=96, epochs=1),
    merge=MergeConfig(
        rounds=2,
        envs=2,
        updates=4,
        minibatch=32,
        validation_episodes=2,
        start="newest",
        min_teacher_success=0.0,
        architecture=NETWORKS,
    ),
    measurement=Measurement(episodes=2, zero_shot=("biped/walls",)),
    finetune=FinetuneConfig(
        segment_steps=384,
        warm_up_steps=192,
        validation_episodes=2,
        final_episodes=2,
        ppo=PpoConfig(envs=6, rollout_steps=16, minibatch=96, epochs=1),
    ),
)


@pytest.fixture(autouse=True)
def short_episodes():
    """Let episodes of skills from ids end after :data:`EPISODE` steps."""
    with shortened():
        yield


@contextmanager
def shortened():
    """Return a context of episodes of :data:`EPISODE` steps, and of injections compared on few observations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Robot, "episode_steps", property(lambda self: EPISODE))
        patch.setattr(stage_runner, "inject_file", partial(stage_runner.inject_file, observations=256))
        yield
