"""Worlds that the environment tests share."""

import numpy as np
import torch

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.physics import LoopEngine
from policykd.envs.skills import get_skill
from policykd.envs.terrains import TERRAINS as KINDS
from policykd.envs.terrains import Terrain, TrackBank

TERRAINS = [f"{name}:{p}" for name, kind in KINDS.items() for p in kind.presets if not kind.varies_across]
FEW = EnvConfig(tracks=16)


def terrain_of(name, difficulty=1.0):
    return Terrain(*name.split(":"), difficulty)


def bank_of(name, tracks=16, seed=0, **options):
    return TrackBank([terrain_of(name, options.pop("difficulty", 1.0))], tracks, seed, **options)


def batched(name="flat", num_envs=4, *, loop=False, config=FEW, groups=("proprio", "terrain"), **options):
    skill = get_skill(f"biped/{name}", groups=groups)
    return BatchedEnv([skill], num_envs, config=config, make_engine=LoopEngine if loop else None, **options)


def random_actions(steps, num_envs, scale=1.0, seed=0, actions=11):
    draw = np.random.default_rng(seed).uniform(-scale, scale, (steps, num_envs, actions))
    return torch.from_numpy(draw.astype(np.float32))


def assert_same(a, b):
    """Two steps are equal, bit for bit."""
    for name in a.observations:
        assert torch.equal(a.observations[name], b.observations[name]), name
        assert torch.equal(a.final_observations[name], b.final_observations[name]), name
    for name in ("reward", "terminated", "truncated", "failed"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("ids", "total_reward", "length", "distance", "success"):
        assert torch.equal(getattr(a.episodes, name), getattr(b.episodes, name)), name
