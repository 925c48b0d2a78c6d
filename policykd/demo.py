"""The demo: train experts, merge them into one student, evaluate and film it, and write a results page.

It calls the functions behind the commands ``train``, ``merge``, ``evaluate`` and ``render``, and does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig, train_expert
from policykd.envs.skill_records import skill_record
from policykd.envs.skills import Skill, folder_names
from policykd.evaluation import Evaluation, evaluate
from policykd.executor import Processes
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.report.pages.run import write_page
from policykd.report.plots.terrains import draw_gallery
from policykd.report.video import render_video
from policykd.storage import prepare_folder, write_json

DEMO_TRAIN = TrainConfig(steps=1_500_000, target_success=0.97)
"""Training configuration of the demo's experts: a small budget, and early stopping."""

DEMO_EXPERTS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "flat": replace(DEMO_TRAIN, steps=500_000),
        "steps": replace(DEMO_TRAIN, steps=1_900_000),
        "gaps": replace(DEMO_TRAIN, steps=2_000_000),
    }
)
"""Training configurations by terrain name, for terrains that need another budget; see docs/training.md."""

DEMO_MERGE = MergeConfig(rounds=10, updates=1000, target_retention=0.98, adaptive=0.5)
"""Merge configuration of the demo: few rounds; half of the effort goes to skills where the student lags behind."""


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
    train: Mapping[str, TrainConfig] = DEMO_EXPERTS,
    merge: MergeConfig = DEMO_MERGE,
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
        train: training configurations by terrain name; other terrains use :data:`DEMO_TRAIN`. Their seed is replaced
            by ``seed``, and each expert is trained on one thread.
        merge: merge configuration; its seed and threads are replaced by ``seed`` and ``threads``.
        episodes: evaluation episodes per policy and skill.
        seed: seed of training, merging, evaluation and videos.
        threads: cores to use; None for all usable ones.
        video: whether to film the student.
        progress: progress reporter.

    Returns:
        The evaluation, the page and the elapsed time.

    Raises:
        PolicykdError: if the folder, a configuration, training, merging, evaluation or filming is refused.
    """
    began = time.perf_counter()
    prepare_folder(out, megabytes=300)
    chosen = {s: replace(train.get(s.terrain.name, DEMO_TRAIN), seed=seed, threads=1) for s in skills}
    names = folder_names(skills)
    jobs = [(s, out / "experts" / name, chosen[s]) for s, name in zip(skills, names, strict=True)]
    experts = dict(zip(names, _train_experts(jobs, threads, progress), strict=True))
    merge = replace(merge, seed=seed, threads=threads)
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
    draw_gallery(skills, out / "terrains.png", seed=seed)
    if video:
        _film(policies["student"], skills, out / "videos", seed, progress)
    seconds = time.perf_counter() - began
    records = [skill_record(skill) for skill in skills]
    write_json(out / "demo.json", as_plain({"skills": records, "episodes": episodes, "seed": seed, "seconds": seconds}))
    return DemoOutcome(evaluation, write_page(out), seconds)


_Job = tuple[Skill, Path, TrainConfig]


def _train_experts(jobs: Sequence[_Job], threads: int | None, progress: Progress) -> list[LoadedPolicy]:
    """Train one expert per skill in parallel, each on one core; return them in the order of the jobs."""
    # Largest budgets first: if they started last, the other cores would be idle at the end.
    ordered = sorted(jobs, key=lambda job: -job[2].steps)
    paths = Processes(threads).map(_train_one, ordered, progress)
    found = {skill: path for (skill, _, _), path in zip(ordered, paths, strict=True)}
    return [load_policy(found[skill]) for skill, _, _ in jobs]


def _train_one(job: _Job, progress: Progress) -> Path:
    skill, out, config = job
    return train_expert([skill], out, config, resume=True, progress=progress).policy_path


def _film(student: Policy, skills: Sequence[Skill], folder: Path, seed: int, progress: Progress) -> None:
    folder.mkdir(exist_ok=True)
    progress.begin("film the student", len(skills), "clips")
    for i, skill in enumerate(skills):
        render_video(student, skill, folder / f"{skill.slug}.mp4", seed=seed)
        progress.update("film the student", i + 1)
    progress.end("film the student")
