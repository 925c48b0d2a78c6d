"""On Warp's CPU device, recorded iterations of PPO equal plain ones: what a CUDA device does, without its graphs."""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from policykd.agents.policy import Policy
from policykd.agents.training.config import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.batched_env import EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics.contact_budget import ContactSizes
from policykd.envs.skills import get_skill

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from tape import record_tape
from warp_worlds import warp_engine

pytestmark = [
    pytest.mark.warp,
    pytest.mark.skipif(find_spec("mujoco_warp") is None, reason="mujoco_warp is not installed: make test-warp"),
]
SIZES = {"biped/steps": (ContactSizes(40, 160), 6), "quadruped/stairs": (ContactSizes(32, 128), 8)}
"""Room for contacts and numbers of worlds of the other tests, so that kernels are compiled once."""


def learn(name, record):
    sizes, sims = SIZES[name]
    engine = partial(warp_engine, sizes=sizes)
    env = MaskedEnv([get_skill(name)], sims, config=EnvConfig(tracks=8), seed=3, starts=32, make_engine=engine)
    policy = Policy(env.skill.group_sizes, env.num_actions, generator_seed=0)
    config = PpoConfig(envs=sims, rollout_steps=8, minibatch=4 * sims, epochs=2)
    ppo = DevicePpo(policy, env, config, seed=1, record=record)
    torch.manual_seed(0)
    warm_up_normalizer(policy, env, steps=2)
    divergences, ended = [], 0
    for k in range(5):
        rollout = ppo.collect()
        ended += int(rollout.ended.sum())
        divergences.append(ppo.update(rollout, 1e-3))
        ppo.prepare_next(rollout, 0.9)
        if k == 2:
            env.draw_starts()
    env.check_overflow()
    return torch.cat([p.detach().flatten() for p in policy.parameters()]), env.engine.snapshot(), divergences, ended


@pytest.mark.parametrize("name", ["biped/steps", "quadruped/stairs"])
def test_recorded_iterations_are_plain_ones(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, recorded = learn(name, None), learn(name, record_tape)
    assert torch.equal(plain[0], recorded[0])
    assert all(torch.equal(value, recorded[1][key]) for key, value in plain[1].items())
    assert plain[2] == recorded[2]
    assert plain[3] > 0, "no episode ended, so no reset was recorded"
