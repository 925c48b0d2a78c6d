"""Validation by skill: sums add up, and what is not trained is measured, too."""

from dataclasses import replace

import pytest
from small_training import SMALL

from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import train_expert, trainer
from policykd.agents.training.trainer import make_validation
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.envs.tasks import Walk
from policykd.errors import ConfigError
from policykd.runs import read_log
from policykd.seeding import integer_seed

FLAT = get_skill("biped/flat", ("proprio", "terrain"))
GAPS = get_skill("biped/gaps", ("proprio", "terrain"))
STAND = replace(FLAT, task=Walk(speed=0.0))
FEW = replace(SMALL, steps=2048, segment_steps=1024, validation_episodes=6)


def test_skills_are_measured_apart_and_add_up():
    """Every second episode is the first skill's; the overall figures are the means of the skills'."""
    policy = Policy(FLAT.group_sizes, 11, FEW.architecture, 0)
    figures = make_validation([STAND, GAPS], FEW).measure(policy)
    seed = integer_seed(FEW.seed, "validation")
    env = BatchedEnv([STAND, GAPS], 6, seed=seed, config=EnvConfig(tracks=6, ordered=True), threads=1)
    env.seed(seed)
    rewards = run_episodes(policy, env).reward_per_step.tolist()
    assert [row["reward_per_step"] for row in figures["skills"].values()] == pytest.approx(
        [sum(rewards[0::2]) / 3, sum(rewards[1::2]) / 3]
    )
    for name in ("success", "reward_per_step"):
        assert figures[name] == pytest.approx(sum(row[name] for row in figures["skills"].values()) / 2)


def test_validation_repeats_itself_whatever_ran_between():
    policy = Policy(FLAT.group_sizes, 11, FEW.architecture, 0)
    other = Policy(FLAT.group_sizes, 11, FEW.architecture, 1)
    validation = make_validation([FLAT, GAPS], FEW)
    first = validation.measure(policy)
    assert validation.measure(other) != first
    assert validation.measure(policy) == first


def test_fewer_episodes_than_skills_are_refused():
    with pytest.raises(ConfigError, match=r"validation_episodes is 1 but must be at least the number of skills .2."):
        make_validation([FLAT, GAPS], replace(FEW, validation_episodes=1))


def test_training_validates_what_it_does_not_train(tmp_path):
    """A run on gaps reports flat ground, too; it cannot be continued with other validations."""
    config = replace(FEW, finalists=1)
    result = train_expert([GAPS], tmp_path, config, validate_on=[FLAT, GAPS])
    rows = read_log(tmp_path / "progress.jsonl")
    assert [list(row["skills"]) for row in rows] == [["biped/flat", "biped/gaps"]] * 2
    policy = load_policy(result.policy_path).policy
    best = max(rows, key=lambda row: (row["success"], row["reward_per_step"]))
    assert make_validation([FLAT, GAPS], FEW).measure(policy)["skills"] == best["skills"]
    with pytest.raises(ConfigError):
        train_expert([GAPS], tmp_path, config, resume=True)


def test_the_finalist_that_does_best_on_other_tracks_is_saved(tmp_path):
    """Its figures are those of the other tracks; the best validation's policy is no better there."""
    lucky = train_expert([GAPS], tmp_path / "lucky", replace(FEW, finalists=1))
    chosen = train_expert([GAPS], tmp_path / "chosen", replace(FEW, finalists=2))
    final = make_validation([GAPS], replace(FEW, validation_episodes=trainer.FINAL_EPISODES), "final validation")
    first, second = (final.measure(load_policy(r.policy_path).policy) for r in (lucky, chosen))
    assert (chosen.success, chosen.reward_per_step) == (second["success"], second["reward_per_step"])
    assert (second["success"], second["reward_per_step"]) >= (first["success"], first["reward_per_step"])


def test_a_run_that_reached_its_targets_keeps_the_best_validation(tmp_path):
    result = train_expert([GAPS], tmp_path, replace(FEW, target_success=0.0, patience=2))
    rows = read_log(tmp_path / "progress.jsonl")
    assert (result.success, result.reward_per_step) == max((r["success"], r["reward_per_step"]) for r in rows)


def test_distance_is_the_mean_over_the_episodes():
    policy = Policy(FLAT.group_sizes, 11, FEW.architecture, 0)
    seed = integer_seed(FEW.seed, "validation")
    env = BatchedEnv([FLAT], 6, seed=seed, config=EnvConfig(tracks=6, ordered=True), threads=1)
    env.seed(seed)
    outcomes = run_episodes(policy, env)
    figures = make_validation([FLAT], FEW).measure(policy)
    assert figures["distance"] == pytest.approx(float(outcomes.distance.mean()))
    assert "skills" not in figures
