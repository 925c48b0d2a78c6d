"""Figures of students that see less than their teachers: docs/merging.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doc_figures.formats import short, spread
from doc_figures.registry import Rows, table

SEEDS = range(3)

SKILLS = tuple(f"quadruped/{name}" for name in ("flat", "slopes", "steps", "incline", "gaps"))

KINDS = ("sighted", "without velocity", "blind mlp", "blind history", "blind gru", "blind latent")
"""Students of ``benchmarks/students.py`` in the order of the table."""

HEAD = ("student", "parameters", *(short(skill) for skill in SKILLS), "processor time, s")


def _file(kind: str, seed: int) -> str:
    return f"students/{kind.replace(' ', '-')}-{seed}.json"


@table("merging.md", *(_file(kind, seed) for kind in KINDS for seed in SEEDS), head=HEAD)
def students(*cells: Mapping[str, Any]) -> Rows:
    """Return success per skill of every kind of student, over the seeds, below that of the experts."""
    experts = [f"{cells[0]['experts'][skill]['success'][0]:.2f}" for skill in SKILLS]
    groups = [cells[i : i + len(SEEDS)] for i in range(0, len(cells), len(SEEDS))]
    return [("experts", "", *experts, ""), *(_row(group) for group in groups)]


def _row(cells: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the row of one kind: means over the seeds with the least and the largest."""
    kept = [spread([cell["skills"][skill]["success"][0] for cell in cells], 2) for skill in SKILLS]
    cost = spread([cell["merge_processor_seconds"] for cell in cells], 0)
    return (cells[0]["student"], f"{cells[0]['parameters']:,}", *kept, cost)
