"""Fine-tuning of students with a memory: rollouts are run again as they happened, runs learn and can be resumed."""

import copy
from dataclasses import replace

import pytest
import torch
from point_tasks import NEW, OLD, SMALL, killed_at

from policykd.agents.architecture import Architecture, Memory
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.recurrent_policy import make_policy
from policykd.agents.training.sb3_policy import log_density
from policykd.envs.make import make_env
from policykd.envs.skill_records import records_of
from policykd.errors import ContractError
from policykd.finetune import finetune
from policykd.finetune.learner import Leash, LeashedPpo
from policykd.finetune.recorded import read_recorded
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.merge.data.folder import LabeledData

FREE = Leash(torch.zeros(16), 0.0)
LONG = replace(SMALL, ppo=replace(SMALL.ppo, rollout_steps=50, minibatch=200))
"""Rollouts that are longer than an episode of 30 steps."""


def recurrent(kind="gru", dense=8):
    architecture = Architecture((16,), (16,), activation="tanh", memory=Memory(kind, hidden=6, dense=dense))
    return make_policy(OLD.group_sizes, 1, architecture, 0).eval()


def learner_of(policy, config=SMALL):
    return LeashedPpo(policy, make_env([OLD, NEW], 16, seed=0), config, 3, None, 0)


def step_by_step(policy, rollout, first):
    """Return the mean actions (T, n, actions) of a policy that acts along a rollout from states ``first`` (n, size)."""
    state, means = first, []
    for raw, ended in zip(rollout.raw, rollout.ended, strict=True):
        mean, state = policy.advance(raw, state)
        means.append(mean)
        state = state * (~ended)[:, None]
    return torch.stack(means)


@pytest.mark.parametrize(("kind", "dense"), [("gru", 8), ("lstm", 0), ("frame-stack", 0)])
def test_rollouts_are_run_again_as_they_happened(kind, dense):
    policy = recurrent(kind, dense)
    torch.nn.init.constant_(policy.actor[-1].bias, 0.6)  # it leaves the line, sooner or later by where it begins
    learner = learner_of(policy, LONG)
    states = [torch.zeros(16, policy.state_size)]
    for _ in range(2):
        rollout = learner.collect()
        assert rollout.ended.any()
        assert not rollout.ended.all(dim=1).any(), "episodes end at different times"
        noise = (rollout.actions - step_by_step(policy, rollout, states[-1])) * torch.exp(-policy.log_std)
        torch.testing.assert_close(log_density(noise.flatten(0, 1), policy.log_std), rollout.log_probs.flatten())
        again = learner._actor.means(rollout).view_as(rollout.actions)
        torch.testing.assert_close(again, step_by_step(policy, rollout, states[-1]))
        torch.testing.assert_close(learner._actor.start_means(rollout).view_as(again), again, msg="nothing has learned")
        states.append(learner._actor.memories()[0].clone())
    assert states[1].abs().max() > 0, "the second rollout goes on where the first one ended"


def test_a_minibatch_has_the_gradient_of_its_simulations():
    policy = recurrent()
    learner = learner_of(policy, LONG)
    rollout = learner.collect()
    batches = learner._actor.minibatches(rollout, 200, torch.Generator().manual_seed(0))
    assert [len(rows) for rows in batches] == [200] * 4
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(800))
    which = batches[1][:4]
    learner._actor.means(rollout, batches[1]).square().sum().backward()
    found = [parameter.grad.clone() for parameter in policy.acting_parameters()]
    policy.zero_grad()
    step_by_step(policy, rollout, torch.zeros(16, policy.state_size))[:, which].square().sum().backward()
    for mine, theirs in zip(found, policy.acting_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad)


def test_the_start_remembers_with_its_own_weights():
    policy = recurrent()
    start, learner = copy.deepcopy(policy), learner_of(policy)
    first = learner.collect()
    learner.update(first, 1e-2, FREE, actor=True)
    between = learner._actor.memories()[1].clone()
    second = learner.collect()
    torch.testing.assert_close(
        learner._actor.start_means(second).view_as(second.actions), step_by_step(start, second, between)
    )


@pytest.fixture
def student_file(tmp_path):
    path = tmp_path / "student"
    save_policy(
        path, recurrent(), robot=OLD.robot, skills=[OLD.id, NEW.id], operation="merge", seed=0,
        skill_records=records_of([OLD, NEW]),
    )  # fmt: skip
    return path


def test_a_student_with_a_memory_learns(student_file, tmp_path):
    result = finetune(load_policy(student_file), [NEW], tmp_path / "run", replace(SMALL, steps=15_360))
    assert result.improved
    before, after = (of[NEW.id]["reward_per_step"] for of in (result.before, result.after))
    assert before / 2 < after < 0
    assert load_policy(result.policy_path).policy.recurrent


def test_an_interrupted_run_ends_in_the_same_weights(student_file, tmp_path):
    config = replace(SMALL, steps=1_536, segment_steps=512, warm_up_steps=512)
    whole = finetune(load_policy(student_file), [NEW], tmp_path / "whole", config, rehearsed=[OLD])
    with killed_at(1_024):
        finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, rehearsed=[OLD])
    again = finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, rehearsed=[OLD], resume=True)
    hashes = [load_policy(result.policy_path).manifest.weights_sha256 for result in (whole, again)]
    assert hashes[0] == hashes[1]


def test_recorded_states_are_refused(student_file, tmp_path):
    policy = load_policy(student_file)
    merge = MergeConfig(rounds=1, envs=2, updates=2, minibatch=16, critic="none", validation_episodes=2,
                        min_teacher_success=0.0, groups=tuple(OLD.group_sizes))  # fmt: skip
    merge_experts(teachers_from([("expert", policy)], {"expert": [OLD.id]}), tmp_path / "merge", merge)
    with pytest.raises(ContractError, match="rehearsal of recorded states"):
        read_recorded([LabeledData.open(tmp_path / "merge" / "data")], policy)
