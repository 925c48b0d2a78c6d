"""Policies with a memory: they compute what torch's modules compute, from files and in simulations."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recurrent_samples import outputs_of, random_module, save_script, steering_module
from torch import nn

from policykd.agents.acting import Acting
from policykd.agents.architecture import Architecture, Memory
from policykd.agents.audit import audit_policy
from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.importing.foreign_policy import Standardization, policy_of
from policykd.agents.importing.formats import read_foreign
from policykd.agents.importing.importer import import_policy
from policykd.agents.injection import grow
from policykd.agents.injection.files import inject_file
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy, make_policy
from policykd.agents.training import train_expert
from policykd.agents.training.defaults import GYMNASIUM
from policykd.agents.validation import Validation
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.make import make_env
from policykd.envs.skill_records import records_of
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError, PolicyFileError, UnknownNameError

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from foreign_envs import register

register()
POINT = 'policykd-tests/Point-v0?{"goal": 1.0}'
KINDS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])


def imported(folder, module):
    return read_foreign(save_script(module, folder / "motion.pt"))


def saved(folder, policy):
    skill = gym_skill(f"gym:{POINT}")
    records = records_of([skill])
    path = folder / "policy"
    save_policy(path, policy, robot=skill.robot, skills=[skill.id], skill_records=records, operation="import", seed=0)
    return path


@KINDS
@torch.no_grad()
def test_actions_are_those_of_torch_after_resets_of_single_rows(kind, tmp_path):
    module = random_module(kind, 5, 3)
    acting = Acting(policy_of(imported(tmp_path, module)))
    generator = torch.Generator().manual_seed(0)
    rows, ended = torch.randn(40, 6, 5, generator=generator), torch.rand(40, 6, generator=generator) < 0.1
    assert 0 < ended.sum() < 60
    expected = outputs_of(module, rows, ended)
    for _ in range(2):  # and again after a reset of all
        acting.begin()
        for now, over, wanted in zip(rows, ended, expected, strict=True):
            torch.testing.assert_close(acting(now), wanted, atol=1e-5, rtol=1e-5)
            acting.forget(over)
    never = outputs_of(module, rows, torch.zeros_like(ended))
    assert (never - expected).abs().max() > 0.1  # the memory matters


@torch.no_grad()
def test_the_normalizer_precedes_the_memory(tmp_path):
    module = random_module(nn.LSTM, 5, 3)
    mean, divisor = torch.linspace(-1, 1, 5), torch.tensor([0.01, 0.1, 1.0, 3.0, 20.0])
    given = replace(imported(tmp_path, module), standardization=Standardization(mean.numpy(), divisor.numpy(), 2.0))
    acting, rows = Acting(policy_of(given)), mean + divisor * 2 * torch.randn(20, 4, 5)
    expected = outputs_of(module, ((rows - mean) / divisor).clamp(-2.0, 2.0), torch.zeros(20, 4, dtype=torch.bool))
    for now, wanted in zip(rows, expected, strict=True):
        torch.testing.assert_close(acting(now), wanted, atol=1e-4, rtol=1e-4)


def test_another_number_of_simulations_is_refused():
    acting = Acting(make_policy({"observation": 2}, 1, Architecture((8,), (8,), memory=Memory("gru", 4)), 0))
    with torch.no_grad():
        acting(torch.zeros(3, 2))
        with pytest.raises(ContractError, match="remembers 3 simulations and got observations of 4"):
            acting(torch.zeros(4, 2))
        acting.begin()
        acting(torch.zeros(4, 2))


@KINDS
@torch.no_grad()
def test_files_keep_the_memory(kind, tmp_path):
    policy = policy_of(imported(tmp_path, random_module(kind, 2, 1)))
    loaded, manifest = load_policy(saved(tmp_path, policy))
    assert manifest.format_version == 5
    assert manifest.architecture.memory == Memory(kind.__name__.lower(), 8)
    assert manifest.parameters == sum(v.numel() for v in policy.state_dict().values())
    before, after = Acting(policy), Acting(loaded)
    for now in torch.randn(10, 3, 2):
        assert torch.equal(before(now), after(now))
    text = (tmp_path / "policy" / "manifest.json").read_text()
    (tmp_path / "policy" / "manifest.json").write_text(text.replace('"hidden": 8', '"hidden": 9'))
    with pytest.raises(PolicyFileError, match="was altered"):
        load_policy(tmp_path / "policy")


def test_policies_without_memory_say_nothing_of_it(tmp_path):
    saved(tmp_path, Policy({"observation": 2}, 1, Architecture((8,), (8,)), 0))
    assert "memory" not in (tmp_path / "policy" / "manifest.json").read_text()


@torch.no_grad()
def test_files_that_do_not_fit_are_refused(tmp_path):
    foreign = imported(tmp_path, random_module(nn.LSTM, 5, 3))
    with pytest.raises(PolicyFileError, match="the recurrent layer reads 5 features; 4 come in"):
        policy_of(replace(foreign, groups={"observation": 4}))
    broken = replace(foreign.recurrence, hidden_bias=np.full_like(foreign.recurrence.hidden_bias, np.nan))
    with pytest.raises(PolicyFileError, match="the recurrent layer holds NaN"):
        policy_of(replace(foreign, recurrence=broken))


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(UnknownNameError, match="memory 'rnn'"):
        Memory("rnn", 4)
    with pytest.raises(ConfigError, match=r"memory\.hidden is 0"):
        Memory("gru", 0)
    shape = Architecture((8,), (8,), memory=Memory("gru", 4))
    with pytest.raises(ConfigError, match=r"leave out architecture\.memory"):
        Policy({"observation": 2}, 1, shape)
    with pytest.raises(ConfigError, match="needs an architecture with a memory"):
        RecurrentPolicy({"observation": 2}, 1, Architecture((8,), (8,)))
    with pytest.raises(ConfigError, match="has no symmetry"):
        make_policy({"observation": 2}, 1, shape, 0, MirrorSymmetry((1, 0), (0,), (0, 1)))


@torch.no_grad()
def test_episodes_begin_without_memory(tmp_path):
    """Every simulation acts as torch's module does, run afresh over each of its episodes, some of which end early."""
    module = random_module(nn.GRU, 2, 1, seed=1)
    policy = policy_of(imported(tmp_path, module))
    skill = gym_skill('gym:policykd-tests/Point-v0?{"gain": 8.0}')
    env = make_env([skill], 6, seed=3)
    seen, done, sent = [torch.cat(list(env.reset().values()), 1)], [], []
    step = env.step

    def record(actions):
        result = step(actions)
        sent.append(actions)
        seen.append(result.flat)
        done.append(result.terminated | result.truncated)
        return result

    env.step = record
    env.seed(3)
    outcomes = run_episodes(policy, env)
    rows, ended = torch.stack(seen[:-1]), torch.stack(done)
    assert ended[:20].any(), "no episode ended early, so nothing is tested"
    torch.testing.assert_close(torch.stack(sent), outputs_of(module, rows, ended), atol=1e-5, rtol=1e-5)
    validation = Validation([skill], 6, seed=3)
    first, second = validation.run(policy), validation.run(policy)
    assert torch.equal(first.total_reward, second.total_reward)
    assert torch.equal(first.total_reward, outcomes.total_reward)
    noisy = run_episodes(policy, make_env([skill], 6, seed=3), noise=True)
    assert not torch.equal(noisy.total_reward, outcomes.total_reward)


def test_what_needs_a_policy_without_memory_says_so(tmp_path):
    path = tmp_path / "expert"
    report = import_policy(save_script(steering_module(1.0), tmp_path / "motion.pt"), path, env=POINT, episodes=4)
    assert report.score > report.random + 5
    loaded = load_policy(path)
    skill = loaded.manifest.skill(loaded.manifest.skills[0])
    refusal = r"needs a policy without memory; this one keeps a state .*\(gru, 4\).*policykd merge POLICY"
    for call in (
        lambda: loaded.policy(torch.zeros(1, 2)),
        lambda: inject_file(path, tmp_path / "out", ["command"]),
        lambda: grow(loaded.policy, hidden=()),
        lambda: audit_policy(loaded.policy, skill, episodes=2),
        lambda: train_expert([skill], tmp_path / "out", GYMNASIUM, init=loaded),
    ):
        with pytest.raises(ContractError, match=refusal):
            call()
    assert not (tmp_path / "out").exists()
    shape = replace(GYMNASIUM.architecture, memory=Memory("gru", 4))
    with pytest.raises(ConfigError, match=re.escape("leave out architecture.memory")):
        train_expert([skill], tmp_path / "out", replace(GYMNASIUM, architecture=shape))
    assert not (tmp_path / "out").exists()
