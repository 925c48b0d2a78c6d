"""What each command does: find the inputs, call the library, print the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

from rich.console import Console

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.training import TrainConfig, TrainResult, train_expert
from policykd.cli.commands import Demo, Evaluate, Render, Skills, Train
from policykd.cli.doctor import Doctor, run_doctor
from policykd.cli.encoder import parse_encoder
from policykd.cli.inject import Inject, run_inject
from policykd.cli.merge import Merge, run_merge
from policykd.cli.overrides import with_overrides
from policykd.cli.progress import Bars
from policykd.cli.skill_tables import skill_tables
from policykd.envs.skills import Skill, get_skill, skill_ids
from policykd.envs.terrains import Terrain
from policykd.errors import ConfigError
from policykd.evaluation import Evaluation, evaluate, evaluation_table


@singledispatch
def run(command: object, console: Console) -> None:
    """Run one command.

    Args:
        command: one of ``policykd.cli.commands``.
        console: where the outcome is printed.

    Raises:
        PolicykdError: for bad input.
    """
    raise TypeError(f"no such command: {command!r}")


def load_named(paths: Sequence[Path]) -> dict[str, LoadedPolicy]:
    """Policies by the shortest distinct ends of their paths."""
    for depth in range(1, 20):
        names = ["/".join(p.resolve().parts[-depth:]).removesuffix(".zip") for p in paths]
        if len(set(names)) == len(paths):
            break
    else:
        raise ConfigError("the same policy was given twice")
    return {name: load_policy(path) for name, path in zip(names, paths, strict=True)}


def expert_of(policies: dict[str, LoadedPolicy]) -> dict[str, str]:
    """Skill to the name of the policy that was trained on that skill alone."""
    return {
        loaded.manifest.skills[0]: name
        for name, loaded in policies.items()
        if loaded.manifest.operation == "train" and len(loaded.manifest.skills) == 1
    }


@run.register
def _(command: Train, console: Console) -> None:
    if not command.skills:
        raise ConfigError(f"name a skill to train, for example biped/flat (valid: {', '.join(skill_ids())})")
    skills = [get_skill(name, command.groups or None) for name in command.skills]
    config = TrainConfig(
        algorithm=command.algorithm,
        steps=command.steps,
        seed=command.seed,
        target_success=command.target_success,
        threads=command.threads,
        device=command.device,
    )
    if command.algorithm == "sac":
        config = replace(config, architecture=replace(config.architecture, squash=True))
    if command.encoder:
        architecture = replace(config.architecture, encoders=(parse_encoder(command.encoder),))
        config = replace(config, architecture=architecture)
    config = with_overrides(config, command.set)
    for skill in skills:
        # Read anew for every expert: training changes the policy that it starts from.
        init = load_policy(command.init) if command.init else None
        out = command.out / folder_name(skill)
        result = train_expert([skill], out, config, init=init, resume=command.resume, progress=Bars(console))
        print_trained(skill, result, config, console)


def folder_name(skill: Skill) -> str:
    """Folder of a skill's expert: its id without the robot, in characters that every file system takes."""
    return skill.id.partition("/")[2].replace(":", "-").replace("@", "-")


def print_trained(skill: Skill, result: TrainResult, config: TrainConfig, console: Console) -> None:
    """Say where an expert is, and whether it reached its target."""
    console.print(
        f"{skill.id}: success {result.success:.2f}, reward {result.reward_per_step:.3f} per step, "
        f"{result.steps:,} steps, {result.seconds:.0f} s -> {result.policy_path}",
        highlight=False,
        soft_wrap=True,
    )
    if not result.reached_target and config.target_success <= 1:
        console.print(f"  the budget ended before validation success reached {config.target_success:g}")
    if result.failures:
        console.print(f"  {result.failures} simulations failed in MuJoCo and were reset")


@run.register
def _(command: Merge, console: Console) -> None:
    run_merge(command, console)


@run.register
def _(command: Inject, console: Console) -> None:
    run_inject(command, console)


@run.register
def _(command: Evaluate, console: Console) -> None:
    policies = load_named(command.policies)
    made_for = dict.fromkeys(skill for loaded in policies.values() for skill in loaded.manifest.skills)
    groups = tuple(dict.fromkeys(name for loaded in policies.values() for name in loaded.policy.groups))
    skills = [get_skill(name, groups) for name in command.skills or made_for]
    experts = {s: name for s, name in expert_of(policies).items() if s in {k.id for k in skills}}
    evaluation = evaluate(
        {name: loaded.policy for name, loaded in policies.items()},
        skills,
        episodes=command.episodes,
        seed=command.seed,
        threads=command.threads,
        device=command.device,
        noise=command.noise,
        experts=experts,
        progress=Bars(console),
    )
    evaluation.save(command.out)
    print_evaluation(evaluation, console)
    console.print(f"-> {command.out}", highlight=False, soft_wrap=True)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation as a table."""
    console.print(evaluation_table(evaluation))


@run.register
def _(command: Render, console: Console) -> None:
    from policykd.report.video import render_video

    policy = load_policy(command.policy).policy
    skill = get_skill(command.skill, tuple(policy.groups))
    render_video(policy, skill, command.out, seed=command.seed, seconds=command.seconds)
    console.print(f"-> {command.out}", highlight=False, soft_wrap=True)


@run.register
def _(command: Skills, console: Console) -> None:
    for table in skill_tables():
        console.print(table)
    console.print(
        "add :terrainrlsim for the released simulator's terrain parameters or :hard for ours, @0.5 for half the "
        "difficulty, +hop for another task: biped/gaps:hard@0.5, biped/flat+hop"
    )
    if command.gallery:
        from policykd.report.plots.terrains import draw_gallery

        shown = [get_skill(name) for name in skill_ids()]
        terrain = [Terrain(s.terrain.name, command.preset, command.difficulty) for s in shown]
        skills = [replace(s, terrain=t) for s, t in zip(shown, terrain, strict=True)]
        draw_gallery(skills, command.gallery, seed=command.seed)
        console.print(f"-> {command.gallery}", highlight=False, soft_wrap=True)


@run.register
def _(command: Demo, console: Console) -> None:
    from policykd.demo import run_demo

    if len(command.skills) < 2:
        raise ConfigError("a demo merges experts; give at least two skills")
    outcome = run_demo(
        [get_skill(name) for name in command.skills],
        command.out,
        episodes=command.episodes,
        seed=command.seed,
        threads=command.threads,
        video=command.video,
        progress=Bars(console),
    )
    print_evaluation(outcome.evaluation, console)
    console.print(f"{outcome.seconds:.0f} s in all; open {outcome.page}", highlight=False, soft_wrap=True)


@run.register
def _(command: Doctor, console: Console) -> None:
    run_doctor(command, console)
