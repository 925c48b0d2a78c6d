"""Run one stage: the only module where a curriculum calls training, injection, merging and evaluation.

It writes into the folder of its stage and reads those of the stages that it needs.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

from policykd.agents.files.policy_file import LoadedPolicy, load_policy, save_policy
from policykd.agents.injection import inject_file
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig, train_expert
from policykd.agents.training.experts import request
from policykd.curriculum.stages import Existing, Finetune, Inject, Measure, Merge, Outcome, Stage, Train
from policykd.errors import ConfigError, OutputError
from policykd.evaluation import Evaluation, evaluate
from policykd.evaluation.results import RANDOM
from policykd.finetune.run import finetune
from policykd.merge import Teacher, merge_experts
from policykd.merge.conflicts import check_conflicts
from policykd.plain import as_plain, from_plain
from policykd.progress import Progress
from policykd.runs import read_log, same_run
from policykd.seeding import integer_seed
from policykd.storage import copy_folder, prepare_folder, read_json, write_json

UNTRAINED = "untrained"
"""Name of the policy with new weights in an evaluation."""

EVALUATION = "evaluation.json"
"""File of a measurement's evaluation, in its folder."""


class StageFolders:
    """The folders of a curriculum's stages: ``<root>/<stage>``, each with ``stage.json`` once it is finished.

    Args:
        root: the folder.
        siblings: roots of other runs of the same recipe and seed.
    """

    def __init__(self, root: Path, siblings: Sequence[Path] = ()) -> None:
        self._root, self._siblings = root, tuple(siblings)

    def __call__(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self._root / name

    def policy(self, name: str) -> Path:
        """Return the policy file of a stage."""
        return self(name) / "policy"

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a stage's log; empty for a stage without one."""
        return read_log(self(name) / "progress.jsonl")

    def evaluation(self, name: str) -> Evaluation:
        """Return the evaluation of a finished measurement.

        Raises:
            OutputError: if there is none, or it cannot be read.
        """
        return Evaluation.load(self(name) / EVALUATION)

    def outcome(self, name: str) -> Outcome | None:
        """Return the outcome of a finished stage, or None.

        Raises:
            OutputError: if it cannot be read.
        """
        path = self(name) / "stage.json"
        if not path.exists():
            return None
        return from_plain(Outcome, read_json(path), str(path), error=OutputError, strict=True)

    def adopt(self, name: str, asked: Mapping[str, Any]) -> None:
        """Copy a stage that a sibling has finished, if there is one.

        Args:
            name: name of the stage.
            asked: record of the stage in its folder; a sibling's must be equal.
        """
        for sibling in map(StageFolders, self._siblings):
            if sibling.outcome(name) is not None and same_run(sibling(name), asked):
                copy_folder(sibling(name), self(name))
                return


def run_stage(stage: Stage, folders: StageFolders, *, threads: int | None, progress: Progress) -> Outcome:
    """Run a stage, or return its outcome if it is finished.

    Args:
        stage: the stage; those that it needs must be finished.
        folders: folders of the stages.
        threads: threads of the simulation; None for one per usable core.
        progress: progress reporter.

    Returns:
        The outcome; of a training that a sibling has finished, the sibling's. It lacks the processor time of sessions
        that were killed.

    Raises:
        PolicykdError: see the library functions that the stage calls.
    """
    runner = _StageRunner(folders, threads, progress)
    if folders.outcome(stage.name) is None and isinstance(stage, Train):
        folders.adopt(stage.name, runner.training(stage))
    finished = folders.outcome(stage.name)
    if finished is not None:
        return finished
    folder = prepare_folder(folders(stage.name))
    with _stopwatch(folder / "spent.json") as spent:
        steps, figures = runner.run(stage)
    outcome = Outcome(stage.name, stage.kind, steps, spent["seconds"], spent["cpu_seconds"], figures)
    write_json(folder / "stage.json", as_plain(outcome))
    return outcome


@contextmanager
def _stopwatch(path: Path) -> Iterator[dict[str, float]]:
    """Measure wall and processor time of the block, on top of the times of earlier sessions in the file."""
    spent = {k: float(v) for k, v in read_json(path).items()} if path.exists() else {"seconds": 0.0, "cpu_seconds": 0.0}
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent["seconds"] += time.perf_counter() - wall
        spent["cpu_seconds"] += time.process_time() - cpu
        write_json(path, spent)


class _StageRunner:
    """Runs a stage of any kind; returns environment steps and metrics."""

    def __init__(self, folders: StageFolders, threads: int | None, progress: Progress) -> None:
        self._folders, self._threads, self._progress = folders, threads, progress

    def training(self, stage: Train) -> dict[str, Any]:
        """Return the record of a training in its folder."""
        return request(stage.skills, self._config(stage), self._start(stage))

    def _config(self, stage: Train) -> TrainConfig:
        return replace(stage.config, threads=self._threads)

    def _start(self, stage: Train) -> LoadedPolicy | None:
        return None if stage.start is None else load_policy(self._folders.policy(stage.start))

    @singledispatchmethod
    def run(self, stage: object) -> tuple[int, dict[str, Any]]:
        raise TypeError(f"no such stage: {stage!r}")

    @run.register
    def _existing(self, stage: Existing) -> tuple[int, dict[str, Any]]:
        policy, manifest = load_policy(stage.source)
        if manifest.weights_sha256 != stage.weights_sha256:
            raise ConfigError(f"the policy at {stage.source} has changed since this run began; choose another --out")
        save_policy(
            self._folders.policy(stage.name),
            policy,
            robot=manifest.body(),
            skills=manifest.skills,
            skill_records=manifest.skill_records,
            operation=manifest.operation,
            parents=manifest.parents,
            seed=manifest.seed,
            metrics=manifest.metrics,
            config=manifest.config,
        )
        return 0, {}

    @run.register
    def _train(self, stage: Train) -> tuple[int, dict[str, Any]]:
        init = self._start(stage)
        if init is not None and stage.noise is not None:
            init.policy.log_std.data.fill_(math.log(stage.noise))
        result = train_expert(
            stage.skills,
            self._folders(stage.name),
            self._config(stage),
            init=init,
            resume=True,
            progress=self._progress,
        )
        figures = {"success": result.success, "reward_per_step": result.reward_per_step}
        return result.steps, {**figures, "reached_target": result.reached_target}

    @run.register
    def _inject(self, stage: Inject) -> tuple[int, dict[str, Any]]:
        how = stage.injection
        # A killed session may have written a policy without its outcome.
        shutil.rmtree(self._folders.policy(stage.name), ignore_errors=True)
        report = inject_file(
            self._folders.policy(stage.source),
            self._folders.policy(stage.name),
            how.groups,
            mode=how.mode,
            encoder=how.encoder,
            scale=how.scale,
            seed=stage.seed,
            skill=stage.skill,
            threads=self._threads,
        )
        figures = {"largest_random": report.largest_random, "largest_on_policy": report.largest_on_policy}
        return 0, {"mode": report.mode, "groups": list(report.groups), **figures}

    @run.register
    def _merge(self, stage: Merge) -> tuple[int, dict[str, Any]]:
        loaded = {name: load_policy(self._folders.policy(name)) for name in stage.needs}
        teachers = [
            Teacher(skill, loaded[name].policy, name, loaded[name].manifest.weights_sha256)
            for skill, name in zip(stage.skills, stage.teachers, strict=True)
        ]
        config, folder = replace(stage.config, threads=self._threads), self._folders(stage.name)
        init = None if stage.previous is None else loaded[stage.previous]
        if not stage.allow_conflicts:
            check_conflicts(teachers, config.seed)
        result = merge_experts(teachers, folder, config, init=init, resume=True, progress=self._progress)
        if not stage.keep_data:
            shutil.rmtree(folder / "data", ignore_errors=True)
        # The critic's returns come from one more round, in which the student acts.
        whole = len(stage.skills) * max(skill.episode_steps for skill in stage.skills) * config.envs
        critic = whole if config.critic == "td" else 0
        figures = {"retention": result.retention, "rounds": result.rounds, "reached_target": result.reached_target}
        return result.states + critic, {**figures, "states_to_retention": result.states_to_retention}

    @run.register
    def _finetune(self, stage: Finetune) -> tuple[int, dict[str, Any]]:
        result = finetune(
            load_policy(self._folders.policy(stage.start)),
            stage.skills,
            self._folders(stage.name),
            replace(stage.config, threads=self._threads),
            resume=True,
            progress=self._progress,
        )
        figures = {"improved": result.improved, "before": result.before, "after": result.after}
        return result.steps, {**figures, "rollbacks": result.rollbacks}

    @run.register
    def _measure(self, stage: Measure) -> tuple[int, dict[str, Any]]:
        if stage.policy is None:
            assert stage.reference is not None
            skill = stage.skills[0]
            seed = integer_seed(stage.seed, UNTRAINED)
            policy = Policy(skill.group_sizes, skill.robot.num_actions, stage.reference.architecture, seed)
        else:
            policy = load_policy(self._folders.policy(stage.policy)).policy
        name = stage.policy or UNTRAINED
        evaluation = evaluate(
            {name: policy},
            stage.skills,
            episodes=stage.episodes,
            seed=stage.seed,
            threads=self._threads,
            device=stage.device,
            noise=stage.policy is None,
            progress=self._progress,
        )
        evaluation.save(self._folders(stage.name) / EVALUATION)
        summary = {s: evaluation.summaries[name, s] for s in evaluation.skills}
        random = {s: evaluation.summaries[RANDOM, s] for s in evaluation.skills if (RANDOM, s) in evaluation.cells}
        figures = {
            "success": {s: v.success.estimate for s, v in summary.items()},
            "reward_per_step": {s: v.reward_per_step.estimate for s, v in summary.items()},
        }
        if random:
            figures["random"] = {s: v.reward_per_step.estimate for s, v in random.items()}
        return 0, figures
