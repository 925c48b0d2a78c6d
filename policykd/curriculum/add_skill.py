"""Add one skill to an existing student: an expert trained from it, then a merge of both.

It makes a plan of the usual stages and uses no other building blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policykd.agents.files.policy_file import LoadedPolicy, check_fits, load_policy
from policykd.agents.policy import check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.agents.training.config import TrainConfig
from policykd.curriculum.plans import MEASURE_UNTRAINED
from policykd.curriculum.recipe import Injection, Measurement
from policykd.curriculum.result import matrix_of, merged_evaluation, outcomes_of
from policykd.curriculum.runner import run_stages
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Existing, Inject, Measure, Merge, Outcome, Plan, Row, Stage, Train
from policykd.envs.foreign.skill import PREFIX, GymSkill, together
from policykd.envs.skill_records import read_skill
from policykd.envs.skills import Skill, common_contract
from policykd.errors import ConfigError, ContractError
from policykd.evaluation.matrix import SkillMatrix
from policykd.merge.config import MergeConfig
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.storage import copy_folder, prepare_folder, write_json
from policykd.threads import cores_for

OLD_RETENTION, NEW_RETENTION = 0.97, 0.95
"""Shares of reward at which a skill counts as added: of the student's on old skills, of the expert's on the new one."""

ADD_TRAIN = TrainConfig(steps=1_500_000, target_success=0.95, patience=1)
"""Training of the new skill's expert."""

ADD_NOISE = 0.35
"""Exploration noise with which that training begins, units of the action: the rest of the student's own is too small to
find a new gait."""

ADD_MERGE = MergeConfig(rounds=8, start="newest")
"""Merge of student and expert."""

ADD_MEASUREMENT = Measurement()
"""Episodes and tracks of the measurements before and after."""


@dataclass(frozen=True)
class AddedSkill:
    """A student with one skill more.

    Attributes:
        policy_path: its policy file.
        matrix: rows before and after; the student before is the expert of the old skills.
        outcomes: the stages.
        price_steps: environment steps until a validation of the merge showed every old skill at ``OLD_RETENTION`` and
            the new one at ``NEW_RETENTION``, training included; None if it never did.
        price_seconds: wall time until then, s; None if it never did.
    """

    policy_path: Path
    matrix: SkillMatrix
    outcomes: tuple[Outcome, ...]
    price_steps: int | None
    price_seconds: float | None


def add_skill(
    student: Path,
    skill: str,
    out: Path,
    *,
    train: TrainConfig = ADD_TRAIN,
    merge: MergeConfig = ADD_MERGE,
    noise: float | None = ADD_NOISE,
    measurement: Measurement = ADD_MEASUREMENT,
    seed: int = 0,
    threads: int | None = None,
    resume: bool = False,
    progress: Progress = Silent(),
) -> AddedSkill:
    """Train an expert of a new skill from a student, then merge both: the student labels its old skills.

    Args:
        student: policy file, or the folder of its run.
        skill: id of the skill to add; its parts may be ``package.module:Attribute``. Observation groups that only a new
            gymnasium environment has are injected into the student first.
        out: folder of the run; the new student is ``out / "policy"``.
        train: training of the expert; the seed is derived from ``seed``.
        merge: the merge; the seed is derived from ``seed``, and the new student has the networks of the old one.
        noise: exploration noise with which the training begins, units of the action; None keeps the student's.
        measurement: episodes and tracks of the measurements before and after.
        seed: seed of the run.
        threads: cores to use; None for all usable ones.
        resume: continue an interrupted run.
        progress: progress reporter.

    Returns:
        The new student's file, the matrix, and the price.

    Raises:
        ConfigError: if the student has the skill already, or ``out`` holds another run.
        ContractError: before anything is run, if the skill does not fit the student, or the student has a memory or a
            latent, which reinforcement learning does not train.
        UnknownNameError: for an unknown skill.
        OutputError: if ``out`` cannot be written, or holds a run and ``resume`` is off.
    """
    cores = cores_for(threads)
    loaded = load_policy(student)
    check_memoryless(loaded.policy, "policykd add-skill")
    check_one_network(loaded.policy, "policykd add-skill", mixture=True)
    plan = _plan(student, loaded, skill, train, merge, noise, measurement, seed)
    prepare_folder(out, megabytes=300)
    asked = {"student": loaded.manifest.weights_sha256, "skill": skill, "seed": seed, "noise": noise}
    folder = RunFolder(out, {**asked, "train": train, "merge": merge, "measurement": measurement}, resume)
    folders = StageFolders(out / "stages")
    run_stages(plan, folders, cores, progress)
    outcomes = outcomes_of(folders, plan)
    merged_evaluation(folders, plan).save(out / "evaluation.json")
    price = _price(folders.log("merge"), plan.columns[-1], outcomes["train"])
    copy_folder(folders.policy("merge"), out / "policy")
    result = AddedSkill(out / "policy", matrix_of(plan, outcomes), tuple(outcomes.values()), *price)
    write_json(out / "added.json", _plain(result))
    if folder.result is None:
        folder.finish({"price_steps": result.price_steps, "price_seconds": result.price_seconds})
    return result


def _plan(
    student: Path,
    loaded: LoadedPolicy,
    skill: str,
    train: TrainConfig,
    merge: MergeConfig,
    noise: float | None,
    measurement: Measurement,
    seed: int,
) -> Plan:
    old = loaded.manifest.skills
    skills = _skills(loaded, skill)
    new = skills[-1]
    if new.id in old:
        raise ConfigError(f"the student has skill {new.id} already (it has {', '.join(old)})")
    common_contract(skills)
    injected = _injection(loaded, new)
    if not isinstance(new, GymSkill):
        check_fits(loaded.manifest, new)
    start = "student" if injected is None else "inject"
    training = replace(train, seed=integer_seed(seed, "train", new.id))
    merging = replace(merge, seed=integer_seed(seed, "merge", new.id), architecture=loaded.policy.architecture)
    how: dict[str, Any] = {f: getattr(measurement, f) for f in ("episodes", "seed", "device")}
    previous = "student" if merge.start == "previous" else None
    untrained = replace(train, architecture=loaded.policy.architecture)
    stages: list[Stage] = [
        Existing("student", student, loaded.manifest.weights_sha256),
        Measure(MEASURE_UNTRAINED, None, skills, reference=untrained, **how),
        Measure("measure-student", "student", skills, **how),
        *([] if injected is None else [Inject("inject", "student", injected, integer_seed(seed, "inject"), new)]),
        Train("train", (new,), training, start, noise),
        Measure("measure-train", "train", skills, **how),
        Merge("merge", skills, (*["student"] * len(old), "train"), merging, previous),
        Measure("measure-merge", "merge", skills, **how),
    ]
    experts = {**dict.fromkeys(old, "student"), new.id: "train"}
    rows = (Row("before", "student"), Row("after", "merge"))
    return Plan(tuple(stages), rows, experts, tuple(s.id for s in skills))


def _skills(loaded: LoadedPolicy, skill: str) -> tuple[Skill, ...]:
    """Return the student's skills and the new one, with the groups of the student and of a new environment."""
    groups, old = tuple(loaded.policy.groups), loaded.manifest.skills
    if not skill.startswith(PREFIX):
        return (*(loaded.manifest.skill(name, groups) for name in old), read_skill(skill, groups))
    found = [*(loaded.manifest.skill(name) for name in old), read_skill(skill)]
    foreign = [one for one in found if isinstance(one, GymSkill)]
    if len(foreign) < len(found):
        raise ContractError(f"{skill} is a gymnasium environment and {found[0].id} is not; they cannot share a policy")
    seen = [*groups, *(name for name in found[-1].groups if name not in groups)]
    return tuple(together(foreign, seen))


def _injection(loaded: LoadedPolicy, new: Skill) -> Injection | None:
    """Return the injection of the groups that only the new environment has; None if the student reads all."""
    missing = tuple(name for name in new.groups if name not in loaded.policy.groups)
    if not isinstance(new, GymSkill) or not missing:
        return None
    return Injection(0, tuple(loaded.policy.groups), missing)


def _price(log: list[dict[str, Any]], new: str, training: Outcome) -> tuple[int, float] | tuple[None, None]:
    """Return environment steps and wall time until a validation of the merge retained enough of every skill."""
    for row in log:
        kept: Mapping[str, float] = row.get("retention", {})
        if kept and all(v >= (NEW_RETENTION if s == new else OLD_RETENTION) for s, v in kept.items()):
            return training.steps + int(row["states"]), training.seconds + float(row["seconds"])
    return None, None


def _plain(result: AddedSkill) -> dict[str, Any]:
    return {
        "matrix": result.matrix.to_json(),
        "outcomes": [asdict(outcome) for outcome in result.outcomes],
        "price_steps": result.price_steps,
        "price_seconds": result.price_seconds,
    }
