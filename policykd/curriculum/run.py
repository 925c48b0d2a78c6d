"""Run a curriculum: its stages in order, independent ones side by side, none twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.curriculum.plans import make_plan
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.records import CurriculumResult, read_result
from policykd.curriculum.stages import Measure, Outcome, Plan, Stage
from policykd.curriculum.work import StageFolders, run_stage
from policykd.curriculum.yaml_files import save_recipe
from policykd.envs.devices import choose_device
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
    twins: Sequence[Path] = (),
    progress: Progress = Silent(),
) -> CurriculumResult:
    """Run a recipe's curriculum, or what is left of it.

    Args:
        recipe: the recipe.
        out: folder of the run; stage ``s`` lives in ``out / "stages" / s``, the last policy in ``out / "policy"``.
        seed: seed of everything but the measurements, whose tracks are the recipe's.
        threads: cores to use; None for all usable ones.
        resume: continue what is there; finished stages are not run again.
        twins: folders of runs of the same recipe and seed with other curricula, whose finished trainings are copied,
            at their cost, where this one would only repeat them.
        progress: who watches.

    Returns:
        The matrix, the cost of every stage, and where the policies are; equal, timings apart, whether or not the run
        was interrupted, for equal ``threads``.

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
        folders = StageFolders(out / "stages", [twin / "stages" for twin in twins])
        run_stages(plan, folders, cores, progress)
        copy_folder(folders.policy(plan.rows[-1].stage), out / "policy")
        result = read_result(out, plan, recipe, seed)
        result.save(out / "curriculum.json")
        folder.finish({"seconds_of_last_session": time.perf_counter() - began})
    return CurriculumResult.load(out / "curriculum.json")


@dataclass(frozen=True)
class _Job:
    stage: Stage
    folders: StageFolders


def run_stages(plan: Plan, folders: StageFolders, cores: int, progress: Progress) -> None:
    """Run the stages of a plan as their needs are met; finished ones are not run again.

    Args:
        plan: the plan.
        folders: where the stages live.
        cores: cores to use. A stage alone uses all of them; several trainings or merges at once use one each.
        progress: who watches.
    """
    waiting = list(plan.stages)
    finished: set[str] = set()
    while waiting:
        ready = [stage for stage in waiting if set(stage.needs) <= finished]
        # Measurements are short and use all cores; training and merging side by side use one core each. What runs
        # side by side follows from the plan alone: a resumed stage must get the threads that it began with.
        long = [stage for stage in ready if not isinstance(stage, Measure)]
        if len(long) > 1 and cores > 1:
            done: Sequence[Stage] = long
            _side_by_side([s for s in done if folders.outcome(s.name) is None], folders, cores, progress)
        else:
            done = ready[:1]
            run_stage(done[0], folders, threads=cores, progress=progress)
        finished |= {stage.name for stage in done}
        waiting = [stage for stage in waiting if stage.name not in finished]


def _side_by_side(stages: Sequence[Stage], folders: StageFolders, cores: int, progress: Progress) -> None:
    if not stages:
        return
    # The largest budgets first: begun last, they would leave the other cores idle at the end.
    ordered = sorted(stages, key=lambda stage: -getattr(getattr(stage, "config", None), "steps", 0))
    Processes(cores).map(_run_one, [_Job(stage, folders) for stage in ordered], progress)


def _run_one(job: _Job, progress: Progress) -> Outcome:
    return run_stage(job.stage, job.folders, threads=1, progress=progress)
