"""Gaits of robots in space: rhythm of the feet, height of the base, what policies read, and how it is rewarded."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.envs.suites import get_suite
from policykd.envs.tasks import get_task
from policykd.envs.tasks.gait import BOUND, CROUCH, PACE, TROT, Gait
from policykd.envs.tasks.velocity import GAIT_TERMS, RewardTerm, VelocityTracking
from policykd.errors import ConfigError

BODY = get_robot("quadruped").body
CONFIG = EnvConfig(tracks=4, joint_noise=0.0, speed_noise=0.0, ordered=True)


def together(gait: Gait) -> list[set[str]]:
    """Return the sets of feet with the same offset, named by their place: f or r, l or r."""
    names = [("f" if x > 0 else "r") + ("l" if y > 0 else "r") for x, y in BODY.foot_place]
    offsets = gait.offsets(BODY.foot_place).tolist()
    return sorted(({n for n, o in zip(names, offsets, strict=True) if o == value} for value in set(offsets)), key=min)


def test_gaits_move_the_pairs_of_feet_that_their_names_say():
    assert together(TROT) == [{"fl", "rr"}, {"fr", "rl"}]
    assert together(PACE) == [{"fl", "rl"}, {"fr", "rr"}]
    assert together(BOUND) == [{"fl", "fr"}, {"rl", "rr"}]


def test_feet_have_places_and_counterparts():
    assert sorted((x > 0, y > 0) for x, y in BODY.foot_place) == [(a, b) for a in (False, True) for b in (False, True)]
    for foot, other in enumerate(BODY.foot_mirrored):
        np.testing.assert_allclose(BODY.foot_place[other], BODY.foot_place[foot] * [1, -1], atol=1e-6)


def test_policies_read_phases_and_lowering():
    """Features against the definition, at the start and after ten steps of one fiftieth of a second."""
    env = BatchedEnv([get_skill("quadruped/flat+creep")], 3, config=CONFIG, threads=1)
    env.reset()
    clock = env._backend.clock.clone()
    for steps in range(11):
        if steps:
            step = env.step(torch.zeros(3, 12))
    place = env.skill.columns["gait"]
    offset = np.array([0.5 * (x > 0) + 0.5 * (y > 0) for x, y in BODY.foot_place]) % 1
    phase = 2.0 * (clock.numpy() + 10 / 50)[:, None] + offset
    expected = np.concatenate([np.sin(2 * math.pi * phase), np.cos(2 * math.pi * phase), np.full((3, 1), 0.3)], axis=1)
    np.testing.assert_allclose(step.flat[:, place].numpy(), expected, atol=1e-5)


def test_the_rhythm_is_rewarded_by_the_share_of_feet_that_keep_it():
    """A robot that stands has all feet on the ground: with a duty of 0.5 it is right for half of the time."""
    task = VelocityTracking(terms=(RewardTerm("velocity", 1e-9), RewardTerm("gait", 1.0)), gait=BOUND)
    skill = replace(get_skill("quadruped/flat"), task=task)
    env = BatchedEnv([skill], 1, config=CONFIG, threads=1)
    env.reset()
    start = float(env._backend.clock[0])
    rewards = [float(env.step(torch.zeros(1, 12)).reward) for _ in range(50)]
    for k, reward in enumerate(rewards[10:], 11):  # the first steps let it down to the ground
        front = (2.0 * (start + k / 50) + 0.5) % 1.0 < 0.5
        rear = (2.0 * (start + k / 50)) % 1.0 < 0.5
        assert reward == pytest.approx((front + rear) / 2, abs=1e-6)
    assert set(np.round(rewards[10:], 3)) == {0.5}  # a bound always has one pair up


def test_height_is_penalized_from_the_height_that_the_gait_wants():
    for lowering in (0.0, 0.2):  # it sags below its standing height anyhow
        terms = (RewardTerm("velocity", 1.0, 100.0), RewardTerm("height", -1.0, 1.0))
        task = VelocityTracking(speed=0.0, speeds=(0.0, 0.0), terms=terms, gait=Gait(lowering=lowering))
        env = BatchedEnv([replace(get_skill("quadruped/flat"), task=task)], 1, config=CONFIG, threads=1)
        env.reset()
        for _ in range(30):
            step = env.step(torch.zeros(1, 12))
        off = float(env.engine.field("qpos")[0, 2] - BODY.stand_pose[2]) / get_robot("quadruped").leg_length
        assert float(step.reward) == pytest.approx(1.0 - (off + lowering) ** 2, abs=2e-4)


def test_simulations_with_and_without_gaits_share_an_environment():
    names = ("trot", "velocity", "creep")
    groups = ["imu", "joints", "command", "gait"]
    skills = [get_skill(f"quadruped/flat+{name}", groups) for name in names]
    env = BatchedEnv(skills, 3, config=CONFIG, threads=1)
    features = env.reset()["gait"]
    assert features[1].abs().max() == 0
    assert features[:, -1].tolist() == pytest.approx([0.0, 0.0, 0.3])
    assert (features[[0, 2], :4] ** 2 + features[[0, 2], 4:8] ** 2).numpy() == pytest.approx(1.0, abs=1e-6)


def test_turning_is_commanded_in_evaluations_and_has_no_distance():
    task = get_task("turn")
    assert isinstance(task, VelocityTracking)
    assert task.command_spans(fixed=True) == ((0.3, 0.3), (0.0, 0.0), (0.8, 0.8))
    assert task.command_spans(fixed=False) == (task.speeds, task.sideways, task.turning)
    assert task.goal(10.0) == (-math.inf, math.inf)
    assert get_task("reverse").goal(10.0) == (-math.inf, pytest.approx(-3.0))
    assert VelocityTracking(turning=(-1.0, 1.0)).command_spans(fixed=True)[2] == (0.0, 0.0)
    assert VelocityTracking().command_spans(fixed=False)[2] == (0.0, 0.0), "the heading is held"


def test_the_suite_has_one_contract_and_its_skills_differ_in_what_is_commanded():
    skills = get_suite("quadruped-gaits")
    env = BatchedEnv(skills, len(skills), config=CONFIG, threads=1)
    observations = env.reset()
    told = torch.cat([observations["command"][:, [0]], observations["gait"][:, -1:]], dim=1)
    assert told[:, 0].tolist() == pytest.approx([1.0, 1.0, 1.0, 0.6, -0.6, 0.3])
    assert told[:, 1].tolist() == pytest.approx([0.0, 0.0, 0.0, 0.3, 0.0, 0.0])
    assert [s.task.gait for s in skills] == [TROT, PACE, BOUND, CROUCH, TROT, TROT]


def test_terms_that_need_a_gait_are_refused_without_one():
    with pytest.raises(ConfigError, match="the term gait compares with a gait"):
        VelocityTracking(terms=GAIT_TERMS)
    with pytest.raises(ConfigError, match="duty"):
        Gait(duty=1.0)


def test_commands_are_not_rounded():
    """A command in single precision would change every trajectory, and with it what is learned."""
    task = VelocityTracking(speed=0.7, speeds=(0.4, 1.2))
    skill = replace(get_skill("quadruped/flat"), task=task)
    fixed, drawn = (BatchedEnv([skill], 64, threads=1, config=EnvConfig(tracks=64, ordered=o)) for o in (True, False))
    fixed.reset(), drawn.reset()
    assert (fixed._backend._command[:, 0] == 0.7).all()
    chance = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert drawn._backend._commands_of(0, chance)[:, 0].tolist() == [0.4, 1.2]
    assert drawn._backend._command[:, 0].std() > 0.1
