"""Training without learning: every step of a run with a scripted learner, environment and validation."""

import copy
import math
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import stable_baselines3
import torch
from training_samples import small_policy

from policykd.agents.policy import Normalizer
from policykd.agents.training import trainer
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.algorithms.ppo import PpoAdaptation, PpoConfig
from policykd.agents.training.algorithms.sac import SacConfig
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.sb3_callback import TrainingCallback, _Rollout, next_level, review_due
from policykd.agents.training.sb3_policy import TwoRates, entropy, log_density, trained_parameters
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.errors import ConfigError, UnknownNameError
from told import Told


@pytest.mark.parametrize(
    ("every", "steps", "fresh", "due"),
    [(1, 32, 32, True), (100, 99, 32, False), (100, 100, 32, True), (100, 131, 32, True), (100, 132, 32, False)],
)
def test_a_review_is_due_when_a_multiple_was_passed(every, steps, fresh, due):
    assert review_due(TrainConfig(review_steps=every), steps, fresh) is due


@pytest.mark.parametrize(
    ("graded", "level", "success", "expected"),
    [
        (True, 0.5, 0.41, 0.54), (True, 0.5, 0.4, 0.5), (False, 0.5, 0.9, 0.5), (True, 0.98, 0.9, 1.0),
        (True, 0.96, 0.9, 1.0), (True, 0.3, 0.0, 0.3),
    ],
)  # fmt: skip
def test_the_level_rises_by_a_twenty_fifth_and_never_falls(graded, level, success, expected):
    env = SimpleNamespace(config=SimpleNamespace(graded=graded, own_levels=None), level=level)
    assert next_level(env, TrainConfig(raise_above=0.4), success) == pytest.approx(expected)


def test_levels_of_single_simulations_are_left_alone():
    env = SimpleNamespace(config=SimpleNamespace(graded=True, own_levels=0.4), level=0.5)
    assert next_level(env, TrainConfig(raise_above=0.4), 0.9) == 0.5


@pytest.mark.parametrize(
    ("curriculum", "levels", "own"), [(True, "own", 0.3), (True, "shared", None), (False, "own", None)]
)
def test_simulations_have_levels_of_their_own_where_the_curriculum_asks_for_them(curriculum, levels, own):
    config = trainer._env_config(TrainConfig(curriculum=curriculum, levels=levels, raise_above=0.3))
    assert (config.graded, config.own_levels) == (curriculum, own)


def test_the_share_of_successes_that_raises_a_level_has_limits():
    for levels, low, high in (("shared", 0.0, 1.0), ("own", 0.01, 0.99)):
        for value in (low, high):
            assert TrainConfig(levels=levels, raise_above=value).raise_above == value
    for levels, value in (("shared", -0.01), ("shared", 1.01), ("own", 0.0), ("own", 1.0)):
        with pytest.raises(ConfigError, match="raise_above"):
            TrainConfig(levels=levels, raise_above=value)
    with pytest.raises(UnknownNameError, match="did you mean shared"):
        TrainConfig(levels="shard")


def callback_of(policy, *, steps=1000, adaptation=None, config=None, envs=4):
    env = SimpleNamespace(config=SimpleNamespace(graded=True, own_levels=None), level=0.5, num_envs=envs)
    env.skills = [SimpleNamespace(absent_groups=())]
    config = config or TrainConfig(steps=steps, raise_above=0.4)
    average, told = WeightAverage(policy, 100), Told()
    made = TrainingCallback(policy, average, env, adaptation or PpoAdaptation(PpoConfig()), config, told, "train x")
    made.model = SimpleNamespace(ep_success_buffer=None, ep_info_buffer=None, rollout_buffer=None)
    return made, average, env, told


def test_the_divergence_of_a_rollout_is_the_kl_from_the_policy_before():
    policy = small_policy()
    observations = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    rollout = _Rollout(policy, observations)
    assert rollout.divergence(policy) == pytest.approx(0.0, abs=1e-7)
    flat = torch.from_numpy(observations.reshape(10, 3).copy())
    with torch.no_grad():
        before, old = policy(flat), policy.log_std.exp().clone()
        policy.log_std += 0.3
        policy.actor[-1].bias += 0.2
        after, new = policy(flat), policy.log_std.exp()
    kl = (new / old).log() + (old**2 + (before - after) ** 2) / (2 * new**2) - 0.5
    assert rollout.divergence(policy) == pytest.approx(float(kl.sum(1).mean()), rel=1e-4)
    observations[:] = 0.0  # stable-baselines3 reorders its buffer
    assert torch.equal(rollout.observations, flat)


def test_between_rollouts_step_size_average_normalizer_and_noise_follow():
    policy = small_policy(std=0.5)
    seen, adaptation = [], PpoAdaptation(PpoConfig(final_std=0.2))
    adaptation.adapt = lambda divergence, spent: seen.append((divergence, spent))
    callback, average, _, _ = callback_of(policy, adaptation=adaptation)
    callback.num_timesteps = 250
    callback._on_rollout_start()  # no rollout of this segment yet: nothing changes
    assert (seen, average._steps, float(policy.normalizer.count)) == ([], 0, 0.0)
    observations = torch.randn(6, 3)
    callback._rollout = SimpleNamespace(divergence=lambda p: 0.125, observations=observations)
    callback._on_rollout_start()
    assert seen == [(0.125, 0.25)]
    assert average._steps == 250
    torch.testing.assert_close(policy.normalizer.mean, observations.mean(0))
    assert policy.log_std.exp().tolist() == pytest.approx([0.5 + 0.25 * (0.2 - 0.5)] * 2)
    assert float(average.policy.normalizer.count) == 0  # its average was made before the normalizer changed
    callback.num_timesteps = 300
    callback._on_training_end()
    assert average._steps == 300
    assert float(average.policy.normalizer.count) == 6


@pytest.mark.parametrize(("successes", "size", "level"), [([1, 0], 2, 0.54), ([1], 2, 0.5), ([0, 0], 2, 0.5)])
def test_the_level_is_reviewed_once_enough_episodes_ended(successes, size, level):
    callback, _, env, told = callback_of(small_policy())
    callback.num_timesteps = 64
    callback.model.ep_success_buffer = deque(successes, maxlen=size)
    callback.model.ep_info_buffer = [{"l": 4, "r": 1.0, "distance": 2.0}, {"l": 6, "r": 2.0, "distance": 5.0}]
    callback._on_rollout_end()
    assert env.level == pytest.approx(level)
    figures = {"train_return": 1.5, "train_length": 5.0, "train_distance": 3.5, "train_success": np.mean(successes)}
    assert told.all == [("train x", 64, figures)]
    assert callback.figures() == figures


def test_before_the_first_episode_ended_there_are_no_figures_and_no_review():
    callback, _, env, told = callback_of(small_policy())
    callback.num_timesteps = 64
    callback._on_rollout_end()
    assert (env.level, told.all, callback.figures()) == (0.5, [("train x", 64, {})], {})
    callback.model.ep_info_buffer = [{"l": 4, "r": 1.0, "distance": 2.0}]
    assert callback.figures()["train_success"] == 0.0


def test_a_rollouts_length_counts_for_reviews_and_its_observations_are_kept():
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    box = spaces.Box(-1, 1, (3,), np.float32)
    for steps, level in ((99, 0.5), (100, 0.54), (131, 0.54), (132, 0.5)):
        config = TrainConfig(steps=1000, raise_above=0.4, review_steps=100)
        callback, _, env, _ = callback_of(small_policy(), config=config)
        callback.model.rollout_buffer = RolloutBuffer(8, box, box, n_envs=4)  # 32 steps
        callback.model.ep_success_buffer = deque([1.0], maxlen=1)
        callback.num_timesteps = steps
        callback._on_rollout_end()
        assert env.level == pytest.approx(level), steps
        assert callback._rollout.observations.shape == (32, 3)


@pytest.mark.parametrize(("spent", "bound"), [(0.0, 0.5), (0.5, 0.35), (1.0, 0.2)])
def test_the_noise_bound_falls_linearly_to_its_end(spent, bound):
    adaptation = PpoAdaptation(PpoConfig(final_std=0.2))
    assert adaptation.noise_bound(0.5, spent) == pytest.approx(bound)
    assert adaptation.noise_bound(0.1, spent) == pytest.approx(0.1)  # never above the initial noise
    assert Adaptation(1e-3).noise_bound(0.5, spent) == math.inf
    assert Adaptation(1e-3)(0.3) == 1e-3


def test_learners_get_their_settings(monkeypatch):
    seen = []
    for name in ("PPO", "SAC"):
        monkeypatch.setattr(stable_baselines3, name, lambda *args, **options: seen.append((args, options)))
    policy, env, adaptation = small_policy(), object(), Adaptation(1e-3)
    ppo = PpoConfig(rollout_steps=7, envs=2, minibatch=14, epochs=3, gamma=0.9, gae_lambda=0.8, clip_range=0.3,
                    entropy_weight=0.01, critic_rate=2e-3, max_grad_norm=0.7)  # fmt: skip
    ALGORITHMS["ppo"].make_learner(policy, env, ppo, adaptation)
    (args, options) = seen.pop()
    assert args[1] is env
    assert options == {
        "policy_kwargs": {"network": policy, "critic_rate": 2e-3, "max_grad_norm": 0.7},
        "learning_rate": adaptation, "n_steps": 7, "batch_size": 14, "n_epochs": 3, "gamma": 0.9, "gae_lambda": 0.8,
        "clip_range": 0.3, "ent_coef": 0.01, "max_grad_norm": math.inf, "device": "cpu",
    }  # fmt: skip
    sac = SacConfig(buffer_size=9, warmup_steps=5, minibatch=3, gradient_steps=2, gamma=0.9, tau=0.05)
    ALGORITHMS["sac"].make_learner(policy, env, sac, adaptation)
    (args, options) = seen.pop()
    how = options.pop("policy_kwargs")
    assert how.pop("features_extractor_class").__name__ == "NormalizedFeatures"
    assert how == {
        "network": policy, "net_arch": {"pi": [4], "qf": [4]}, "share_features_extractor": False,
        "features_extractor_kwargs": {"normalizer": policy.normalizer},
    }  # fmt: skip
    assert options == {
        "learning_rate": adaptation, "buffer_size": 9, "learning_starts": 5, "batch_size": 3, "gradient_steps": 2,
        "gamma": 0.9, "tau": 0.05, "device": "cpu",
    }  # fmt: skip


def test_algorithms_say_what_they_need():
    ppo, sac = ALGORITHMS["ppo"], ALGORITHMS["sac"]
    assert (ppo.symmetric, ppo.squash, ppo.devices, ppo.state) == (True, False, ("cpu", "cuda"), ())
    assert (sac.symmetric, sac.squash, sac.devices, sac.state) == (False, True, ("cpu",), ("log_ent_coef",))
    assert type(ppo.adaptation(PpoConfig())) is PpoAdaptation
    assert type(sac.adaptation(SacConfig())) is Adaptation
    assert ppo.adaptation(PpoConfig(learning_rate=7e-4)).value == 7e-4
    assert sac.adaptation(SacConfig(learning_rate=7e-4)).value == 7e-4


@pytest.mark.parametrize("critic_rate", [None, 0.03])
def test_both_networks_are_clipped_and_stepped_on_their_own(critic_rate):
    network = small_policy()
    optimizer = TwoRates(network, 0.01, critic_rate, 0.5)
    groups = trained_parameters(network)
    assert groups[0][-1] is network.log_std
    before = [p.detach().clone() for group in groups for p in group]
    for factor, group in zip((1.0, 100.0), groups, strict=True):
        for p in group:
            p.grad = factor * torch.ones_like(p)
    optimizer.step()
    after = iter(zip(before, [p for group in groups for p in group], strict=True))
    for rate, group in zip((0.01, critic_rate or 0.01), groups, strict=True):
        size = sum(p.numel() for p in group)
        grad = 0.5 / math.sqrt(size)  # each group's norm is clipped to 0.5
        assert all(p.grad.flatten()[0] == pytest.approx(grad, rel=1e-4) for p in group)
        for _ in group:
            old, new = next(after)
            # the first step of Adam is the step size times g / (|g| + eps)
            torch.testing.assert_close(new.detach(), old - rate * grad / (grad + 1e-5), rtol=1e-5, atol=1e-7)


def test_density_and_entropy_are_those_of_torch():
    noise, log_std = torch.randn(5, 3), torch.tensor([0.1, -0.5, 0.3])
    normal = torch.distributions.Normal(torch.zeros(3), log_std.exp())
    torch.testing.assert_close(log_density(noise, log_std), normal.log_prob(noise * log_std.exp()).sum(1))
    torch.testing.assert_close(entropy(log_std), normal.entropy().sum())


class Walkers:
    """Two simulations of three features whose observations are the actions of before."""

    num_envs, num_actions, device = 2, 2, torch.device("cpu")
    skill = SimpleNamespace(columns={"a": slice(0, 3)}, absent_groups=())
    skills = (skill,)

    def __init__(self):
        self.actions = []

    def reset(self):
        return {"a": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])}

    def step(self, actions):
        self.actions.append(actions)
        return SimpleNamespace(flat=torch.cat([actions, actions.sum(1, keepdim=True)], 1))


@pytest.mark.parametrize("trained", [False, True])
@torch.no_grad()
def test_first_statistics_come_from_random_actions_or_from_those_of_the_policy(trained):
    policy = small_policy(std=0.25)
    torch.nn.init.normal_(policy.actor[-1].weight)
    if trained:
        policy.normalizer.update(torch.randn(20, 3))
        policy.normalizer.count_apart()
        policy.normalizer.count[2] = 0
    own, env = copy.deepcopy(policy), Walkers()
    torch.manual_seed(0)
    warm_up_normalizer(policy, env, steps=3)
    torch.manual_seed(0)
    seen, fresh = Walkers().reset()["a"], own.normalizer.fresh
    for actions in env.actions:
        own.update_normalizer(seen, only=fresh)
        expected = 0.25 * torch.randn(2, 2) + (own(seen) if trained else 0.0)
        torch.testing.assert_close(actions, expected)
        seen = torch.cat([actions, actions.sum(1, keepdim=True)], 1)
    assert len(env.actions) == 3
    torch.testing.assert_close(policy.normalizer.mean, own.normalizer.mean)
    torch.testing.assert_close(policy.normalizer.count, own.normalizer.count)
    warm_up_normalizer(policy, env)
    assert len(env.actions) == 3 + 32


def test_a_normalizer_updates_only_the_features_that_are_chosen():
    normalizer = Normalizer(2)
    normalizer.update(torch.zeros(0, 2))
    assert float(normalizer.count) == 0
    normalizer.update(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert (normalizer.mean.tolist(), normalizer.var.tolist(), float(normalizer.count)) == ([2, 5], [1, 0], 2)
    with pytest.raises(ConfigError, match="count_apart"):
        normalizer.update(torch.zeros(1, 2), only=torch.tensor([True, False]))
    normalizer.count_apart()
    normalizer.update(torch.zeros(4, 2), only=torch.tensor([False, False]))
    assert normalizer.count.tolist() == [2, 2]
    normalizer.update(torch.tensor([[9.0, 8.0]]), only=torch.tensor([False, True]))
    assert normalizer.mean.tolist() == [2, 6]
    assert normalizer.var.tolist() == [1, 2]  # of 5, 5 and 8
    assert normalizer.count.tolist() == [2, 3]
    assert normalizer.fresh.tolist() == [False, False]
    scaled = normalizer(torch.tensor([[2.5, 6.0], [99.0, -99.0]]))
    assert scaled.tolist() == [[0.5, 0.0], [10.0, -10.0]]
