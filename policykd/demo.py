"""The demo: train experts, merge them into one student, evaluate and film it, and write a results page.

It calls the functions behind the commands ``train``, ``merge``, ``evaluate`` and ``render``, and does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig, train_expert
from policykd.agents.training.defaults import EXPERTS
from policykd.envs.robots import Robot, SpatialRobot
from policykd.envs.skill_records import skill_record
from policykd.envs.skills import Skill, folder_names, get_skill
from policykd.envs.suites import SUITES
from policykd.errors import ConfigError, check_range
from policykd.evaluation import Evaluation, evaluate
from policykd.executor import Processes
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.merge.presets import MERGE_PRESETS
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.report.pages.run import write_page
from policykd.report.plots.terrains import draw_gallery
from policykd.report.video import render_video
from policykd.runs import only_process
from policykd.storage import prepare_folder, remove_unfinished, write_json


@dataclass(frozen=True)
class DemoPlan:
    """Skills and settings of a demo.

    Attributes:
        skills: ids of the skills.
        train: training configuration of the experts.
        own: training configurations by terrain name, for terrains that need another budget; see docs/training.md.
        merge: merge configuration: few rounds; much of the effort goes to skills where the student lags behind.
        first: terrain whose expert the others start from; empty if every expert starts from nothing.
        preparation: id of a skill that the expert of ``first`` starts from; it is learned before all others and not
            merged. Empty if that expert starts from nothing.
        slowest: terrain whose expert takes the longest, although its budget is not the largest; empty if the largest
            budget takes the longest.
    """

    skills: tuple[str, ...]
    train: TrainConfig
    own: Mapping[str, TrainConfig]
    merge: MergeConfig
    first: str = ""
    preparation: str = ""
    slowest: str = ""

    def config(self, skill: Skill) -> TrainConfig:
        """Return the training configuration of a skill's expert."""
        return self.own.get(skill.terrain.name, self.train)


def _experts(robot: str, *terrains: str) -> Mapping[str, TrainConfig]:
    """Return the training configurations of a robot's experts, by terrain name."""
    return MappingProxyType({terrain: EXPERTS[f"{robot}/{terrain}"] for terrain in terrains})


DEMO_PLANS: Mapping[str, DemoPlan] = MappingProxyType(
    {
        "quadruped": DemoPlan(
            skills=SUITES["quadruped"],
            train=EXPERTS["quadruped/incline"],
            own=_experts("quadruped", "flat", "slopes", "steps", "gaps"),
            # More states, fitted less often, and tests that luck hardly passes: for experts of other seeds.
            merge=replace(
                MERGE_PRESETS["fast"],
                envs=12, passes=6.0, adaptive=0.25, rounds=12, target_retention=0.99, validation_episodes=64,
            ),
            first="flat",
            slowest="slopes",  # many small boxes under the feet
        ),
        "humanoid": DemoPlan(
            skills=("humanoid/flat", "humanoid/slopes"),
            train=EXPERTS["humanoid/slopes"],
            own=_experts("humanoid", "flat", "slopes"),
            merge=MergeConfig(
                rounds=6, envs=64, updates=400, minibatch=512, averaging=0.9995, target_retention=0.985, noise=0.05,
                optimizer="kfac", adaptive=0.4, gap_memory=0.6,
                architecture=Architecture(hidden=(256, 128), critic_hidden=(256, 128), activation="elu"),
            ),
            first="flat",
            preparation="humanoid/flat+balance",
        ),
        "biped": DemoPlan(
            skills=("biped/flat", "biped/steps", "biped/gaps"),
            train=TrainConfig(steps=1_500_000, target_success=0.97),
            own=_experts("biped", "flat", "steps", "gaps"),
            merge=MergeConfig(rounds=10, updates=1000, target_retention=0.98, adaptive=0.5),
        ),
    }
)  # fmt: skip
"""Demos by the name of the robot."""


def demo_plan(robot: Robot) -> DemoPlan:
    """Return the demo of a robot: its own, or that of the shipped robot which moves like it.

    Raises:
        ConfigError: for a robot that is simulated with the ground of its model, which has one skill.
    """
    if robot.family == "model":
        raise ConfigError(f"{robot.name} has the ground of its model only; a demo merges experts of several terrains")
    alike = "biped"
    if isinstance(robot, SpatialRobot):
        alike = "humanoid" if len(robot.body.foot_names) <= 2 else "quadruped"
    return DEMO_PLANS.get(robot.name, DEMO_PLANS[alike])


@dataclass(frozen=True)
class DemoOutcome:
    """Results of a demo.

    Attributes:
        evaluation: evaluation of the experts and the student on every skill.
        page: path of the results page.
        seconds: wall time of this session, s.
    """

    evaluation: Evaluation
    page: Path
    seconds: float


def run_demo(
    skills: Sequence[Skill],
    out: Path,
    *,
    plan: DemoPlan | None = None,
    episodes: int = 64,
    seed: int = 0,
    threads: int | None = None,
    video: bool = True,
    progress: Progress = Silent(),
) -> DemoOutcome:
    """Train an expert per skill, merge them, evaluate all policies on every skill, film the student, write a page.

    An interrupted demo in the same folder is continued: its finished parts are not repeated.

    Args:
        skills: one expert is trained for each.
        out: results folder.
        plan: settings; None for those of the skills' robot. Seeds are replaced by ``seed``; each expert is trained on
            one thread, but for the one that the others start from.
        episodes: evaluation episodes per policy and skill.
        seed: seed of training, merging, evaluation and videos.
        threads: cores to use; None for all usable ones.
        video: whether to film the student.
        progress: progress reporter.

    Returns:
        The evaluation, the page and the elapsed time.

    Raises:
        PolicykdError: if the folder, a configuration, training, merging, evaluation or filming is refused, or another
            process works in the folder.
    """
    began = time.perf_counter()
    check_range("episodes", episodes, 1, 100_000)
    check_range("seed", seed, 0, 2**63 - 1)
    plan = plan or demo_plan(skills[0].robot)
    with only_process(prepare_folder(out, megabytes=300)):
        evaluation = _train_merge_evaluate(skills, out, plan, episodes, seed, threads, progress)
        draw_gallery(skills, out / "terrains.png", seed=seed)
        if video:
            _film(load_policy(out / "student" / "policy").policy, skills, out / "videos", seed, progress)
        seconds = time.perf_counter() - began
        about = {"skills": [skill_record(skill) for skill in skills], "episodes": episodes, "seed": seed}
        write_json(out / "demo.json", as_plain({**about, "seconds": seconds}))
        return DemoOutcome(evaluation, write_page(out), seconds)


def _train_merge_evaluate(
    skills: Sequence[Skill],
    out: Path,
    plan: DemoPlan,
    episodes: int,
    seed: int,
    threads: int | None,
    progress: Progress,
) -> Evaluation:
    names = folder_names(skills)
    configs = [replace(plan.config(skill), seed=seed, threads=1) for skill in skills]
    folders = [out / "experts" / name for name in names]
    jobs = [_Job(*job, None) for job in zip(skills, folders, configs, strict=True)]
    prepared = _prepare(plan, skills[0], out, seed, threads, progress)
    experts = dict(zip(names, _train_experts(jobs, plan, prepared, threads, progress), strict=True))
    merge = replace(plan.merge, seed=seed, threads=threads)
    teachers = teachers_from(list(experts.items()))
    merged = merge_experts(teachers, out / "student", merge, resume=True, progress=progress)
    policies = {**{n: p.policy for n, p in experts.items()}, "student": load_policy(merged.policy_path).policy}
    evaluation = evaluate(
        policies,
        skills,
        episodes=episodes,
        seed=seed,
        threads=threads,
        experts={s.id: n for s, n in zip(skills, names, strict=True)},
        progress=progress,
    )
    evaluation.save(out / "evaluation.json")
    return evaluation


@dataclass(frozen=True)
class _Job:
    """An expert to train: its skill, folder and configuration, and the policy file that it starts from."""

    skill: Skill
    out: Path
    config: TrainConfig
    init: Path | None


def _prepare(plan: DemoPlan, like: Skill, out: Path, seed: int, threads: int | None, progress: Progress) -> Path | None:
    """Learn the skill that the first expert starts from, by the robot and the groups of a skill of the demo."""
    if not plan.preparation:
        return None
    known = get_skill(plan.preparation, like.groups)
    skill = replace(known, robot=like.robot)
    config = replace(EXPERTS[plan.preparation], seed=seed, threads=threads)
    return _train_one(_Job(skill, out / "preparation", config, None), progress)


def _train_experts(
    jobs: Sequence[_Job], plan: DemoPlan, prepared: Path | None, threads: int | None, progress: Progress
) -> list[LoadedPolicy]:
    """Train one expert per skill in parallel, each on one core; return them in the order of the jobs.

    The expert of the plan's first terrain is trained before the others, which start from it; it starts from
    ``prepared``.
    """
    base = next((job for job in jobs if job.skill.terrain.name == plan.first), None)
    if base is not None:
        # No other expert needs the cores yet.
        alone = replace(base, config=replace(base.config, threads=threads), init=prepared)
        start = _train_one(alone, progress)
        jobs = [alone if job is base else replace(job, init=start) for job in jobs]
    # The longest trainings first: if they started last, the other cores would be idle at the end.
    ordered = sorted(jobs, key=lambda job: (job.skill.terrain.name != plan.slowest, -job.config.steps))
    paths = Processes(threads).map(_train_one, ordered, progress)
    found = {job.skill: path for job, path in zip(ordered, paths, strict=True)}
    return [load_policy(found[job.skill]) for job in jobs]


def _train_one(job: _Job, progress: Progress) -> Path:
    init = None if job.init is None else load_policy(job.init)
    return train_expert([job.skill], job.out, job.config, init=init, resume=True, progress=progress).policy_path


def _film(student: Policy, skills: Sequence[Skill], folder: Path, seed: int, progress: Progress) -> None:
    folder.mkdir(exist_ok=True)
    remove_unfinished(folder)
    progress.begin("film the student", len(skills), "clips")
    for i, skill in enumerate(skills):
        render_video(student, skill, folder / f"{skill.slug}.mp4", seed=seed)
        progress.update("film the student", i + 1)
    progress.end("film the student")
