"""The baseline of the benchmarks does the same work as the library: else its speed would say nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from policykd.envs import BatchedEnv, EnvConfig, get_skill, terrain_names

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from plain_env import PlainWalker


@pytest.mark.parametrize("terrain", terrain_names(planar=True))
def test_the_plain_environment_equals_ours(terrain):
    ours = BatchedEnv([get_skill(f"biped/{terrain}")], 4, config=EnvConfig(tracks=4, ordered=True))
    first = ours.reset()
    starts = [ours.engine.field(name).numpy().copy() for name in ("qpos", "qvel")]
    starts[0][:, 0] += 3.0  # behind the level start
    x = torch.from_numpy(starts[0][:, :1])
    ahead = ours.ground_height(x + torch.linspace(-0.3, 0.3, 61, dtype=torch.float64))
    starts[0][:, 1] += ahead.amax(dim=1).numpy()
    for name, value in zip(("qpos", "qvel"), starts, strict=True):
        ours.engine.field(name)[:] = torch.from_numpy(value)
    ours._backend.move_ground()
    plain = PlainWalker(f"biped/{terrain}", bank=ours._bank.tracks)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (25, 4, 11)).astype(np.float32)
    steps = [ours.step(torch.from_numpy(action), restart=False) for action in actions]
    assert set(first) == {"proprio", "terrain"}
    for i in range(4):
        plain.reset(seed=0, options={"track": i, "qpos": starts[0][i], "qvel": starts[1][i]})
        for action, step in zip(actions[:, i], steps, strict=True):
            observation, reward, terminated, truncated, _ = plain.step(action)
            expected = torch.cat(list(step.observations.values()), dim=1)[i].numpy()
            np.testing.assert_allclose(observation, expected, atol=1e-5, rtol=1e-5)
            assert reward == pytest.approx(float(step.reward[i]), abs=1e-5)
            assert (terminated, truncated) == (bool(step.terminated[i]), bool(step.truncated[i]))
            if terminated:
                break


@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity")
def test_the_plain_environment_passes_gymnasiums_checker():
    check_env(PlainWalker("biped/gaps", tracks=2), skip_render_check=True)


def test_an_episode_of_the_plain_environment_is_truncated():
    plain = PlainWalker("biped/flat", tracks=1)
    plain.reset(seed=0)
    plain._steps = plain.skill.episode_steps - 1
    assert plain.step(np.zeros(11, np.float32))[2:4] == (False, True)
