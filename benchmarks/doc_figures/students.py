"""Figures of students that see less than their teachers: docs/merging.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from doc_figures.formats import interval, short
from doc_figures.registry import Rows, phrases, table

SKILLS = tuple(f"quadruped/{name}" for name in ("flat", "slopes", "steps", "incline", "gaps"))

CELLS = ("sighted", "without-velocity", "blind-mlp", "blind-gru", "blind-gru-48-rounds")
"""Merges of ``benchmarks/students.py`` with seed 0, in the order of the table."""

BLIND = (
    "blind-mlp-0", "blind-mlp-1", "blind-mlp-finetuned-privileged-0", "blind-mlp-finetuned-privileged-1",
    "blind-mlp-finetuned-larger-batches-0", "blind-mlp-more-states-0",
    "blind-history-0", "blind-history-finetuned-privileged-0", "blind-history-finetuned-larger-batches-0",
    "blind-gru-0", "blind-gru-finetuned-privileged-0", "blind-gru-more-states-0",
    "blind-gru-more-states-1", "blind-gru-more-states-2", "blind-gru-most-states-1", "blind-gru-most-states-2",
    "blind-gru-more-states-finetuned-privileged-0", "blind-gru-more-states-finetuned-larger-batches-0",
    "blind-gru-more-states-finetuned-larger-batches-1",
)  # fmt: skip
"""Students of four experts, without that of gaps, by kind and seed."""

HEAD = ("student", "rounds", "parameters", *(short(skill) for skill in SKILLS), "processor time, s")


@table("merging.md", *(f"students/{cell}-0.json" for cell in CELLS), head=HEAD)
def students(*cells: Mapping[str, Any]) -> Rows:
    """Return success per skill of every student, below that of the experts."""
    experts = [f"{cells[0]['experts'][skill]['success'][0]:.2f}" for skill in SKILLS]
    return [("experts", "", "", *experts, ""), *map(_row, cells)]


@table("merging.md", *(f"students-without-gaps/{cell}.json" for cell in BLIND),
       head=("student", "seed", *(short(skill) for skill in SKILLS[:-1]), "processor time, s"))  # fmt: skip
def blind_students(*cells: Mapping[str, Any]) -> Rows:
    """Return success per skill of every blind student."""
    return [
        (_name(cell), str(cell["seed"]),
         *(interval(cell["skills"][skill]["success"], 2, " to ") for skill in SKILLS[:-1]),
         f"{cell['processor_seconds']:.0f}")
        for cell in cells
    ]  # fmt: skip


@phrases("merging.md", "disagreement.json")
def disagreement(content: Mapping[str, Any]) -> list[str]:
    """Return how far the experts' actions are apart, and how much they vary."""
    apart = [value for one in content["skills"].values() for value in one["apart"].values()]
    spread = [one["spread"] for one in content["skills"].values()]
    return [
        f"them differ by {min(apart):.2f} to {max(apart):.2f} (root mean square), "
        f"where the actions of one vary by {min(spread):.2f} to {max(spread):.2f}"
    ]


def _name(cell: Mapping[str, Any]) -> str:
    """Return the kind of a student, and what in its settings differs from the others'."""
    name = cell["student"].replace("fine-tuned with a privileged critic", "fine-tuned")
    steps = re.search(r"--more-steps (\d+)", cell["command"])
    name += f", from {0.96 * int(steps[1]):.2f} M states" if steps else ""  # states and gradient steps grow alike
    return name + (", larger batches" if "--ppo" in cell["command"] else "")


@phrases("merging.md", "students-short-experts/disagreement.json", "disagreement.json",
         "students-short-experts/blind-gru-0.json")  # fmt: skip
def short_experts(short_ones: Mapping[str, Any], usual: Mapping[str, Any], gru: Mapping[str, Any]) -> list[str]:
    """Return how far experts that were trained less are from the flat one, and what a GRU learns from them."""
    near, far = (
        [content["skills"]["quadruped/flat"]["apart"][name] for name in ("slopes", "steps")]
        for content in (short_ones, usual)
    )
    success = [f"{gru['skills'][skill]['success'][0]:.2f}" for skill in SKILLS[:-1]]
    return [
        f"differ by {near[0]:.2f} and {near[1]:.2f} from the flat one in its first half second, instead of "
        f"{far[0]:.2f} and {far[1]:.2f}",
        f"a success of {', '.join(success[:-1])} and {success[-1]} on flat, slopes, steps and incline",
    ]


def _row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row of one student."""
    kept = [f"{cell['skills'][skill]['success'][0]:.2f}" for skill in SKILLS]
    return (cell["student"], str(cell["rounds"]), f"{cell['parameters']:,}", *kept, f"{cell['processor_seconds']:.0f}")
