"""PPO on the device: one update equals stable-baselines3's, estimates equal a loop's, and flat ground is learned."""

import copy

import numpy as np
import pytest
import torch

from policykd.agents.policy import Policy
from policykd.agents.training.algorithms.ppo import PpoAdaptation, make_learner
from policykd.agents.training.config import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo, EpisodeMeans, Rollout, advantages
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.sb3_vec_env import Sb3VecEnv
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry

SKILL = get_skill("biped/flat")
SIMS, STEPS = 16, 8
ONE_STEP = PpoConfig(envs=SIMS, rollout_steps=STEPS, minibatch=SIMS * STEPS, epochs=1, entropy_weight=0.01)


def small_policy(seed=0):
    symmetry = mirror_symmetry(SKILL.groups, SKILL.robot)
    return Policy(SKILL.group_sizes, 11, generator_seed=seed, symmetry=symmetry)


def small_env(sims=SIMS, **options):
    return MaskedEnv([SKILL], sims, config=EnvConfig(tracks=16), threads=1, **options)


def test_advantages_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    steps, sims, gamma, lam = 9, 5, 0.97, 0.9
    rewards, values = rng.normal(size=(2, steps, sims))
    ended, last = rng.random((steps, sims)) < 0.3, rng.normal(size=sims)
    expected = np.zeros((steps, sims))
    for i in range(sims):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):  # the definition: a discounted sum of one-step errors until the episode ends
                following = last[i] if k == steps - 1 else values[k + 1, i]
                error = rewards[k, i] + (0.0 if ended[k, i] else gamma * following) - values[k, i]
                expected[t, i] += weight * error
                if ended[k, i]:
                    break
                weight *= gamma * lam
    mine = advantages(*(torch.from_numpy(a) for a in (rewards, values, ended, last)), gamma, lam)
    np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_one_update_is_that_of_stable_baselines3():
    policy = small_policy()
    vec = Sb3VecEnv(BatchedEnv([SKILL], SIMS, config=EnvConfig(tracks=16), threads=1), reward_scale=1 - ONE_STEP.gamma)
    learner = make_learner(policy, vec, ONE_STEP, PpoAdaptation(ONE_STEP))
    learner.learn(1)  # collects a rollout and learns from it once, which makes the policies differ from their start
    mine = copy.deepcopy(policy)
    ppo = DevicePpo(mine, small_env(), ONE_STEP, seed=0)
    buffer = learner.rollout_buffer
    flat = {name: torch.from_numpy(getattr(buffer, name)) for name in
            ("observations", "actions", "log_probs", "values", "advantages")}  # fmt: skip
    raw, mirrored = mine.canonical(flat["observations"].reshape(-1, mine.observation_size))
    actions = mine.oriented(flat["actions"].reshape(-1, 11), mirrored)

    def shaped(tensor, *inner):
        return tensor.detach().reshape(STEPS, SIMS, *inner)

    rollout = Rollout(
        features=shaped(mine.normalizer(raw), mine.observation_size), raw=shaped(raw, mine.observation_size),
        actions=shaped(actions, 11), log_probs=shaped(flat["log_probs"]), values=shaped(flat["values"]),
        rewards=torch.zeros(STEPS, SIMS), ended=torch.zeros(STEPS, SIMS, dtype=torch.bool),
        advantages=shaped(flat["advantages"]),
    )  # fmt: skip
    ppo.optimizer.load_state_dict(copy.deepcopy(learner.policy.optimizer.state_dict()))
    before = copy.deepcopy(mine.state_dict())
    learner.train()
    ppo.update(rollout, ONE_STEP.learning_rate)
    moved = 0.0
    for name, value in policy.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=0, atol=2e-6)
        moved = max(moved, float((value - before[name]).abs().max()))
    assert moved > 1e-4, "nothing was learned, so nothing was compared"


@torch.no_grad()
def test_a_rollout_holds_what_was_done():
    policy, env = small_policy(), small_env()
    ppo = DevicePpo(policy, env, ONE_STEP, seed=1)
    warm_up_normalizer(policy, env, steps=4)
    rollout = ppo.collect()
    torch.testing.assert_close(rollout.features, policy.normalizer(rollout.raw))
    flat = rollout.features.flatten(0, 1)
    expected = torch.distributions.Normal(policy.actor(flat), policy.log_std.exp()).log_prob(
        rollout.actions.flatten(0, 1)
    )
    torch.testing.assert_close(rollout.log_probs.flatten(), expected.sum(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(rollout.values.flatten(), policy.critic(flat).squeeze(1))
    assert (rollout.rewards[~rollout.ended] <= (1 - ONE_STEP.gamma) + 1e-6).all()  # no value of a cut episode in them
    assert rollout.rewards.max() > 0


def test_cut_episodes_are_worth_their_last_state_and_falls_are_not():
    policy, env = small_policy(), small_env()
    ppo = DevicePpo(policy, env, ONE_STEP, seed=1)
    warm_up_normalizer(policy, env, steps=1)
    ppo.collect()
    with torch.no_grad():
        policy.critic[-1].weight.zero_()
        policy.critic[-1].bias.fill_(3.0)
    env._backend.elapsed[:] = env.skill.episode_steps - 1.0
    env.engine.field("qpos")[0, 1:3] = torch.tensor([0.0, 1.57])  # it lies
    rollout = ppo.collect()
    assert rollout.ended[0].all()
    assert rollout.rewards[0, 0] == 0
    assert (rollout.rewards[0, 1:] > 3.0 * ONE_STEP.gamma - 1e-5).all()
    assert not rollout.ended[1:3].any()
    assert (rollout.rewards[1:3] < 1).all()


def test_means_over_episodes_are_those_of_a_list():
    env = small_env(32)
    env.reset()
    means, ended = EpisodeMeans(env.device), []
    for action in 0.5 * torch.randn(40, 32, 11, generator=torch.Generator().manual_seed(0)):
        step = env.step_masked(action)
        means.add(step)
        o = step.outcome
        ended += [(float(o.total_reward[i]), float(o.length[i])) for i in step.ended.nonzero().flatten()]
    got = means.take()
    assert got["train_return"] == pytest.approx(np.mean([e[0] for e in ended]), rel=1e-5)
    assert got["train_length"] == pytest.approx(np.mean([e[1] for e in ended]), rel=1e-5)
    assert means.take() == {}


def test_equal_seeds_learn_equally():
    weights = []
    for _ in range(2):
        policy, env = small_policy(), small_env()
        config = PpoConfig(envs=SIMS, rollout_steps=STEPS, minibatch=32, epochs=2)
        ppo = DevicePpo(policy, env, config, seed=5)
        torch.manual_seed(5)
        warm_up_normalizer(policy, env, steps=4)
        for _ in range(2):
            rollout = ppo.collect()
            ppo.update(rollout, 1e-3)
            ppo.prepare_next(rollout, 0.4)
        weights.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
        assert policy.log_std.exp().max() <= 0.4 + 1e-6
    assert torch.equal(*weights)
