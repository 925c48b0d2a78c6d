"""Episodes in steps with masks are those in steps with lists, and recorded ones are plain ones."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policykd.agents.episodes import run_actions, run_episodes
from policykd.agents.policy import Policy
from policykd.envs import batched_env
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.envs.stepping import TorchBackend
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from tape import record_tape
from torch_engine import TorchEngine

SIMS = 12
ORDERED = EnvConfig(tracks=SIMS, ordered=True)


def skills_of(names, steps=70):
    return [replace(get_skill(name, ("imu", "joints", "command") if name.startswith("quad") else ("proprio", "phase")),
                    episode_steps=steps) for name in names]  # fmt: skip


def noisy_policy(skill, actions, size=3.0):
    policy = Policy(skill.group_sizes, actions, generator_seed=0)
    with torch.no_grad():
        policy.actor[-1].weight.mul_(size / 0.01)
    return policy


@pytest.mark.parametrize(
    ("names", "backend"),
    [
        (["biped/steps", "biped/gaps"], TorchBackend),
        (["quadruped/flat", "quadruped/stairs"], SpatialTorchBackend),
    ],
    ids=["biped", "quadruped"],
)
def test_masks_and_lists_have_equal_outcomes(monkeypatch, names, backend):
    monkeypatch.setattr(batched_env, "make_backend", backend)
    skills = skills_of(names)
    lists, masks = (kind(skills, SIMS, config=ORDERED, seed=2, threads=1) for kind in (BatchedEnv, MaskedEnv))
    policy = noisy_policy(lists.skill, lists.num_actions)
    outcomes = []
    for env in (lists, masks):
        env.seed(7)
        outcomes.append(run_episodes(policy, env))
    for name in ("total_reward", "length", "distance", "success"):
        assert torch.equal(*(getattr(o, name) for o in outcomes)), name
    assert outcomes[0].length.unique().numel() > 3, "episodes do not differ, so nothing was compared"
    assert outcomes[0].total_reward.max() > 0


def test_recorded_episodes_are_plain_ones():
    outcomes = []
    for record in (None, record_tape):
        env = MaskedEnv(skills_of(["biped/steps"]), SIMS, config=ORDERED, seed=2, make_engine=TorchEngine)
        policy, columns = noisy_policy(env.skill, env.num_actions, size=0.5), env.skill.columns
        outcomes.append(
            run_actions(lambda flat, p=policy, c=columns: p(p.select(flat, c)), env, replayable=True, record=record)
        )
    for name in ("total_reward", "length", "distance", "success"):
        assert torch.equal(*(getattr(o, name) for o in outcomes)), name
    assert outcomes[0].length.unique().numel() > 1


def test_what_may_not_be_replayed_is_called():
    env = MaskedEnv(skills_of(["biped/flat"], 5), SIMS, config=ORDERED, seed=2, make_engine=TorchEngine)

    def refuse(work, generators):
        raise AssertionError("recorded")

    run_actions(lambda flat: torch.zeros(len(flat), 11), env, record=refuse)
    with pytest.raises(AssertionError, match="recorded"):
        run_actions(lambda flat: torch.zeros(len(flat), 11), env, replayable=True, record=refuse)
