"""Updates with a leash: without one they are those of the device's PPO; with one the start's actions are kept."""

import copy
from dataclasses import replace

import pytest
import torch
from point_tasks import NEW, OLD, SMALL

from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.make import make_env
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.finetune.learner import Leash, LeashedPpo, leash_of

SKILL, SIMS, STEPS = get_skill("biped/flat"), 16, 8
PPO = PpoConfig(envs=SIMS, rollout_steps=STEPS, minibatch=64, epochs=2)
FREE = Leash(torch.zeros(SIMS), 0.0)


def parts(policy, env, config=SMALL, seed=0):
    return LeashedPpo(policy, env, config, seed, None, 0)


def biped():
    symmetry = mirror_symmetry(SKILL.groups, SKILL.robot)
    policy = Policy(SKILL.group_sizes, 11, generator_seed=3, symmetry=symmetry)
    env = BatchedEnv([SKILL], SIMS, config=EnvConfig(tracks=16), threads=1)
    warm_up_normalizer(policy, env)
    return policy, env


def test_an_update_without_a_leash_is_that_of_the_devices_ppo():
    policy, env = biped()
    mine = parts(policy, env, replace(SMALL, noise=0.15, ppo=PPO))
    rollout = mine.collect()
    theirs = copy.deepcopy(policy)
    device = DevicePpo(theirs, MaskedEnv([SKILL], SIMS, config=EnvConfig(tracks=16), threads=1), PPO, seed=7)
    mine.seed(7)
    figures = mine.update(rollout, 1e-3, FREE, actor=True)
    divergence = device.update(rollout, 1e-3)
    assert figures["divergence"] == pytest.approx(divergence, rel=1e-5)
    for (name, first), second in zip(policy.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6, msg=name)


def test_a_rollout_counts_the_value_after_time_ran_out(student):
    env = make_env([NEW], 8, seed=0)
    learner = parts(student.policy, env, replace(SMALL, ppo=replace(SMALL.ppo, envs=8, rollout_steps=60, minibatch=96)))
    with torch.no_grad():
        student.policy.critic[-1].weight.zero_()
        student.policy.critic[-1].bias.fill_(50.0)
    rollout = learner.collect()
    gamma = SMALL.ppo.gamma
    late = rollout.rewards > 10
    assert int(late.sum()) == 16, "each of 8 simulations ran out of 30 steps twice in 60"
    assert torch.equal(late, rollout.ended)
    assert (rollout.rewards[~late] <= 0).all(), "the reward is minus a squared distance"
    assert (rollout.rewards[late] <= gamma * 50.0).all()


def test_the_actor_rests_while_the_critic_warms_up(student):
    learner = parts(student.policy, make_env([NEW], 16, seed=0))
    before = copy.deepcopy(student.policy)
    learner.update(learner.collect(), 1e-3, Leash(torch.ones(16), 1.0), actor=False)
    assert all(
        torch.equal(a, b) for a, b in zip(before.actor.parameters(), student.policy.actor.parameters(), strict=True)
    )
    assert torch.equal(before.log_std, student.policy.log_std)
    assert not torch.equal(before.critic[0].weight, student.policy.critic[0].weight)


def test_exploration_is_released_and_bounded(student):
    learner = parts(student.policy, make_env([NEW], 16, seed=0))
    assert student.policy.log_std.exp().item() == pytest.approx(SMALL.noise)
    learner.bound_noise(0.07)
    assert student.policy.log_std.exp().item() == pytest.approx(0.07)
    with torch.no_grad():
        spread = (learner.collect().actions - student.policy.actor(learner._rollout.features)).std()
    assert float(spread) == pytest.approx(0.07, rel=0.15)


def test_the_distance_is_the_divergence_of_gaussians(student):
    learner = parts(student.policy, make_env([NEW], 16, seed=0))
    mean, kept = torch.randn(5, 1), torch.randn(5, 1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, SMALL.noise), torch.distributions.Normal(kept, SMALL.noise)
    ).sum(dim=1)
    torch.testing.assert_close(learner._distance(mean, kept), expected)


def moved(student, weights, rate=1e-3):
    """Return how far each half of the simulations moved from the start by one update."""
    learner = parts(student.policy, make_env([OLD, NEW], 16, seed=0))
    start = copy.deepcopy(student.policy)
    rollout = learner.collect()
    for _ in range(8):
        learner.update(rollout, rate, Leash(torch.tensor(weights), 0.0), actor=True)
    with torch.no_grad():
        change = (student.policy.actor(rollout.features) - start.actor(rollout.features)).abs().mean(dim=(0, 2))
    return float(change[0::2].mean()), float(change[1::2].mean())


def test_a_leash_keeps_the_simulations_that_it_holds(student, student_file):
    free = moved(load_policy(student_file), [0.0] * 16)
    first = moved(load_policy(student_file), [20.0, 0.0] * 8)
    second = moved(student, [0.0, 20.0] * 8)
    assert first[0] < 0.75 * free[0]  # 0.5 to 0.65, depending on the processor
    assert second[1] < 0.75 * free[1]


def test_the_leash_of_targets_falls_to_zero_and_that_of_others_does_not():
    config = replace(SMALL, leash=0.4, leash_share=0.5, rehearsal=2.0)
    at = [leash_of(config, [True, False], spent, 1.0).simulated.tolist() for spent in (0.0, 0.25, 0.5, 1.0)]
    assert at == [pytest.approx(pair) for pair in ([0.4, 2.0], [0.2, 2.0], [0.0, 2.0], [0.0, 2.0])]
    doubled = leash_of(config, [True], 0.0, 2.0)
    assert doubled.simulated.tolist() == pytest.approx([0.8])
    assert doubled.recorded == 4.0
    assert leash_of(replace(config, leash_share=0.0), [True], 0.0, 1.0).simulated.tolist() == [0.0]
