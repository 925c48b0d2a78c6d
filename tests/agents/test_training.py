"""Expert training: it learns, stops, resumes as if nothing had happened, and refuses what does not fit."""

from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_training import SMALL

from policykd.agents.architecture import Architecture
from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import PpoConfig, SacConfig, TrainConfig, train_expert
from policykd.agents.training.algorithms.ppo import PpoAdaptation
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.sb3_callback import TrainingCallback, next_level, review_due
from policykd.agents.training.trainer import Run
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.envs.terrains.tracks import graded_floor
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError
from policykd.progress import Silent

FLAT = get_skill("biped/flat", ("proprio",))
RUN = replace(get_skill("halfcheetah/flat"), episode_steps=200)


def reward(policy, episodes=16):
    """Mean reward per step on tracks and starts that no training has seen, and its standard error."""
    env = BatchedEnv([RUN], episodes, seed=77, config=EnvConfig(tracks=episodes, ordered=True), threads=1)
    env.seed(78)
    rewards = run_episodes(policy, env).reward_per_step
    return float(rewards.mean()), float(rewards.std() / episodes**0.5)


def test_ppo_learns_to_run(tmp_path):
    """After 33 k steps an expert earns a tenth of the best reward; three seeds earned 0.25 to 0.68."""
    small = Architecture(hidden=(64, 64), critic_hidden=(64, 64))
    config = TrainConfig(
        steps=32_768, segment_steps=32_768, threads=1, seed=3, validation_episodes=4, finalists=1, architecture=small
    )
    result = train_expert([RUN], tmp_path, config)
    trained, error = reward(load_policy(result.policy_path).policy)
    untrained, _ = reward(Policy(RUN.group_sizes, 6, small, 0))
    assert trained - 5 * error > 0.1
    assert untrained < 0.01


def test_sac_trains_the_policy_inside(tmp_path):
    """The actor in the policy file is the one that SAC trained: bounded, moved, and it acts in the simulation."""
    config = TrainConfig(
        algorithm="sac",
        steps=800,
        segment_steps=400,
        validation_episodes=4,
        threads=1,
        architecture=Architecture(hidden=(32, 32), critic_hidden=(32, 32), squash=True),
        sac=SacConfig(envs=16, warmup_steps=160, minibatch=64, gradient_steps=3),
    )
    result = train_expert([FLAT], tmp_path, config)
    policy = load_policy(result.policy_path).policy
    first = Policy(FLAT.group_sizes, 11, config.architecture, 0)
    assert policy(torch.randn(100, policy.observation_size) * 100).abs().max() <= 1
    assert not torch.allclose(policy.actor[0].weight.std(), first.actor[0].weight.std(), rtol=1e-4)
    assert policy.normalizer.count > 0


class Killed(Exception):
    pass


def test_a_killed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    """The second segment is killed in its validation, then before it is saved, then the third before it begins."""
    whole = train_expert([FLAT], tmp_path / "whole", SMALL)
    for moment in ("_validate", "_save", "_learn_segment"):
        original = getattr(Run, moment)

        def dying(self, original=original):
            if self._segment == 2:
                raise Killed
            return original(self)

        with monkeypatch.context() as patch:
            patch.setattr(Run, moment, dying)
            with pytest.raises(Killed):
                train_expert([FLAT], tmp_path / "killed", SMALL, resume=moment != "_validate")
    resumed = train_expert([FLAT], tmp_path / "killed", SMALL, resume=True)
    a, b = (load_policy(r.policy_path).policy.state_dict() for r in (whole, resumed))
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
    assert (resumed.steps, resumed.success) == (whole.steps, whole.success)


def test_a_finished_run_is_not_run_again(tmp_path, monkeypatch):
    first = train_expert([FLAT], tmp_path, replace(SMALL, steps=2048))
    monkeypatch.setattr(Run, "go", lambda self: pytest.fail("ran again"))
    assert train_expert([FLAT], tmp_path, replace(SMALL, steps=2048), resume=True) == first
    with pytest.raises(OutputError, match="--resume"):
        train_expert([FLAT], tmp_path, replace(SMALL, steps=2048))


def test_targets_stop_early(tmp_path):
    easy = replace(SMALL, target_success=0.0, patience=2)
    result = train_expert([FLAT], tmp_path / "easy", easy)
    assert result.reached_target
    assert result.steps == 2 * SMALL.segment_steps
    assert not train_expert([FLAT], tmp_path / "hard", replace(SMALL, target_success=2.0)).reached_target


def test_initial_policy_is_continued_and_recorded(tmp_path):
    first = load_policy(train_expert([FLAT], tmp_path / "first", replace(SMALL, steps=2048)).policy_path)
    still = replace(
        SMALL,
        steps=512,
        segment_steps=512,
        ppo=replace(SMALL.ppo, learning_rate=1e-8, learning_rate_range=(1e-8, 1e-8)),
    )
    second = load_policy(train_expert([FLAT], tmp_path / "second", still, init=first).policy_path)
    torch.testing.assert_close(second.policy.actor[0].weight, first.policy.actor[0].weight, atol=1e-5, rtol=0)
    assert second.manifest.parents[0].weights_sha256 == first.manifest.weights_sha256


def test_initial_policy_of_other_groups_is_refused(tmp_path):
    first = load_policy(train_expert([FLAT], tmp_path / "first", replace(SMALL, steps=2048)).policy_path)
    with pytest.raises(ContractError, match="proprio"):
        train_expert([get_skill("biped/flat")], tmp_path / "second", SMALL, init=first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(steps=0), "steps"),
        (lambda: TrainConfig(patience=0), "patience"),
        (lambda: PpoConfig(minibatch=1000), "must divide"),
        (lambda: PpoConfig(gamma=1.0), "gamma"),
        (lambda: SacConfig(tau=0.0), "tau"),
        (lambda: Architecture(hidden=(0,)), "hidden"),
    ],
)
def test_out_of_range_is_refused_by_name(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_unknown_algorithm_names_the_close_one():
    with pytest.raises(UnknownNameError, match="did you mean ppo"):
        TrainConfig(algorithm="pppo")


def test_step_size_follows_the_divergence_within_its_range():
    kl = {"target_kl": 0.02, "final_target_kl": 0.002}
    rate = PpoAdaptation(PpoConfig(learning_rate=1e-3, learning_rate_range=(5e-4, 2e-3), **kl))
    rate.adapt(0.02, 0.0)
    assert rate.value == 1e-3
    rate.adapt(0.05, 0.0)
    assert rate.value == pytest.approx(1e-3 / 1.5)
    for _ in range(9):
        rate.adapt(0.05, 0.0)
    assert rate.value == 5e-4
    for _ in range(9):
        rate.adapt(0.001, 0.0)
    assert rate.value == 2e-3
    rate.adapt(0.02, 1.0)  # ten times too much at the end of the budget
    assert rate.value == pytest.approx(2e-3 / 1.5)


def make_callback(policy, env, config=TrainConfig()):
    return TrainingCallback(policy, WeightAverage(policy, 0), env, PpoAdaptation(config.ppo), config, Silent(), "x")


def test_noise_is_bounded_along_a_line_and_never_raised():
    env = BatchedEnv([FLAT], 1, threads=1)
    policy = Policy(FLAT.group_sizes, 11, Architecture(initial_std=0.5))
    callback = make_callback(policy, env, TrainConfig(ppo=PpoConfig(final_std=0.1)))
    for spent, bound in ((0.0, 0.5), (0.5, 0.3), (1.0, 0.1)):
        callback._bound_noise(spent)
        assert policy.log_std.exp().tolist() == pytest.approx([bound] * 11)
    callback._bound_noise(0.0)
    assert policy.log_std.exp().tolist() == pytest.approx([0.1] * 11)


def test_curriculum_raises_the_level_with_success_and_never_beyond_the_skill():
    """Graded tracks: the level says which are met; success of the last 100 episodes raises it."""
    env = BatchedEnv([get_skill("biped/gaps")], 8, config=EnvConfig(tracks=100, graded=True), threads=1)
    callback = make_callback(Policy(env.skill.group_sizes, 11), env)
    callback.model = SimpleNamespace(ep_info_buffer=[], ep_success_buffer=deque([0.0] * 100, maxlen=100))
    env.level = 0.5
    callback._on_rollout_end()
    assert env.level == 0.5
    callback.model.ep_success_buffer = deque([1.0] * 99, maxlen=100)  # too few to judge
    callback._on_rollout_end()
    assert env.level == 0.5
    callback.model.ep_success_buffer.append(1.0)
    for _ in range(50):
        callback._on_rollout_end()
    assert env.level == 1.0


def test_curriculum_decides_at_its_reviews_only():
    env = BatchedEnv([get_skill("biped/gaps")], 8, config=EnvConfig(tracks=100, graded=True), threads=1)
    callback = make_callback(Policy(env.skill.group_sizes, 11), env, TrainConfig(raise_above=0.8, review_steps=20))
    succeeded = deque([1.0] * 81 + [0.0] * 19, maxlen=100)
    callback.model = SimpleNamespace(ep_info_buffer=[], ep_success_buffer=succeeded)
    env.level, levels = 0.4, []
    for callback.num_timesteps in range(8, 49, 8):  # twenty was passed at 24, forty at 40
        callback._on_rollout_end()
        levels.append(round(env.level, 2))
    assert levels == [0.4, 0.4, 0.44, 0.44, 0.48, 0.48]
    assert [review_due(TrainConfig(review_steps=20), steps, 8) for steps in (8, 24)] == [False, True]
    assert next_level(env, TrainConfig(raise_above=0.81), success=0.81) == env.level


def test_last_level_keeps_low_walls_beside_the_highest():
    """Walls go down to half of their height at the last level; gaps stay within a tenth of their width."""
    assert graded_floor([get_skill("biped/gaps").terrain]) == 0.9
    assert graded_floor([get_skill(f"biped/{name}").terrain for name in ("gaps", "walls")]) == 0.5
    env = BatchedEnv([get_skill("biped/walls")], 256, config=EnvConfig(tracks=200, graded=True), threads=1)
    env.reset()
    places = torch.linspace(2.0, 40.0, 4_000, dtype=torch.float64).repeat(256, 1)
    highest = env.ground_height(places).amax(1)  # of about twelve walls of 0.05 m to 0.25 m at full difficulty
    assert 0.11 < float(highest.min()) < 0.16
    assert 0.24 < float(highest.max()) <= 0.25


def test_level_bounds_the_width_of_the_gaps():
    env = BatchedEnv([get_skill("biped/gaps")], 64, config=EnvConfig(tracks=200, graded=True), threads=1)
    for level, easiest in ((0.2, 0.1), (0.6, 0.42), (1.0, 0.9)):
        env.level = level
        env.reset()
        low = torch.linspace(2.0, 30.0, 20_000, dtype=torch.float64)
        in_gap = (env.ground_height(low.repeat(64, 1)) < -0.5).double().mean(1)
        widest = 0.30 * level / (0.30 * level + 2.0)
        narrowest = 0.25 * easiest / (0.25 * easiest + 2.5)
        assert float(in_gap.max()) < 1.15 * widest
        assert float(in_gap.min()) > 0.85 * narrowest
