"""Figures of the demos and of experts from scratch: docs/figures.md."""

from __future__ import annotations

from typing import Any

from doc_figures.formats import DASH, cells, interval, millions, short
from doc_figures.registry import Rows, phrases, table

_QUADRUPED = "demo-quadruped-evaluation"
_WIDE = 3
"""Digits of retention and of rewards."""


@table("figures.md", f"{_QUADRUPED}.json")
def demo(evaluation: dict[str, Any]) -> Rows:
    """Return each skill's expert, the best other expert, and the student."""
    found = cells(evaluation)
    return [
        (
            short(skill),
            interval(found[expert, skill]["success"]),
            interval(max((found[name, skill]["success"] for name in set(evaluation["experts"].values()) - {expert}),
                         key=lambda one: one["estimate"])),
            interval(found["student", skill]["success"]),
            interval(found["student", skill]["retention"], _WIDE),
        )
        for skill, expert in evaluation["experts"].items()
    ]  # fmt: skip


@table("figures.md", f"{_QUADRUPED}.json", f"{_QUADRUPED}-1.json", f"{_QUADRUPED}-2.json")
def demo_seeds(*evaluations: dict[str, Any]) -> Rows:
    """Return the student's success and retention with three seeds."""
    found = [cells(evaluation) for evaluation in evaluations]
    return [
        (
            short(skill),
            ", ".join(f"{one['student', skill]['success']['estimate']:.2f}" for one in found),
            ", ".join(f"{one['student', skill]['retention']['estimate']:.3f}" for one in found),
        )
        for skill in evaluations[0]["skills"]
    ]


@phrases("figures.md", f"{_QUADRUPED}-other-processor.json", "demo-quadruped-honest.json")
def demo_elsewhere(other: dict[str, Any], honest: dict[str, Any]) -> list[str]:
    """Return the figures on another processor, and with careful physics."""
    found, careful = cells(other), cells(honest)
    weak = "quadruped/incline"
    expert = found[other["experts"][weak], weak]["success"]
    there = found["student", weak]["success"]["estimate"]
    (all_careful,) = {tuple(careful["student", skill]["success"][key] for key in ("estimate", "low", "high"))
                      for skill in honest["skills"]}  # fmt: skip
    return [
        f"an expert of the incline whose success was rising when its budget ended, {interval(expert)}, and a student "
        f"with {there:.2f} there",
        f"the student of the first table succeeds on every terrain in all "
        f"{honest['episodes'] * int(all_careful[0])} episodes ({all_careful[1]:.2f}{DASH}{all_careful[2]:.2f})",
    ]


@table("figures.md", "demo-evaluation.json")
def demo_biped(evaluation: dict[str, Any]) -> Rows:
    """Return every policy on every skill."""
    found, rows = cells(evaluation), []
    for skill in evaluation["skills"]:
        for name in [one for one in evaluation["policies"] if one != "student"] + ["student"]:
            one = found[name, skill]
            own = evaluation["experts"][skill] == name
            rows.append(
                (
                    "" if rows and len(rows) % len(evaluation["policies"]) else short(skill),
                    name if name == "student" else f"{name} expert",
                    interval(one["success"]),
                    interval(one["reward_per_step"], _WIDE),
                    "1" if own else interval(one["retention"], _WIDE),
                    f"{one['distance']['estimate']:.1f}",
                )
            )
    return rows


@table("figures.md", "terrains.json")
def experts_from_scratch(content: dict[str, Any]) -> Rows:
    """Return one row per terrain and seed."""
    rows, last = [], ""
    for run in content["runs"]:
        rows.append(
            (
                "" if run["terrain"] == last else run["terrain"],
                str(run["seed"]),
                millions(run["steps"]),
                f"{run['seconds']:.0f}",
                interval(run["success"], _WIDE),
                interval(run["reward_per_step"], _WIDE),
            )
        )
        last = run["terrain"]
    return rows


@table(
    "robots.md", "demo-humanoid-evaluation.json", "demo-humanoid-20-seconds.json",
    head=("skill", "policy", "success in 10 s, 64 tracks", "retention", "success in 20 s, 256 tracks",
          "distance in 20 s, m"),
)  # fmt: skip
def humanoid(usual: dict[str, Any], longer: dict[str, Any]) -> Rows:
    """Return success, retention and distance of the humanoid's experts and student."""
    found, far = cells(usual), cells(longer)
    return [
        (
            short(skill),
            "its expert" if name == usual["experts"][skill] else name,
            interval(found[name, skill]["success"], 2, " to "),
            interval(found[name, skill]["retention"], 2, " to "),
            interval(far[name, skill]["success"], 2, " to "),
            interval(far[name, skill]["distance"], 1, " to "),
        )
        for skill in usual["skills"]
        for name in (usual["experts"][skill], "student")
    ]
