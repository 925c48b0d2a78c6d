"""Figures of fine-tuning: docs/training.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import finetuning
from doc_figures.formats import cells, short, spread
from doc_figures.registry import Rows, table

SEEDS = range(3)

TARGET = "quadruped/slopes"

ARMS = (
    "default", "without averaging", "without averaging and warm-up", "without averaging and rehearsal",
    "without all three",
)  # fmt: skip
"""Arms of ``benchmarks/finetuning.py`` in the order of the table."""

HEAD = ("arm", "slopes: success", "slopes: reward per step", "least old skill: % of its reward", "its success",
        "least in any validation, %")  # fmt: skip


def _file(arm: str, seed: int) -> str:
    return f"finetuning/{TARGET.replace('/', '-')}-{arm.replace(' ', '-')}-{seed}.json"


@table("training.md", *(_file(arm, seed) for arm in ARMS for seed in SEEDS), head=HEAD)
def finetuning_arms(*runs: Mapping[str, Any]) -> Rows:
    """Return what a skill gained and the others lost by arm, over the seeds."""
    groups = [runs[i : i + len(SEEDS)] for i in range(0, len(runs), len(SEEDS))]
    return [_row(group) for group in groups]


@table("training.md", *(f"finetuning/quadruped-mixed-default-{seed}.json" for seed in SEEDS))
def finetuning_mixed(*runs: Mapping[str, Any]) -> Rows:
    """Return success and reward of every skill before and after fine-tuning on a mixture of all terrains."""
    rows = []
    for skill in runs[0]["skills"]:
        figures = [run["skills"][skill] for run in runs]
        gains = [
            _gain([(one["start"][key][0], one["result"][key][0]) for one in figures], digits)
            for key, digits in (("success", 2), ("reward_per_step", 3))
        ]
        name = short(skill) + (" (to improve)" if skill == runs[0]["target"] else "")
        rows.append((name, *gains, spread([100 * one["result"]["retention"][0] for one in figures], 1)))
    return rows


def _row(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    gains = (_gain([finetuning.gain(run, name) for run in runs], digits)
             for name, digits in (("success", 2), ("reward_per_step", 3)))  # fmt: skip
    validated = [value for run in runs if (value := finetuning.least_validated(run)) is not None]
    lowest = spread([100 * value for value in validated], 1) if validated else "not measured"
    kept = spread([100 * finetuning.least_kept(run) for run in runs], 1)
    success = spread([finetuning.least_success(run) for run in runs], 2)
    return (runs[0]["arm"], *gains, kept, success, lowest)


def _gain(pairs: Sequence[tuple[float, float]], digits: int) -> str:
    """Return the mean of the starts, and mean, least and largest of the results."""
    start = statistics.mean(first for first, _ in pairs)
    return f"{start:.{digits}f} to {spread([last for _, last in pairs], digits)}"


@table("training.md", "finetune-quadruped-slopes.json")
def finetune_slopes(content: dict[str, Any]) -> Rows:
    """Return success and reward per step before and after fine-tuning."""
    evaluation = content["evaluation"]
    found = cells(evaluation)
    first = "quadruped/slopes"
    skills = [first, *(skill for skill in evaluation["skills"] if skill != first)]
    arms = ("plaid0/policy", "ft_slopes/policy", "ft_soft/policy", "ft_bare/policy")
    return [
        (
            short(skill) + (" (to improve)" if skill == first else ""),
            *(
                f"{found[arm, skill]['success']['estimate']:.2f}, "
                f"{found[arm, skill]['reward_per_step']['estimate']:.3f}"
                for arm in arms
            ),
        )
        for skill in skills
    ]
