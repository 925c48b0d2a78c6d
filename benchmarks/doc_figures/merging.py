"""Figures of merges and injection."""

from __future__ import annotations

import statistics
from typing import Any

import ablation
import merge_seconds as seconds
import old_worlds as worlds
import optimizers
from doc_figures.formats import cells, interval, spread
from doc_figures.registry import Rows, phrases, table


@table("merging.md", "merge.json")
def merge_seeds(content: dict[str, Any]) -> Rows:
    """Return time, lowest retention and labeled states of a merge, by seed."""
    rows = []
    for seed, run in content["merges"].items():
        marks = run["states_to_retention"]
        reached = [
            f"{n:,}" if n is not None else f"not within {run['states']:,}" for n in (marks["0.95"], marks["0.98"])
        ]
        rows.append((seed, f"{run['seconds']:.0f}", f"{min(run['retention'].values()):.3f}", *reached))
    return rows


@table(
    "merging.md", *seconds.files_of("quadruped-adam-24", 6), *seconds.files_of("quadruped-copy-12", 3),
    *seconds.files_of("quadruped-fast", 3), *seconds.files_of("quadruped-fast-two-threads-avx512", 3),
    *seconds.files_of("quadruped-fast-two-threads", 6), *seconds.files_of("biped-fast", 3),
    *seconds.files_of("biped-fast-11-rounds", 3),
)  # fmt: skip
def merge_seconds(*merges: dict[str, Any]) -> Rows:
    """Return time, labeled states and retention of merges in seconds."""
    return [seconds.row_of(merge) for merge in merges]


@table("merging.md", *worlds.files_of(2))
def old_worlds(*merges: dict[str, Any]) -> Rows:
    """Return retention of every skill after one was added without simulating the others."""
    return worlds.rows_of(merges)


@table("merging.md", "optimizers.json", head=optimizers.HEAD)
def optimizer_steps(content: dict[str, Any]) -> Rows:
    """Return held-out loss and processor time by optimizer and gradient steps."""
    return optimizers.rows_of(content["cells"])


@table("merging.md", "merge-gap-memory.json")
def gap_memory(content: dict[str, Any]) -> Rows:
    """Return success on slopes, round by round."""
    longest = max(len(run["rounds"]) for run in content["runs"])
    return [
        (f"{run['adaptive']:g}", f"{run['gap_memory']:g}",
         *(f"{one['success']['quadruped/slopes']:.2f}" for one in run["rounds"]),
         *["stopped"] * (longest - len(run["rounds"])))
        for run in content["runs"]
    ]  # fmt: skip


@table("merging.md", "ablation.json")
def ablation_table(content: dict[str, Any]) -> Rows:
    """Return the rows of benchmarks/ablation.py without the columns that the page leaves out."""
    rows, last = [], ""
    for row in ablation.summary(content["cells"]):
        axis = "" if row["axis"] == last else row["axis"]
        last = row["axis"]
        kept = ("least retention", "mean retention", "least success", "states to 0.95")
        rows.append((axis, row["variant"], *(row[key] for key in kept)))
    return rows


@table("injection.md", "injection.json")
def injection_modes(content: dict[str, Any]) -> Rows:
    """Return differences right after the injection, and the curves' beginnings, means and ends."""
    rows = []
    for mode in ("exact", "scaled", "random"):
        arms = [arm for arm in content["arms"] if arm["mode"] == mode]
        curves = [arm["reward_per_step"] for arm in arms]
        after = ([curve[0] for curve in curves], [curve[1] for curve in curves],
                 [statistics.mean(curve) for curve in curves], [curve[-1] for curve in curves])  # fmt: skip
        largest = (f"{max(arm[key] for arm in arms):.1e}" for key in ("random", "on_policy"))
        rows.append((f"`{mode}`", *largest, *(spread(values, 3) for values in after)))
    return rows


@phrases("robots.md", "robot-a1.json", "robot-a1-honest.json", "robot-g1.json", "robot-g1-honest.json")
def own_robots(*evaluations: dict[str, Any]) -> list[str]:
    """Return success and distance of the two robots that are not shipped."""
    (a1, careful), (g1, slow) = ([next(iter(cells(one).values())) for one in pair] for pair in
                                 (evaluations[:2], evaluations[2:]))  # fmt: skip

    def meters(summary: dict[str, Any]) -> str:
        return f"{summary['distance']['estimate']:.1f} m"

    return [
        f"success {interval(a1['success'], 2, ' to ')}, {meters(a1)} in 10 s",
        f"{interval(careful['success'], 2, ' to ')}, {meters(careful)}",
        f"success {interval(g1['success'], 2, ' to ')} on 64 tracks, {meters(g1)} in 10 s",
        f"{interval(slow['success'], 2, ' to ')} with careful physics, {meters(slow)}",
    ]


@table("fuzz.md", "fuzz.json")
def fuzz(content: dict[str, Any]) -> Rows:
    """Return counts of damaged files, by format and together."""
    counts = {name: (found["cases"], found["refused"], found["loaded"], len(found["faults"]))
              for name, found in content["formats"].items()}  # fmt: skip
    counts["all"] = tuple(map(sum, zip(*counts.values(), strict=True)))
    return [(name, *(f"{count:,}" for count in row)) for name, row in counts.items()]


@table("fuzz.md", "chaos.json", head=("command", "fault", "cases", "hits", "results that differ"))
def chaos(content: dict[str, Any]) -> Rows:
    """Return counts of interrupted commands, by command and fault, and together."""
    rows = [
        (name, fault, cases.values()) for name, faults in content["runs"].items() for fault, cases in faults.items()
    ]
    every = [case for _, _, cases in rows for case in cases]
    return [
        (
            name,
            fault,
            str(len(cases)),
            str(sum(case["hits"] for case in cases)),
            str(sum(bool(case["fault"]) for case in cases)),
        )
        for name, fault, cases in [*rows, ("all", "", every)]
    ]
