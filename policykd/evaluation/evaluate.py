"""Run policies on skills, all on the same tracks from the same initial states.

It simulates and collects outcomes; statistics are in ``results``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from policykd.agents.episodes import EpisodeOutcomes, run_episodes, run_random_episodes
from policykd.agents.policy import Policy, check_groups
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import AnyEnv, make_env
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, ContractError, check_range
from policykd.evaluation.results import RANDOM, Episodes, Evaluation
from policykd.progress import Progress, Silent
from policykd.seeding import integer_seed
from policykd.torch_seeding import seeded_torch


def evaluate(
    policies: Mapping[str, Policy],
    skills: Sequence[Skill],
    *,
    episodes: int = 64,
    seed: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    noise: bool = False,
    experts: Mapping[str, str] | None = None,
    progress: Progress = Silent(),
) -> Evaluation:
    """Evaluate policies on skills.

    Tracks and initial states are drawn from a separate stream, so that training with the same seed never saw them,
    and are shared by all policies, so that differences between policies are paired.

    Args:
        policies: name to policy. A policy may read fewer observation groups than a skill offers.
        skills: the skills.
        episodes: episodes per policy and skill, each on its own track.
        seed: seed of tracks, initial states and noise.
        threads: simulation threads; None for one per usable core. The results do not depend on it.
        device: device of simulation and policies: cpu, cuda or auto. Tracks and initial states are the same on all.
        noise: sample actions from the policies' Gaussians instead of taking the means.
        experts: skill id to the name of the policy that retention on it is measured against.
        progress: progress reporter.

    Returns:
        Every episode's outcome; also of random actions, where a skill's rewards are not in [0, 1].

    Raises:
        ContractError: before anything is run, if a policy does not fit a skill, naming both.
        ConfigError: for no policy, no skill, a skill given twice, or options out of range.
        UnknownNameError: for an expert or a skill of ``experts`` that is not evaluated, or an unknown device.
        MissingDependencyError: for a device that cannot be used here.
    """
    check_range("episodes", episodes, 1, 100_000)
    ids = [skill.id for skill in skills]
    if not policies or not skills or len(set(ids)) != len(ids):
        raise ConfigError(f"evaluate at least one policy on skills that differ; got {list(policies)} on {ids}")
    _check_fits(policies, skills)
    result = Evaluation(
        policies=(*policies, *([RANDOM] if any(not skill.task.bounded for skill in skills) else [])),
        skills=tuple(ids),
        episodes=episodes,
        seed=seed,
        noise=noise,
        episode_steps={skill.id: skill.episode_steps for skill in skills},
    ).with_experts(experts or {})
    progress.begin("evaluate", len(policies) * len(skills), "cells")
    for skill in skills:
        config = EnvConfig(tracks=episodes, ordered=True)
        tracks = integer_seed(seed, "evaluation")
        env = make_env([skill], episodes, seed=tracks, config=config, threads=threads, device=device)
        for name, policy in policies.items():
            outcomes = _run(policy, env, seed, noise)
            result.cells[name, skill.id] = _episodes(outcomes)
            progress.update("evaluate", len(result.cells), success=float(outcomes.success.double().mean()))
        if not skill.task.bounded:
            env.seed(integer_seed(seed, "evaluation"))
            result.cells[RANDOM, skill.id] = _episodes(run_random_episodes(env, seed))
    progress.end("evaluate")
    return result


def _check_fits(policies: Mapping[str, Policy], skills: Sequence[Skill]) -> None:
    for name, policy in policies.items():
        for skill in skills:
            try:
                check_groups(policy.groups, skill.group_sizes, f"skill {skill.id}")
            except ContractError as error:
                raise ContractError(f"policy '{name}': {error}") from None
            joints = skill.robot.num_actions
            if policy.actions != joints:
                raise ContractError(
                    f"policy '{name}' has {policy.actions} actions; the robot of skill {skill.id} has {joints} joints"
                )


def _run(policy: Policy, env: AnyEnv, seed: int, noise: bool) -> EpisodeOutcomes:
    """Run one episode per simulation; equal arguments give equal outcomes, whatever ran before."""
    env.seed(integer_seed(seed, "evaluation"))
    with seeded_torch(integer_seed(seed, "evaluation noise")):
        return run_episodes(copy.deepcopy(policy).to(env.device), env, noise=noise)


def _episodes(outcomes: EpisodeOutcomes) -> Episodes:
    return Episodes(
        total_reward=tuple(outcomes.total_reward.tolist()),
        reward_per_step=tuple(outcomes.reward_per_step.tolist()),
        length=tuple(outcomes.length.tolist()),
        distance=tuple(outcomes.distance.tolist()),
        success=tuple(outcomes.success.tolist()),
    )
