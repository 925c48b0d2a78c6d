"""Policies of robots in space: signs of the mirror image, the hash of the body in files, training, injection."""

from dataclasses import replace

import pytest
import torch

from policykd.agents.files.fit import check_fits
from policykd.agents.files.policy_file import load_policy
from policykd.agents.injection import inject
from policykd.agents.policy import Policy
from policykd.agents.training import train_expert
from policykd.agents.training.defaults import PLANAR, SPATIAL, TWO_LEGS, default_config
from policykd.agents.training.trainer import Run
from policykd.cli.overrides import with_overrides
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.honest import honest_skill
from policykd.envs.randomization import Randomization
from policykd.envs.robots import ROBOTS, get_robot, register_robot
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import MirrorSymmetry, mirror_symmetry
from policykd.errors import ConfigError, ContractError

FLAT = get_skill("quadruped/flat")
SMALL = replace(
    SPATIAL,
    steps=1024,
    segment_steps=512,
    threads=1,
    validation_episodes=4,
    finalists=1,
    ppo=replace(SPATIAL.ppo, envs=8, rollout_steps=32, minibatch=128, epochs=1),
)
SHORT = replace(FLAT, episode_steps=60)


def observations(skill, n=16):
    env = BatchedEnv([skill], n, config=EnvConfig(tracks=4), threads=1)
    flat = torch.cat(list(env.reset().values()), dim=-1)
    return flat + 0.1 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))


def test_a_symmetric_policy_acts_alike_on_both_sides():
    symmetry = mirror_symmetry(FLAT.groups, FLAT.robot)
    policy = Policy(FLAT.group_sizes, 12, SPATIAL.architecture, 0, symmetry)
    flat = observations(FLAT)
    mirrored = flat[:, list(symmetry.features)] * torch.tensor(symmetry.feature_signs)
    actions = policy(flat)[:, list(symmetry.actions)] * torch.tensor(symmetry.action_signs)
    torch.testing.assert_close(policy(mirrored), actions)
    torch.testing.assert_close(policy.value(mirrored), policy.value(flat))
    with torch.no_grad():
        policy.log_std.copy_(torch.linspace(-2, 0, 12))
    spread = policy.distribution(mirrored).stddev
    torch.testing.assert_close(spread, policy.distribution(flat).stddev[:, list(symmetry.actions)])
    assert (spread > 0).all(), "a spread has no sign"


@pytest.mark.parametrize(
    "fields",
    [
        {"feature_signs": (1.0, -1.0, 1.0)},
        {"feature_signs": (2.0, 2.0)},
        {"feature_signs": (1.0, -1.0)},
        {"feature_signs": (-1.0, -1.0)},
        {"action_signs": (0.0,)},
    ],
)
def test_signs_that_do_not_reflect_are_refused(fields):
    with pytest.raises(ConfigError, match="sign"):
        MirrorSymmetry((1, 0), (0,), (0, 1), **fields)


def test_training_writes_a_policy_of_this_body(tmp_path):
    result = train_expert([SHORT], tmp_path / "first", SMALL)
    loaded = load_policy(result.policy_path)
    assert loaded.manifest.format_version == 4
    assert loaded.manifest.model_sha256 == FLAT.robot.body.sha256
    check_fits(loaded.manifest, FLAT)
    check_fits(loaded.manifest, honest_skill(FLAT))
    heavier = replace(FLAT.robot, stiffness=((".*", 36.0),))
    with pytest.raises(ContractError, match="another body of quadruped") as refused:
        check_fits(loaded.manifest, replace(FLAT, robot=heavier))
    hashes = [robot.body.sha256[:12] for robot in (FLAT.robot, heavier)]
    assert f"compiled model is {hashes[0]}, now {hashes[1]};" in str(refused.value)
    assert loaded.manifest.skill("quadruped/flat").episode_steps == 60, "its episodes are in its record"

    again = replace(SMALL, steps=256, segment_steps=256, init_noise=0.7, ppo=replace(SMALL.ppo, final_std=0.7))
    still = replace(again, ppo=replace(again.ppo, learning_rate=1e-8, learning_rate_range=(1e-8, 1e-8)))
    second = load_policy(train_expert([SHORT], tmp_path / "second", still, init=loaded).policy_path).policy
    torch.testing.assert_close(second.log_std.exp(), torch.full((12,), 0.7), rtol=0.02, atol=0)


def test_the_scan_is_injected_without_a_change_of_actions():
    blind = tuple(name for name in FLAT.groups if name != "scan")
    policy = Policy(get_skill("quadruped/flat", blind).group_sizes, 12, SPATIAL.architecture, 0)
    flat = observations(FLAT)
    sighted = inject(policy, ("scan",), robot=FLAT.robot)
    columns = FLAT.columns
    torch.testing.assert_close(sighted(sighted.select(flat, columns)), policy(policy.select(flat, columns)))
    assert list(sighted.groups) == [*blind, "scan"]


def test_defaults_follow_the_robot():
    assert default_config(get_robot("biped")) is PLANAR
    assert default_config(get_robot("quadruped")) is SPATIAL
    assert default_config(get_robot("humanoid")) is TWO_LEGS
    with ROBOTS.scope():
        dog = replace(get_robot("quadruped"), name="dog")
        register_robot(dog)
        assert default_config(dog) is SPATIAL


def test_careful_physics_is_for_robots_in_space():
    robot = honest_skill(FLAT).robot
    assert robot.control_dt == pytest.approx(FLAT.robot.control_dt)
    assert robot.timestep == 0.0025
    assert robot.physics.shins
    with pytest.raises(ContractError, match="plane"):
        honest_skill(get_skill("biped/flat"))


def test_training_may_have_random_physics_and_sensors(tmp_path):
    what = Randomization(friction=(0.5, 1.2), push_speed=0.3, latency=(0, 1), noise=(("imu", 0.1),))
    assert with_overrides(SMALL, ["randomization.friction=[0.5, 1.2]", "randomization.latency=[0, 1]"]) == replace(
        SMALL, randomization=Randomization(friction=(0.5, 1.2), latency=(0, 1))
    )
    config = replace(SMALL, steps=512)
    plain, varied = (
        load_policy(train_expert([SHORT], tmp_path / name, config).policy_path)
        for name, config in (("plain", config), ("varied", replace(config, randomization=what)))
    )
    assert "randomization" not in plain.manifest.config
    assert varied.manifest.config["randomization"]["noise"] == [["imu", 0.1]]
    assert not torch.equal(plain.policy.log_std, varied.policy.log_std)


def test_a_killed_run_with_random_physics_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    what = Randomization(mass=(0.8, 1.3), push_speed=0.3, latency=(0, 2), noise=(("imu", 0.1),))
    config, save = replace(SMALL, randomization=what), Run._save

    def dying(self):
        save(self)
        if self._segment == 1:
            raise KeyboardInterrupt

    whole = load_policy(train_expert([SHORT], tmp_path / "whole", config).policy_path)
    monkeypatch.setattr(Run, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        train_expert([SHORT], tmp_path / "killed", config)
    monkeypatch.undo()
    resumed = load_policy(train_expert([SHORT], tmp_path / "killed", config, resume=True).policy_path)
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name
