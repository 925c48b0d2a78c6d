"""Price of one more skill: environment steps and processor time until a student has learned it without forgetting.

    python benchmarks/sixth_skill.py STUDENT --skill biped/walls

The old skills must keep 0.97 of the student's reward, and the new one must reach 0.95 of the reward of the expert that
PLAID trains for it. Four methods are compared: PLAID (``policykd add-skill``), fine-tuning on the new skill alone,
joint training on all skills from the student, and joint training on all skills from new weights, with MultiTasker's
settings of PPO. All are validated thirty times over their budget, or after every round of PLAID's merge. Validation
episodes are not counted in the budgets.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.agents.training.trainer import make_validation
from policykd.curriculum.add_skill import ADD_NOISE, NEW_RETENTION, OLD_RETENTION, add_skill
from policykd.curriculum.recipe import JOINT_PPO
from policykd.curriculum.stage_runner import StageFolders
from policykd.envs.skills import Skill, get_skill
from policykd.plain import as_plain
from policykd.runs import read_log
from policykd.seeding import integer_seed
from policykd.storage import prepare_folder, read_json, write_json
from policykd.threads import usable_cores

VALIDATIONS = 30
ARMS = ("plaid", "fine-tuning", "joint, continued", "joint, from scratch")


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    student: tyro.conf.Positional[Path]
    """Policy file of a student, or the folder of its run."""
    skill: str = "biped/walls"
    """The new skill."""
    arms: tuple[str, ...] = ARMS
    """Methods to compare."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of learning the new skill; the student stays the same."""
    steps: int = 3_000_000
    """Budget of fine-tuning and of joint training from the student, environment steps."""
    scratch_steps: int = 8_000_000
    """Budget of joint training from new weights, environment steps."""
    episodes: int = 64
    """Validation episodes per skill."""
    out: Path = Path("results/sixth_skill")
    """Folder of the runs and of sixth_skill.json; the same command continues an interrupted benchmark."""


def rewards(loaded: LoadedPolicy, skills: Sequence[Skill], config: TrainConfig) -> dict[str, float]:
    """Return the reward per step of a policy on every skill, on the validation tracks."""
    figures = make_validation(skills, config).measure(loaded.policy)["skills"]
    return {skill: float(row["reward_per_step"]) for skill, row in figures.items()}


def kept(row: Mapping[str, Any], reference: Mapping[str, float]) -> dict[str, float]:
    """Return a validation's reward as a share of the reference's, by skill."""
    return {skill: row["skills"][skill]["reward_per_step"] / value for skill, value in reference.items()}


def enough(shares: Mapping[str, float], new: str) -> bool:
    """Return whether every old skill was kept and the new one learned."""
    return all(share >= (NEW_RETENTION if skill == new else OLD_RETENTION) for skill, share in shares.items())


def by_plaid(options: Options, seed: int, folder: Path) -> dict[str, Any]:
    """Run PLAID and return its price and the finished student's retention."""
    added = add_skill(options.student, options.skill, folder, seed=seed, threads=1, resume=True)
    spent = [outcome for outcome in added.outcomes if outcome.kind in ("train", "merge")]
    return {
        "steps": added.price_steps,
        "seconds": added.price_seconds,
        "budget": sum(outcome.steps for outcome in spent),
        "kept": dict(zip(added.matrix.skills, added.matrix.retention.tolist(), strict=True)),
    }


def by_training(arm: str, options: Options, seed: int, folder: Path, expert: Path) -> dict[str, Any]:
    """Run fine-tuning or joint training and return its price, and the validation with the best weakest skill."""
    student = load_policy(options.student)
    groups = tuple(student.policy.groups)
    new = get_skill(options.skill, groups)
    skills = [*(get_skill(name, groups) for name in student.manifest.skills), new]
    scratch = arm == "joint, from scratch"
    steps = options.scratch_steps if scratch else options.steps
    config = TrainConfig(
        steps=steps,
        segment_steps=math.ceil(steps / VALIDATIONS),
        seed=integer_seed(seed, arm),
        target_success=2.0,
        validation_episodes=options.episodes * len(skills),
        threads=1,
        architecture=student.policy.architecture,
        ppo=PpoConfig() if arm == "fine-tuning" else JOINT_PPO,
    )
    reference = rewards(student, skills, config)
    reference[new.id] = rewards(load_policy(expert), skills, config)[new.id]
    student.policy.log_std.data.fill_(math.log(ADD_NOISE))
    trained_on = [new] if arm == "fine-tuning" else skills
    train_expert(trained_on, folder, config, init=None if scratch else student, validate_on=skills, resume=True)
    log = read_log(folder / "progress.jsonl")
    shares = [kept(row, reference) for row in log]
    reached = next((row for row, share in zip(log, shares, strict=True) if enough(share, new.id)), {})
    best = max(shares, key=lambda share: min(share.values()))
    return {"steps": reached.get("steps"), "seconds": reached.get("seconds"), "budget": config.steps, "kept": best}


def measure(options: Options, seed: int) -> dict[str, Any]:
    """Run all arms with one seed; PLAID's expert is the reference of the new skill for all arms."""
    figures = {}
    plaid = options.out / f"plaid-{seed}"
    for arm in ("plaid", *(arm for arm in options.arms if arm != "plaid")):
        folder = options.out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
        saved = folder / "price.json"
        if not saved.exists():
            expert = StageFolders(plaid / "stages").policy("train")
            found = (
                by_plaid(options, seed, plaid) if arm == "plaid" else by_training(arm, options, seed, folder, expert)
            )
            write_json(saved, found)
        figures[arm] = read_json(saved)
    return figures


def show(content: dict[str, Any], console: Console) -> None:
    """Print the table."""
    headings = ("method", "seed", "M steps", "s (one thread)", "least retention of old skills", "of the new skill")
    table = Table(*headings)
    table.title = f"price until every old skill is at {OLD_RETENTION} and {content['skill']} at {NEW_RETENTION}"
    for seed, arms in content["seeds"].items():
        for arm, row in arms.items():
            *old, new = row["kept"].values()
            never = f"not in {row['budget'] / 1e6:.1f}"
            price = (never, "-") if row["steps"] is None else (f"{row['steps'] / 1e6:.2f}", f"{row['seconds']:.0f}")
            table.add_row(arm, seed, *price, f"{min(old):.3f}", f"{new:.3f}")
    console.print(table)


def main(options: Options) -> None:
    """Measure, print and save."""
    prepare_folder(options.out)
    with ProcessPoolExecutor(usable_cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(options.seeds, pool.map(partial(measure, options), options.seeds), strict=True))
    content = {"skill": options.skill, "student": load_policy(options.student).manifest.weights_sha256}
    content |= {"options": as_plain(options), "seeds": {str(seed): arms for seed, arms in found.items()}}
    write_json(options.out / "sixth_skill.json", content)
    show(content, Console(width=120))


if __name__ == "__main__":
    main(tyro.cli(Options))
