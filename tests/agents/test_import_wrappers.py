"""Experts whose environment added observations: they read raw ones, and act as in their library."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from foreign_envs import Point

from policykd.agents.acting import Acting
from policykd.agents.architecture import Memory
from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.importer import import_policy
from policykd.agents.importing.options import ImportOptions
from policykd.envs.foreign.skill import gym_skill
from policykd.errors import ConfigError, ContractError, PolicyFileError
from policykd.merge import MergeConfig, Teacher, merge_experts

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize  # noqa: E402

ENV = "foreign_envs:policykd-tests/Point-v0"
STEPS = 30


class TimeLeft(gym.Wrapper):
    """The share of the episode that is left, behind the observation (sb3-contrib's formula)."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def reset(self, **kwargs):
        self.t = 0
        observation, info = self.env.reset(**kwargs)
        return np.append(observation, 1.0), info

    def step(self, action):
        self.t += 1
        observation, *rest = self.env.step(action)
        return (np.append(observation, 1.0 - self.t / STEPS), *rest)


def raw():
    return gym.wrappers.TimeLimit(Point(), STEPS)


def normalized(env):
    """Statistics of random actions, which no longer change."""
    env = VecNormalize(env)
    env.reset()
    for _ in range(200):
        env.step([env.action_space.sample()])
    env.training = False
    return env


def flattened_stack():
    return gym.wrappers.FlattenObservation(gym.wrappers.FrameStackObservation(raw(), 3))


MAKE = {
    "time": ("time-feature:30", lambda: DummyVecEnv([lambda: TimeLeft(raw())])),
    "normalized time": ("time-feature:30", lambda: normalized(DummyVecEnv([lambda: TimeLeft(raw())]))),
    "frames": ("frame-stack:4", lambda: VecFrameStack(DummyVecEnv([raw]), 4)),
    "normalized frames": ("frame-stack:4", lambda: VecFrameStack(normalized(DummyVecEnv([raw])), 4)),
    "first frames": ("frame-stack-first:3", lambda: DummyVecEnv([flattened_stack])),
}


def written(name, folder):
    """Return a new model with large actions, its environment, and its file with the statistics next to it."""
    _, make = MAKE[name]
    env = make()
    model = sb3.PPO("MlpPolicy", env, seed=1, device="cpu")
    with torch.no_grad():
        for key, value in model.policy.named_parameters():
            if key.startswith("action_net"):
                value.mul_(150.0)
    model.save(folder / "model.zip")
    statistics = env.venv if isinstance(env, VecFrameStack) else env
    if isinstance(statistics, VecNormalize):
        statistics.save(str(folder / "vecnormalize.pkl"))
    return model, env


def imported(name, folder):
    import_policy(
        folder / "model.zip", folder / "policy", env=ENV, options=ImportOptions(wrapper=MAKE[name][0]), episodes=2,
        anyway=True,
    )  # fmt: skip
    return load_policy(folder / "policy").policy


@pytest.mark.parametrize("name", MAKE)
def test_actions_are_those_of_the_library_over_several_episodes(name, tmp_path):
    model, env = written(name, tmp_path)
    policy = imported(name, tmp_path)
    assert dict(policy.groups) == {"observation": 2}
    acting, wrapped, ends, seen = Acting(policy), env.reset(), 0, []
    for _ in range(100):
        point = env.unwrapped.envs[0].unwrapped
        flat = torch.tensor([[point.x, point.v]], dtype=torch.float32)
        own, _ = model.predict(wrapped, deterministic=True)
        unit = acting(flat).clamp(-1, 1).detach().numpy()
        assert np.allclose(-2.0 + 0.5 * (unit + 1.0) * 6.0, own, atol=2e-5)
        seen.append(float(unit[0, 0]))
        wrapped, _, done, _ = env.step([env.action_space.sample()])  # into other states than one point of rest
        acting.forget(torch.from_numpy(done))
        ends += int(done[0])
    assert ends >= 3
    assert np.std(seen) > 0.05, "the actions say something"


def test_the_training_configuration_names_the_wrapper(tmp_path):
    written("time", tmp_path)
    named = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
    (tmp_path / "config.yml").write_text(
        f"!!python/object/apply:collections.OrderedDict\n- - - env_wrapper\n    - {named}\n"
    )
    report = import_policy(tmp_path / "model.zip", tmp_path / "policy", env=ENV, episodes=2, anyway=True)
    assert load_policy(tmp_path / "policy").policy.architecture.memory == Memory("time-feature", STEPS)
    assert any("time-feature:30" in note for note in report.notes)


def test_a_merge_labels_through_the_wrapper(tmp_path):
    written("frames", tmp_path)
    policy = imported("frames", tmp_path)
    skill = gym_skill(f"gym:{ENV}")
    config = MergeConfig(
        rounds=1, envs=2, updates=2, minibatch=16, validation_episodes=2, noise_model="none", critic="none",
        min_teacher_success=0.0, threads=1,
    )  # fmt: skip
    result = merge_experts([Teacher(skill, policy, "expert", "0" * 64)], tmp_path / "student", config)
    assert result.states == 2 * STEPS
    from policykd.merge.data.folder import LabeledData

    rollout = LabeledData.open(tmp_path / "student" / "data").find(0, skill.id)
    acting = Acting(policy)
    ended = rollout.terminated | rollout.truncated
    for step, rows in enumerate(rollout.observations.view(STEPS, 2, 2)):
        assert torch.allclose(acting(rows).clamp(-1, 1), rollout.labels.view(STEPS, 2, 1)[step], atol=1e-6)
        acting.forget(ended[step])


def test_what_does_not_fit_is_named(tmp_path):
    written("normalized frames", tmp_path)
    for wrapper, error, message in (
        ("frame-stack:3", ContractError, r"reads 8 features; .* gives 2, and with frame-stack:3 6"),
        ("time-feature:30", ContractError, "with time-feature:30 3"),
        ("history:4", ConfigError, "must be one of time-feature:N, frame-stack:N, frame-stack-first:N"),
        ("", ContractError, "--wrapper time-feature:STEPS"),
    ):
        with pytest.raises((error, PolicyFileError), match=message):
            import_policy(tmp_path / "model.zip", tmp_path / "x", env=ENV, options=ImportOptions(wrapper=wrapper))
    statistics = VecNormalize(DummyVecEnv([raw]))
    statistics.obs_rms.mean, statistics.obs_rms.var = np.zeros(4), np.ones(4)
    statistics.save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(PolicyFileError, match="has 4 means; observations are normalized before they are stacked"):
        imported("normalized frames", tmp_path)
