"""Policies and settings of the tests of what users ran into."""

import copy
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import save_policy
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.merge import MergeConfig

EXPERT = Path(__file__).parents[1] / "data" / "flat-expert"
"""An expert that walks on flat ground; it reads proprio and terrain."""

BLIND = get_skill("biped/flat", ("proprio",))
SIGHTED = get_skill("biped/gaps", ("proprio", "terrain"))
NETWORKS = Architecture(hidden=(8,), critic_hidden=(8,))
TINY_MERGE = MergeConfig(
    rounds=1, envs=2, updates=4, minibatch=32, validation_episodes=2, target_retention=2.0, min_teacher_success=0.0,
    critic="none", threads=1, architecture=NETWORKS,
)  # fmt: skip


@dataclass(frozen=True)
class Trio:
    """Two experts' files and the run folder of their merge."""

    blind: Path
    sighted: Path
    merge: Path


def random_policy(skill, seed, hidden=(8,)):
    """Return a network with distinct actions and a normalizer that matters."""
    policy = Policy(skill.group_sizes, skill.robot.num_actions, Architecture(hidden, (8,)), generator_seed=seed)
    draw = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.3, generator=draw)
    policy.update_normalizer(torch.randn(100, policy.observation_size, generator=draw) * 3.0 + 1.0)
    return policy.eval()


def keep(path, policy, skill, **options):
    """Save a policy as an expert of a skill."""
    provenance = {"robot": skill.robot, "skills": [skill.id], "operation": "train", "seed": 0, **options}
    save_policy(path, copy.deepcopy(policy), **provenance)
    return path


class Scan(gymnasium.Env):
    """A point with two features, the second of which is infinite once in its life, as a height scan off the map is.

    Args:
        life: number of steps, over all episodes, after which it is.
    """

    metadata = {"render_modes": [], "render_fps": 20}

    def __init__(self, life=0):
        self.life, self.steps = life, 0
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(np.float32(-1), np.float32(1), (1,))

    def reset(self, *, seed=None, options=None):
        """Begin at 0."""
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action):
        """Count."""
        self.steps += 1
        return np.array([0.1 * (self.steps % 10), np.inf if self.steps == self.life else 0.0]), 0.0, False, False, {}


gymnasium.register("policykd-users/Scan-v0", entry_point=Scan, max_episode_steps=10)
