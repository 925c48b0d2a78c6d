"""Left and right: the permutations are those of the simulation, and symmetric policies are exactly equivariant."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from policykd.agents.files.fit import check_fits
from policykd.agents.files.manifest import Manifest, describe
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.training.sb3_policy import Sb3Policy
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import MirrorSymmetry, mirror_symmetry
from policykd.errors import ConfigError, ContractError, PolicyFileError

SKILL = get_skill("biped/steps")
SYMMETRY = mirror_symmetry(SKILL.groups, SKILL.robot)


def exchanged(symmetry, observations):
    return observations[:, list(symmetry.features)]


def symmetric_policy():
    policy = Policy(SKILL.group_sizes, 11, generator_seed=0, symmetry=SYMMETRY)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.3)
    policy.log_std.data.copy_(torch.linspace(-1, 0, 11))
    policy.update_normalizer(torch.randn(200, policy.observation_size))
    return policy


def test_the_simulation_itself_is_symmetric():
    """Exchanged actions from exchanged states lead to exchanged observations and the same rewards."""
    env, twin = (BatchedEnv([SKILL], 6, seed=3, config=EnvConfig(tracks=6, ordered=True), threads=1) for _ in "ab")
    joints = [i + 3 for i in SYMMETRY.actions]
    env.reset(), twin.reset()
    qpos, qvel = (env.engine.field(name).clone().numpy() for name in ("qpos", "qvel"))
    order = [0, 1, 2, *joints]
    env.engine.reset(torch.arange(6), torch.from_numpy(qpos), torch.from_numpy(qvel))
    twin.engine.reset(torch.arange(6), torch.from_numpy(qpos[:, order]), torch.from_numpy(qvel[:, order]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        actions = torch.rand(6, 11, generator=generator) * 2 - 1
        mine, theirs = env.step(actions), twin.step(actions[:, list(SYMMETRY.actions)])
        observed, mirrored = (torch.cat(list(s.observations.values()), dim=1) for s in (mine, theirs))
        alive = ~mine.terminated
        # contacts are solved in another order, so the last digits differ and grow
        torch.testing.assert_close(exchanged(SYMMETRY, mirrored)[alive], observed[alive], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(mine.reward, theirs.reward, atol=1e-5, rtol=1e-5)
        if not alive.all():
            break


def test_a_symmetric_policy_is_equivariant():
    policy = symmetric_policy()
    observations = torch.randn(300, policy.observation_size)
    other = exchanged(SYMMETRY, observations)
    actions = list(SYMMETRY.actions)
    torch.testing.assert_close(policy(other), policy(observations)[:, actions], atol=0, rtol=0)
    torch.testing.assert_close(policy.value(other), policy.value(observations), atol=0, rtol=0)
    torch.testing.assert_close(
        policy.distribution(other).stddev, policy.distribution(observations).stddev[:, actions], atol=0, rtol=0
    )
    assert not torch.allclose(policy(other), policy(observations), atol=1e-3)


def test_normalizer_sees_only_representatives():
    policy, observations = symmetric_policy(), torch.randn(100, 99)
    twin = symmetric_policy()
    twin.normalizer.load_state_dict(policy.normalizer.state_dict())
    policy.update_normalizer(observations)
    twin.update_normalizer(exchanged(SYMMETRY, observations))
    assert torch.equal(policy.normalizer.mean, twin.normalizer.mean)


def test_twin_inside_stable_baselines3_agrees():
    """The log probability of a sampled action is that of the policy's own distribution."""
    policy = symmetric_policy()
    space = gym.spaces.Box(-np.inf, np.inf, (99,), np.float32)
    inside = Sb3Policy(space, gym.spaces.Box(-1, 1, (11,), np.float32), lambda _: 1e-3, network=policy)
    observations = torch.randn(50, 99)
    with torch.no_grad():
        actions, values, log_prob = inside(observations)
        again = inside.evaluate_actions(observations, actions)
        expected = policy.distribution(observations).log_prob(actions).sum(dim=1)
        torch.testing.assert_close(log_prob, expected)
        torch.testing.assert_close(again[1], expected)
        torch.testing.assert_close(inside(observations, deterministic=True)[0], policy(observations))
        torch.testing.assert_close(values.squeeze(1), policy.value(observations))


def test_round_trip_and_tampering(tmp_path):
    policy = symmetric_policy()
    provenance = {"skills": [SKILL.id], "operation": "train", "parents": [], "seed": 0, "metrics": {}, "config": {}}
    manifest = save_policy(tmp_path / "p", policy, robot=SKILL.robot, **provenance)
    loaded = load_policy(tmp_path / "p").policy
    observations = torch.randn(20, 99)
    assert loaded.symmetry == SYMMETRY
    assert torch.equal(loaded(observations), policy(observations))
    content = manifest.to_json()
    content["symmetry"]["features"][0] = 5
    with pytest.raises(PolicyFileError, match=r"symmetry\.features"):
        Manifest.from_json(content)


def test_other_layout_is_refused():
    policy = symmetric_policy()
    provenance = {"skills": (SKILL.id,), "operation": "train", "parents": (), "seed": 0, "metrics": {}, "config": {}}
    manifest = describe(policy, SKILL.robot, weights_sha256="0", **provenance)
    check_fits(manifest, SKILL)
    features = list(SYMMETRY.features)
    features[97:99] = [98, 97]
    odd = replace(manifest, symmetry=replace(SYMMETRY, features=tuple(features)))
    with pytest.raises(ContractError, match="left/right layout"):
        check_fits(odd, SKILL)


@pytest.mark.parametrize(
    ("features", "actions", "lead"),
    [((1, 2, 0), (0,), (0, 1)), ((1, 0), (0, 0), (0, 1)), ((1, 0, 2), (0,), (0, 2)), ((1, 0), (0,), (0, 0))],
)
def test_no_symmetry(features, actions, lead):
    with pytest.raises(ConfigError):
        MirrorSymmetry(features, actions, lead)


def test_symmetry_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="99 features"):
        Policy({"proprio": 49}, 11, symmetry=SYMMETRY)


def test_a_gait_clock_has_no_mirror_image():
    assert mirror_symmetry(("proprio", "phase"), SKILL.robot) is None
    assert mirror_symmetry(("terrain",), SKILL.robot) is None
    assert mirror_symmetry(("proprio",), SKILL.robot) is not None
