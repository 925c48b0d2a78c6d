"""Run a curriculum: its stages in order, independent ones in parallel, finished ones never again.

It decides when a stage runs and in which process; ``stage_runner`` does the work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.curriculum.plans import make_plan
from policykd.curriculum.recipe import Recipe, save_recipe
from policykd.curriculum.result import RESULT, CurriculumResult, collect_result
from policykd.curriculum.skills import import_names
from policykd.curriculum.stage_runner import StageFolders, run_stage
from policykd.curriculum.stages import Measure, Outcome, Plan, Stage
from policykd.envs.devices import choose_device, is_card
from policykd.executor import Processes
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.storage import copy_folder, prepare_folder
from policykd.threads import cores_for


def run_curriculum(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    threads: int | None = None,
    resume: bool = False,
    siblings: Sequence[Path] = (),
    progress: Progress = Silent(),
) -> CurriculumResult:
    """Run a recipe's curriculum, or the stages that are left of an interrupted run.

    Args:
        recipe: the recipe.
        out: folder of the run; stage ``s`` is in ``out / "stages" / s``, the last policy in ``out / "policy"``.
        seed: seed of everything but the measurements, whose tracks are the recipe's.
        threads: cores to use; None for all usable ones.
        resume: continue an interrupted run; finished stages are not run again.
        siblings: folders of runs of the same recipe and seed with other curricula, whose finished trainings are copied
            with their cost if this run would only repeat them.
        progress: progress reporter.

    Returns:
        The matrix and the cost of every stage; equal, timings apart, whether or not the run was interrupted, for equal
        ``threads``.

    Raises:
        ContractError: before anything is run, if the skills cannot share a policy.
        ConfigError: for a run of another recipe or seed in ``out``, or an expert too weak to label.
        MissingDependencyError: before anything is run, for a device that cannot be used here.
        OutputError: if ``out`` cannot be written, or holds a run and ``resume`` is off.
    """
    plan = make_plan(recipe, seed)
    cores = cores_for(threads)
    for device in (recipe.train.device, recipe.merge.device, recipe.measurement.device):
        choose_device(device)
    prepare_folder(out, megabytes=500)
    folder = RunFolder(out, {"recipe": recipe, "seed": seed}, resume)
    if folder.result is None:
        save_recipe(recipe, out / "recipe.yaml")
        began = time.perf_counter()
        folders = StageFolders(out / "stages", [sibling / "stages" for sibling in siblings])
        run_stages(plan, folders, cores, progress)
        copy_folder(folders.policy(plan.rows[-1].stage), out / "policy")
        result = collect_result(out, plan, recipe, seed)
        result.save(out / RESULT)
        folder.finish({"seconds_of_last_session": time.perf_counter() - began})
    return CurriculumResult.load(out / RESULT)


@dataclass(frozen=True)
class _Job:
    stage: Stage
    folders: StageFolders
    imports: tuple[str, ...]


def run_stages(plan: Plan, folders: StageFolders, cores: int, progress: Progress) -> None:
    """Run the stages of a plan as soon as the stages that they need are finished; finished ones are not run again.

    Args:
        plan: the plan.
        folders: folders of the stages.
        cores: cores to use. A single stage uses all of them; trainings and merges in parallel use one each. Those of a
            CUDA device run one after the other: processes that share a card take turns, and each compiles its kernels.
        progress: progress reporter.
    """
    waiting = list(plan.stages)
    finished: set[str] = set()
    while waiting:
        ready = [stage for stage in waiting if set(stage.needs) <= finished]
        # Measurements are short and use all cores; trainings and merges in parallel use one core each. The plan alone
        # determines which stages run in parallel: a resumed stage must get the threads that it began with.
        long = [stage for stage in ready if not isinstance(stage, Measure)]
        if len(long) > 1 and cores > 1 and not any(map(_on_card, long)):
            done: Sequence[Stage] = long
            missing = [stage for stage in done if folders.outcome(stage.name) is None]
            _run_in_parallel([_Job(stage, folders, plan.imports) for stage in missing], cores, progress)
        else:
            done = ready[:1]
            run_stage(done[0], folders, threads=cores, progress=progress)
        finished |= {stage.name for stage in done}
        waiting = [stage for stage in waiting if stage.name not in finished]


def _on_card(stage: Stage) -> bool:
    """Return whether a stage runs on a CUDA device."""
    device = getattr(getattr(stage, "config", None), "device", "cpu")
    return is_card(device)


def _run_in_parallel(jobs: Sequence[_Job], cores: int, progress: Progress) -> None:
    if not jobs:
        return
    # The largest budgets first: if they began last, the other cores would be idle at the end.
    ordered = sorted(jobs, key=lambda job: -getattr(getattr(job.stage, "config", None), "steps", 0))
    Processes(cores).map(_run_one, ordered, progress)


def _run_one(job: _Job, progress: Progress) -> Outcome:
    import_names(job.imports)
    return run_stage(job.stage, job.folders, threads=1, progress=progress)
