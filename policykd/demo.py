"""The main job from start to end: train experts, merge them, measure, film, and write one page about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig, train_expert
from policykd.envs.skills import Skill
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
"""Experts of the demo: a small budget, and stopping as soon as that is good enough."""

DEMO_EXPERTS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "flat": replace(DEMO_TRAIN, steps=500_000),
        "steps": replace(DEMO_TRAIN, steps=1_900_000),
        "gaps": replace(DEMO_TRAIN, steps=2_000_000),
    }
)
"""Settings of the experts whose terrain needs others, by its name; see docs/training.md."""


DEMO_MERGE = MergeConfig(rounds=10, updates=1000, target_retention=0.98, adaptive=0.5)
"""Merge of the demo: few rounds, half of whose effort goes where the student is behind."""


@dataclass(frozen=True)
class DemoOutcome:
    """What a demo made.

    Attributes:
        evaluation: experts and student on every skill.
        page: the results page.
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
    """Train an expert per skill, merge them, evaluate everybody on every skill, film the student, write a page.

    What an earlier, interrupted demo in the same folder finished is not done again.

    Args:
        skills: one expert is trained for each.
        out: results folder.
        train: settings of the experts by the name of their terrain, :data:`DEMO_TRAIN` for those not named; ``seed``
            replaces their own, and each expert is trained on one thread.
        merge: settings of the merge; ``seed`` and ``threads`` replace its own.
        episodes: evaluation episodes per policy and skill.
        seed: seed of everything.
        threads: cores to use; None for all usable ones.
        video: whether to film.
        progress: who watches.

    Returns:
        The evaluation, the page and the time that it took.

    Raises:
        PolicykdError: see the parts.
    """
    began = time.perf_counter()
    prepare_folder(out, megabytes=300)
    chosen = {s: replace(train.get(s.terrain.name, DEMO_TRAIN), seed=seed, threads=1) for s in skills}
    experts = _train_experts([(s, out / "experts" / s.terrain.name, c) for s, c in chosen.items()], threads, progress)
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
        experts={s.id: n for s, n in zip(skills, experts, strict=True)},
        progress=progress,
    )
    evaluation.save(out / "evaluation.json")
    draw_gallery(skills, out / "terrains.png", seed=seed)
    if video:
        _film(policies["student"], skills, out / "videos", seed, progress)
    seconds = time.perf_counter() - began
    write_json(out / "demo.json", as_plain({"skills": skills, "episodes": episodes, "seed": seed, "seconds": seconds}))
    return DemoOutcome(evaluation, write_page(out), seconds)


_Job = tuple[Skill, Path, TrainConfig]


def _train_experts(jobs: Sequence[_Job], threads: int | None, progress: Progress) -> dict[str, LoadedPolicy]:
    """One expert per skill, by the name of its terrain; side by side, each on one core."""
    # The largest budgets first: begun last, they would leave the other cores idle at the end.
    ordered = sorted(jobs, key=lambda job: -job[2].steps)
    paths = Processes(threads).map(_train_one, ordered, progress)
    found = {skill: path for (skill, _, _), path in zip(ordered, paths, strict=True)}
    return {skill.terrain.name: load_policy(found[skill]) for skill, _, _ in jobs}


def _train_one(job: _Job, progress: Progress) -> Path:
    skill, out, config = job
    return train_expert([skill], out, config, resume=True, progress=progress).policy_path


def _film(student: Policy, skills: Sequence[Skill], folder: Path, seed: int, progress: Progress) -> None:
    folder.mkdir(exist_ok=True)
    progress.begin("film the student", len(skills), "clips")
    for i, skill in enumerate(skills):
        render_video(student, skill, folder / f"{skill.terrain.name}.mp4", seed=seed)
        progress.update("film the student", i + 1)
    progress.end("film the student")
