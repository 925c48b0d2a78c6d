"""Training without learning: every step of a run with a scripted learner, environment and validation."""

import copy
import math
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import stable_baselines3
import torch
from small_training import SMALL

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Normalizer, Policy
from policykd.agents.training import experts, trainer
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.algorithms.ppo import PpoAdaptation, PpoConfig
from policykd.agents.training.algorithms.sac import SacConfig
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.experts import request, train_expert
from policykd.agents.training.sb3_callback import TrainingCallback, _Rollout, next_level, review_due
from policykd.agents.training.sb3_policy import TwoRates, entropy, log_density, trained_parameters
from policykd.agents.training.trainer import Run
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError
from policykd.progress import Silent
from policykd.seeding import integer_seed

FLAT, STEPS = get_skill("biped/flat"), get_skill("biped/steps")


def small_policy(seed=0, std=0.5, groups=None):
    return Policy(groups or {"a": 3}, 2, Architecture((4,), (4,), initial_std=std), seed)


class Told(Silent):
    def __init__(self):
        self.all = []

    def begin(self, name, total, unit):
        self.all.append((name, total, unit))

    def update(self, name, done, **figures):
        self.all.append((name, done, figures))

    def end(self, name, message=""):
        self.all.append((name, message))


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
    skill = SimpleNamespace(columns={"a": slice(0, 3)})

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


class Learner:
    """Stands in for an algorithm: takes 40 steps for every call and notes the arguments."""

    def __init__(self):
        self.num_timesteps, self.calls = 0, []
        self.action_space = SimpleNamespace(seed=lambda seed: self.calls.append(("seed", seed)))
        self.seeds = []

    def learn(self, steps, callback, reset_num_timesteps):
        self.calls.append((steps, reset_num_timesteps, float(torch.rand(1)), float(np.random.rand())))  # noqa: NPY002
        self.num_timesteps += steps
        callback.model = SimpleNamespace(ep_info_buffer=None)


def run_of(config, measured, folder=None):
    """A run without environment and algorithm."""
    run = Run.__new__(Run)
    run._config, run._folder, run._progress, run._name = config, folder, Told(), "train x"
    run._skills, run._validate_on, run._init = (FLAT,), (FLAT,), None
    run._policy = small_policy()
    run._average = WeightAverage(run._policy, 0)
    run._adaptation = Adaptation(1e-3)
    run._algorithm = ALGORITHMS["ppo"]
    run._learner = Learner()
    run._env = SimpleNamespace(seed=lambda seed: run._learner.seeds.append(seed), level=0.5, failures=3, robot="biped")
    run._policy.normalizer.update(torch.randn(4, 3))
    run._steps, run._segment, run._streak, run._seconds, run._best = 0, 0, 0, 0.0, []
    measured = iter(measured)

    def measure(policy):
        success, reward = next(measured)
        return {"success": success, "reward_per_step": reward, "distance": 1.0}

    run._validation = SimpleNamespace(measure=measure)
    return run


def test_every_segment_has_its_own_streams_and_the_last_one_the_rest_of_the_budget():
    config = replace(SMALL, steps=100, segment_steps=40, seed=6)
    run = run_of(config, [])
    for segment, steps in enumerate((40, 40, 20)):
        run._learn_segment()
        seed = integer_seed(6, "segment", segment)
        torch.manual_seed(seed)
        drawn = float(torch.rand(1)), float(np.random.RandomState(seed).rand())
        assert run._learner.calls == [("seed", seed), (steps, False, *drawn)]
        assert run._learner.seeds == [seed]
        run._learner.calls.clear()
        run._learner.seeds.clear()
    assert (run._steps, run._segment) == (100, 3)


def test_a_new_normalizer_is_warmed_up_before_the_first_segment(monkeypatch):
    run, warmed = run_of(replace(SMALL, steps=100, segment_steps=40), []), []
    monkeypatch.setattr(trainer, "warm_up_normalizer", lambda policy, env: warmed.append((policy, env)))
    run._learn_segment()
    assert warmed == []
    run._policy = small_policy()
    run._learn_segment()
    assert warmed == [(run._policy, run._env)]


@pytest.mark.parametrize(
    ("steps", "streak", "over"), [(99, 0, False), (100, 0, True), (101, 0, True), (5, 2, True), (5, 1, False)]
)
def test_a_run_is_over_when_its_budget_is_spent_or_its_targets_are_held(steps, streak, over):
    run = run_of(replace(SMALL, steps=100, patience=2), [])
    run._steps, run._streak = steps, streak
    assert run._over is over


def test_validations_keep_the_finalists_and_count_those_that_reach_the_targets():
    config = replace(SMALL, finalists=2, target_success=0.8, target_reward=0.5, patience=3)
    measured = [(0.8, 0.5), (0.9, 0.4), (0.7, 0.9), (0.9, 0.6), (1.0, 0.5)]
    run, streaks = run_of(config, measured), []
    for number in range(5):
        run._average.policy.log_std.data.fill_(float(number))
        assert run._validate()["distance"] == 1.0
        streaks.append(run._streak)
    assert streaks == [1, 0, 0, 1, 2]
    assert [(b["success"], b["reward_per_step"]) for b in run._best] == [(1.0, 0.5), (0.9, 0.6)]
    assert [b["weights"]["log_std"].tolist() for b in run._best] == [[4.0, 4.0], [3.0, 3.0]]  # copies


def finalists(*scores):
    found = []
    for number, (success, reward) in enumerate(scores):
        policy = small_policy()
        policy.log_std.data.fill_(float(number))
        weights = {k: v.clone() for k, v in policy.state_dict().items()}
        found.append({"success": success, "reward_per_step": reward, "weights": weights})
    return found


def test_finalists_are_measured_again_on_other_tracks(monkeypatch):
    run, made = run_of(replace(SMALL, patience=2, validation_episodes=4), []), []

    def make(skills, config, purpose):
        made.append((skills, config.validation_episodes, purpose))
        scores = iter([(0.5, 0.9), (0.7, 0.2), (0.7, 0.3)])
        return SimpleNamespace(measure=lambda p: dict(zip(("success", "reward_per_step"), next(scores), strict=True)))

    monkeypatch.setattr(trainer, "make_validation", make)
    run._best = finalists((1.0, 0.9), (0.9, 0.9), (0.8, 0.9))
    best = run._final_choice()
    assert made == [((FLAT,), 256, "final validation")]
    assert (best["success"], best["reward_per_step"], best["weights"]["log_std"].tolist()) == (0.7, 0.3, [2.0, 2.0])
    run._config = replace(SMALL, validation_episodes=300)
    run._final_choice()
    assert made[-1][1] == 300
    for streak, best in ((2, finalists((1.0, 0.9), (0.9, 0.9))), (0, finalists((1.0, 0.9)))):
        run._streak, run._best = streak, best
        assert run._final_choice() is best[0]
    assert len(made) == 2


def test_the_file_and_the_result_of_a_run(monkeypatch, tmp_path):
    saved, finished = [], []
    monkeypatch.setattr(trainer, "save_policy", lambda path, policy, **record: saved.append((path, policy, record)))
    folder = SimpleNamespace(path=tmp_path, finish=finished.append)
    for streak, reached in ((2, True), (1, False)):
        run = run_of(replace(SMALL, patience=2, seed=6), [], folder)
        run._best, run._streak, run._steps, run._seconds = finalists((0.75, 0.5)), streak, 1_234_000, 100.0
        run._best[0]["weights"]["log_std"].fill_(0.25)
        run._finish()
        path, policy, record = saved.pop()
        assert (path, policy.log_std.tolist()) == (tmp_path / "policy", [0.25, 0.25])
        metrics = record.pop("metrics")
        assert metrics == {"success": 0.75, "reward_per_step": 0.5, "steps": 1_234_000, "seconds": run._seconds}
        assert record["skills"] == ["biped/flat"]
        assert (record["operation"], record["seed"], record["parents"], record["robot"]) == ("train", 6, [], "biped")
        assert record["config"]["patience"] == 2
        assert finished.pop() == {**metrics, "reached_target": reached, "failures": 3}
        assert 100.0 <= run._seconds < 110.0
        assert run._progress.all == [("train x", "success 0.75 after 1.23 M steps, 100 s")]


def test_a_run_from_a_policy_names_it_as_its_parent(monkeypatch, tmp_path):
    saved = []
    monkeypatch.setattr(trainer, "save_policy", lambda path, policy, **record: saved.append(record["parents"]))
    run = run_of(SMALL, [], SimpleNamespace(path=tmp_path, finish=lambda result: None))
    run._init = SimpleNamespace(manifest=SimpleNamespace(as_parent=lambda name: name, skills=("a", "b")))
    run._best = finalists((0.75, 0.5))
    run._finish()
    assert saved == [["a b"]]


def test_a_loop_learns_validates_logs_and_saves_until_it_is_over():
    config = replace(SMALL, steps=100, segment_steps=40, target_success=2.0)
    logged, saved, finished = [], [], []
    folder = SimpleNamespace(append=logged.append, load_checkpoint=lambda: None, save_checkpoint=saved.append)
    run = run_of(config, [(0.1, 0.2), (0.3, 0.4), (0.2, 0.6)], folder)
    run._learner_state = dict
    run._finish = lambda: finished.append(True)
    run.go()
    assert [row["steps"] for row in logged] == [40, 80, 100]
    assert [(row["success"], row["reward_per_step"], row["level"]) for row in logged] == [
        (0.1, 0.2, 0.5), (0.3, 0.4, 0.5), (0.2, 0.6, 0.5),
    ]  # fmt: skip
    seconds = [row["seconds"] for row in logged]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < 60
    assert run._progress.all == [("train x", 100, "steps")]
    assert finished == [True]
    last = saved[-1]
    assert (last["steps"], last["segment"], last["streak"], last["learning_rate"]) == (100, 3, 0, 1e-3)
    again = run_of(config, [], SimpleNamespace(load_checkpoint=lambda: {**last, "learning_rate": 2e-3, "streak": 1}))
    loaded = []
    again._load_learner_state = loaded.append
    again._restore()
    assert (again._steps, again._segment, again._streak, again._adaptation.value) == (100, 3, 1, 2e-3)
    assert again._best is last["best"]
    assert again._seconds == last["seconds"] == seconds[-1]
    assert loaded
    assert again._over


@pytest.mark.parametrize(("noise", "expected"), [(None, 0.5), (0.3, 0.3)])
def test_a_training_from_a_policy_trains_it_with_the_noise_that_was_asked_for(noise, expected):
    run = run_of(replace(SMALL, init_noise=noise), [])
    policy = small_policy()
    run._init = SimpleNamespace(policy=policy)
    assert run._first_policy() is policy
    assert policy.log_std.exp().tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("wanted", "algorithm", "symmetric"), [(True, "ppo", True), (False, "ppo", False), (True, "sac", False)]
)
def test_new_weights_are_symmetric_where_configuration_and_algorithm_allow_it(wanted, algorithm, symmetric):
    run = run_of(replace(SMALL, symmetric=wanted, seed=4), [])
    run._algorithm = ALGORITHMS[algorithm]
    run._env = SimpleNamespace(skill=FLAT, num_actions=11)
    policy = run._first_policy()
    assert (policy.symmetry is not None) is symmetric
    again = Policy(FLAT.group_sizes, 11, SMALL.architecture, integer_seed(4, "weights", "biped/flat"), policy.symmetry)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in policy.state_dict().items())


def test_a_run_makes_its_environment_and_validation_from_its_seed(monkeypatch, tmp_path):
    made, validated = [], []

    def make_env(skills, count, **options):
        made.append((skills, count, options))
        return SimpleNamespace(level=None, skill=FLAT, num_actions=11, num_envs=count)

    monkeypatch.setattr(Run, "_make_env", staticmethod(make_env))
    monkeypatch.setattr(Run, "_make_learner", lambda self: None)
    monkeypatch.setattr(trainer, "Validation", lambda *args, **options: validated.append((args, options)))
    for curriculum, level in ((True, 0.1), (False, 1.0)):
        config = replace(SMALL, seed=4, curriculum=curriculum, averaging_steps=77)
        run = Run((STEPS,), SimpleNamespace(path=tmp_path), config, None, (FLAT,), Silent())
        ((skills, count, options),) = made
        assert (skills, count) == ((STEPS,), 32)
        assert options.pop("config").graded is curriculum
        assert options == {"seed": integer_seed(4, "training"), "threads": 1, "device": "cpu"}
        assert run._env.level == level
        seed = integer_seed(4, "validation")
        assert validated == [(((FLAT,), 4), {"seed": seed, "threads": 1, "device": "cpu"})]
        assert (run._average._horizon, run._name) == (77, "train biped/steps")
        assert (run._steps, run._segment, run._streak, run._seconds, run._best) == (0, 0, 0, 0.0, [])
        made.clear()
        validated.clear()


@pytest.fixture
def ran(monkeypatch):
    """Runs that finish at once; their arguments."""
    found = []

    def make(skills, folder, config, init, validate_on, progress):
        def go():
            found.append((skills, config, init, validate_on))
            folder.finish({"steps": 1, "seconds": 2.0, "success": 0.5, "reward_per_step": 0.25,
                           "reached_target": True, "failures": 0})  # fmt: skip

        return SimpleNamespace(go=go)

    monkeypatch.setattr(experts, "_run_class", lambda config: make)
    return found


def test_a_finished_training_is_not_run_again(ran, tmp_path):
    result = train_expert([FLAT], tmp_path, SMALL)
    assert ran == [([FLAT], SMALL, None, [FLAT])]
    assert (result.steps, result.success, result.reached_target) == (1, 0.5, True)
    assert result.policy_path == tmp_path / "policy"
    assert train_expert([FLAT], tmp_path, SMALL, resume=True) == result
    with pytest.raises(OutputError, match="--resume"):
        train_expert([FLAT], tmp_path, SMALL)
    with pytest.raises(ConfigError, match=r"train\.seed"):
        train_expert([FLAT], tmp_path, replace(SMALL, seed=1), resume=True)
    with pytest.raises(ConfigError, match="validate_on"):
        train_expert([FLAT], tmp_path, SMALL, validate_on=[STEPS], resume=True)
    assert len(ran) == 1
    train_expert([FLAT], tmp_path / "other", SMALL, validate_on=[STEPS])
    assert ran[1][3] == [STEPS]


def init_of(groups=("proprio", "terrain"), squash=False):
    sizes = {name: FLAT.group_sizes[name] for name in groups}
    policy = Policy(sizes, 11, Architecture((4,), (4,), squash=squash), 0)
    return SimpleNamespace(policy=policy, manifest=SimpleNamespace(weights_sha256="f" * 64))


def test_trainings_that_cannot_work_leave_no_folder(ran, tmp_path):
    shorter = replace(STEPS, episode_steps=100)
    sac, single = replace(SMALL, algorithm="sac"), replace(SMALL, validation_episodes=1)
    cases = [
        (ContractError, "episode_steps", {"skills": [FLAT, shorter]}),
        (ContractError, "episode_steps", {"validate_on": [shorter]}),
        (ConfigError, "validation_episodes is 4", {"validate_on": [FLAT] * 5}),
        (ConfigError, "validation_episodes is 1", {"config": single, "skills": [FLAT, STEPS]}),
        (ConfigError, r"set architecture\.squash", {"config": sac}),
        (ConfigError, r"set architecture\.squash", {"config": sac, "init": init_of()}),
        (ContractError, "the initial policy reads", {"init": init_of(("terrain", "proprio"))}),
        (ContractError, "the initial policy reads", {"init": init_of(("proprio",))}),
        (UnknownNameError, "did you mean", {"config": replace(SMALL, device="cudaa")}),
    ]  # fmt: skip
    for error, message, given in cases:
        options = {"skills": [FLAT], "config": SMALL, **given}
        with pytest.raises(error, match=message):
            train_expert(options.pop("skills"), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert ran == []
    squashed = replace(sac, architecture=Architecture((4,), (4,), squash=True))
    train_expert([FLAT], tmp_path / "a", squashed)
    train_expert([FLAT], tmp_path / "b", sac, init=init_of(squash=True))
    train_expert([FLAT], tmp_path / "c", SMALL, init=init_of())
    assert len(ran) == 3


def test_the_record_of_a_training_holds_what_it_depends_on():
    assert request([FLAT], SMALL, None) == {"skills": [FLAT], "train": SMALL, "init": None}
    found = request([FLAT], SMALL, init_of(), [STEPS])
    assert found == {"skills": [FLAT], "train": SMALL, "init": "f" * 64, "validate_on": [STEPS]}


def test_the_class_of_a_run_is_that_of_its_device():
    from policykd.agents.training.device_trainer import DeviceRun

    assert experts._run_class(SMALL) is Run
    assert experts._run_class(replace(SMALL, device="cuda")) is DeviceRun
