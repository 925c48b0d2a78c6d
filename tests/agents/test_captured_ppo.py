"""Recorded iterations of PPO on a device equal plain calls, bit for bit; a tape replays them as a CUDA graph does."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policykd.agents.policy import Policy
from policykd.agents.training.config import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.batched_env import EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from tape import Tape, record_tape
from torch_engine import TorchEngine

SIMS, STEPS = 16, 6
CONFIG = PpoConfig(envs=SIMS, rollout_steps=STEPS, minibatch=48, epochs=2, entropy_weight=0.01)
IN_SPACE = ("imu", "base_velocity", "joints", "last_action", "command")
GAITS = ("proprio", "phase", "command")
WORLDS = [
    (["biped/steps"], None),
    (["biped/steps+imitate"], None),
    (["biped/flat+backwards", "biped/flat+crouch", "biped/flat+hop"], GAITS),
    (["quadruped/flat", "quadruped/flat+reverse"], IN_SPACE),
    (["quadruped/stairs"], None),
    (["humanoid/gaps"], None),
]


class Learning:
    """A policy, its environment and its learner."""

    def __init__(self, names, groups, record=None):
        skills = [replace(get_skill(n, groups) if groups else get_skill(n), episode_steps=13) for n in names]
        self.env = MaskedEnv(skills, SIMS, config=EnvConfig(tracks=16, graded=True), seed=3, starts=64, threads=1,
                             make_engine=TorchEngine)  # fmt: skip
        skill = self.env.skill
        symmetry = mirror_symmetry(skill.groups, skill.robot)
        self.policy = Policy(skill.group_sizes, self.env.num_actions, generator_seed=0, symmetry=symmetry)
        self.ppo = DevicePpo(self.policy, self.env, CONFIG, seed=1, record=record)
        torch.manual_seed(0)
        warm_up_normalizer(self.policy, self.env, steps=3)

    def iterate(self, rate):
        rollout = self.ppo.collect()
        divergence = self.ppo.update(rollout, rate)
        self.ppo.prepare_next(rollout, 0.9)
        return rollout, divergence

    def state(self):
        return {**self.policy.state_dict(), **self.env.engine.snapshot(), "sums": self.ppo.episodes.sums}


def assert_equal(first, second):
    for name, value in first.state().items():
        assert torch.equal(value, second.state()[name]), name


@pytest.mark.parametrize(("names", "groups"), WORLDS, ids=["-".join(n).replace("/", "_") for n, _ in WORLDS])
def test_recorded_iterations_are_plain_ones(names, groups):
    plain, recorded = Learning(names, groups), Learning(names, groups, record_tape)
    for k, rate in enumerate([1e-3, 1e-3, 4e-4, 4e-4, 1e-3]):
        if k == 3:  # what a run changes between iterations: starts, level, streams
            for learning in (plain, recorded):
                learning.env.level = 0.4
                learning.env.seed(9)
                learning.ppo.seed(9)
                learning.env.draw_starts()
        (mine, d1), (theirs, d2) = recorded.iterate(rate), plain.iterate(rate)
        assert d1 == d2
        for name in ("features", "raw", "actions", "log_probs", "values", "rewards", "ended", "advantages"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), (k, name)
        assert_equal(recorded, plain)
    assert recorded.env.failures == plain.env.failures
    means = plain.ppo.episodes.take(least=3)
    assert recorded.ppo.episodes.take() == means
    assert means["train_return"] > 0
    assert means["train_length"] <= 13


def test_a_continued_run_is_recorded_anew():
    names, groups = WORLDS[0]
    plain, recorded, source = (Learning(names, groups, record) for record in (None, record_tape, None))
    for learning in (plain, recorded):
        for _ in range(3):
            learning.iterate(1e-3)
    for _ in range(2):
        source.iterate(2e-3)
    state = {"policy": source.policy.state_dict(), "env": source.env.state_dict(), "ppo": source.ppo.state_dict()}
    for learning in (plain, recorded):
        own = copy.deepcopy(state)  # an optimizer keeps the tensors that it loads
        learning.policy.load_state_dict(own["policy"])
        learning.env.load_state_dict(own["env"])
        learning.ppo.load_state_dict(own["ppo"])
        learning.env.seed(2)
        learning.ppo.seed(2)
    for _ in range(4):
        assert recorded.iterate(1e-3)[1] == plain.iterate(1e-3)[1]
    assert_equal(recorded, plain)


def test_only_the_divergence_is_waited_for():
    """Between two recorded iterations the host reads one number."""
    learning = Learning(*WORLDS[0])
    learning.iterate(1e-3)
    with Tape():
        rollout = learning.ppo.collect()
    with Tape(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        learning.ppo.update(rollout, 1e-3)
    with Tape():
        learning.ppo.prepare_next(rollout, 0.9)


def test_weights_that_are_not_finite_are_said():
    from policykd.errors import ConfigError

    learning = Learning(*WORLDS[0])
    rollout = learning.ppo.collect()
    rollout.advantages[0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"set ppo\.learning_rate"):
        learning.ppo.update(rollout, 1e-3)
