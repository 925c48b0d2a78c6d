"""Validation by skill: sums add up, and what is not trained is measured, too."""

from dataclasses import replace

import pytest

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.agents.policy_file import load_policy
from policykd.agents.rollout import run_episodes
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.agents.training.validation import Validation
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.envs.tasks import Walk
from policykd.errors import ConfigError
from policykd.runs import read_log
from policykd.seeding import integer_seed

FLAT = get_skill("biped/flat", ("proprio", "terrain"))
GAPS = get_skill("biped/gaps", ("proprio", "terrain"))
STAND = replace(FLAT, task=Walk(speed=0.0))
SMALL = TrainConfig(
    steps=2048,
    segment_steps=1024,
    validation_episodes=6,
    threads=1,
    architecture=Architecture(hidden=(32,), critic_hidden=(32,)),
    ppo=PpoConfig(envs=32, rollout_steps=16, minibatch=256, epochs=1),
)


def test_skills_are_measured_apart_and_add_up():
    """Every second episode is the first skill's; the overall figures are the means of the skills'."""
    policy = Policy(FLAT.group_sizes, 11, SMALL.architecture, 0)
    figures = Validation([STAND, GAPS], SMALL).measure(policy)
    seed = integer_seed(SMALL.seed, "validation")
    env = BatchedEnv([STAND, GAPS], 6, seed=seed, config=EnvConfig(tracks=6, ordered=True), threads=1)
    env.seed(seed)
    rewards = run_episodes(policy, env).reward_per_step.tolist()
    assert [row["reward_per_step"] for row in figures["skills"].values()] == pytest.approx(
        [sum(rewards[0::2]) / 3, sum(rewards[1::2]) / 3]
    )
    for name in ("success", "reward_per_step"):
        assert figures[name] == pytest.approx(sum(row[name] for row in figures["skills"].values()) / 2)


def test_validation_repeats_itself_whatever_ran_between():
    policy = Policy(FLAT.group_sizes, 11, SMALL.architecture, 0)
    other = Policy(FLAT.group_sizes, 11, SMALL.architecture, 1)
    validation = Validation([FLAT, GAPS], SMALL)
    first = validation.measure(policy)
    assert validation.measure(other) != first
    assert validation.measure(policy) == first


def test_fewer_episodes_than_skills_are_refused():
    with pytest.raises(ConfigError, match=r"validation_episodes is 1; 2 skills"):
        Validation([FLAT, GAPS], replace(SMALL, validation_episodes=1))


def test_training_validates_what_it_does_not_train(tmp_path):
    """A run on gaps reports flat ground, too; it cannot be continued with other validations."""
    result = train_expert([GAPS], tmp_path, SMALL, validate_on=[FLAT, GAPS])
    rows = read_log(tmp_path / "progress.jsonl")
    assert [list(row["skills"]) for row in rows] == [["biped/flat", "biped/gaps"]] * 2
    policy = load_policy(result.policy_path).policy
    best = max(rows, key=lambda row: (row["success"], row["reward_per_step"]))
    assert Validation([FLAT, GAPS], SMALL).measure(policy)["skills"] == best["skills"]
    with pytest.raises(ConfigError):
        train_expert([GAPS], tmp_path, SMALL, resume=True)
