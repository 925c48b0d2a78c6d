"""Figures of policies and environments of others: docs/import.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from doc_figures.formats import cells, interval
from doc_figures.registry import Rows, phrases, table

FOREIGN_HEAD = ("file", "environment", "return [95 % interval]", "published", "random actions", "largest difference")

LEAST_SHARE = 0.9
"""Share of its published return below which a checkpoint is named."""

ONE_BY_ONE_HEAD = ("task", "scripted expert", "when learned", "after the last task [95 % interval]", "forgotten")


@table("import.md", "foreign-experts.json", head=FOREIGN_HEAD)
def foreign_experts(content: dict[str, Any]) -> Rows:
    """Return return and parity of every public checkpoint."""
    return [
        (_file(one["file"]), _environment(one["environment"]), interval(one["mean"], 0, " to "),
         " ± ".join(f"{value:.0f}" for value in one["published"]), f"{one['random']:.0f}", f"{one['difference']:.0e}")
        for one in content["samples"]
    ]  # fmt: skip


ZOO_HEAD = ("algorithm", "checkpoints", "largest difference", "0.9 of the published return or more", "less")


@table("import.md", "foreign-experts.json", head=ZOO_HEAD)
def foreign_zoo(content: dict[str, Any]) -> Rows:
    """Return parity and returns of the checkpoints of rl-trained-agents by algorithm, and their totals."""
    rows = content["zoo"]
    names = dict.fromkeys(one["file"].partition("/")[0] for one in rows)
    groups = {name.upper(): [one for one in rows if one["file"].startswith(f"{name}/")] for name in names}
    return [_algorithm(name, own) for name, own in {**groups, "all": rows}.items()]


def _algorithm(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    poor = sorted(((share, one) for one in rows if (share := _share(one)) < LEAST_SHARE), key=itemgetter(0))
    named = ", ".join(f"{Path(one['file']).stem} {share:.2f}" for share, one in poor)
    largest = max(one["difference"] for one in rows)
    count = str(len(rows) - len(poor))
    return (name, str(len(rows)), f"{largest:.0e}", count, str(len(poor)) if name == "all" else named)


def _share(one: Mapping[str, Any]) -> float:
    """Return the share of the published return, with random actions at 0."""
    return (one["mean"]["estimate"] - one["random"]) / (one["published"][0] - one["random"])


FILES_HEAD = ("repository", "file", "features, actions", "activation, memory", "largest difference")


@table("import.md", "foreign-files.json", head=FILES_HEAD)
def foreign_files(content: dict[str, Any]) -> Rows:
    """Return sizes and parity of files without an environment, or why they are refused."""
    return [_foreign_file(one) for one in content["files"]]


def _foreign_file(one: Mapping[str, Any]) -> tuple[str, ...]:
    name = "/".join(Path(one["file"]).parts[-3:])
    if "refused" in one:
        return (one["repository"], name, "", "", f"refused: {one['refused']}")
    kind = one["activation"] + (f", {one['memory'].upper()}" if one["memory"] else "")
    difference = f"{one['difference']:.0e}" if one["difference"] is not None else (
        f"the file has {one['actions_of_the_file']} actions: {one['notes'][-1]}"
    )  # fmt: skip
    return (one["repository"], name, f"{one['features']}, {one['actions']}", kind, difference)


def _environment(text: str) -> str:
    """Return the name of an environment, and the settings of its robot."""
    name, _, given = text.partition("?")
    settings = Path(json.loads(given)["settings"]).name if given else ""
    return f"{name.rpartition(':')[2]}{settings and f', {settings}'}"


def _file(path: str) -> str:
    """Return what tells a checkpoint from the others: its folder, where the file has the environment's name."""
    *_, folder, file = path.split("/")
    return folder if file.endswith(".zip") else file


@table("import.md", "metaworld-one-by-one.json", head=ONE_BY_ONE_HEAD)
def metaworld_one_by_one(content: dict[str, Any]) -> Rows:
    """Return success per task of Meta-World when it was learned and after the last task, and the means."""
    rows = [
        (row["task"], f"{row['expert']:.2f}", f"{row['learned']:.2f}",
         f"{row['student']:.2f} [{row['low']:.2f}, {row['high']:.2f}]", f"{row['forgotten']:.2f}")
        for row in content["tasks"]
    ]  # fmt: skip
    means = (f"{content[name]:.3f}" for name in ("expert", "learned", "student", "forgotten"))
    return [*rows, ("mean", *means)]


@table("import.md", "metaworld.json", head=("task", "scripted expert", "student [95 % interval]"))
def metaworld(content: dict[str, Any]) -> Rows:
    """Return success per task of Meta-World, and the means."""
    rows = [
        (one["task"], f"{one['expert']:.2f}", f"{one['student']:.2f} [{one['low']:.2f}, {one['high']:.2f}]")
        for one in content["tasks"]
    ]
    return [*rows, ("mean", f"{content['mean_expert']:.3f}", f"{content['mean']:.3f}")]


FIFTY_HEAD = ("tasks of MT50", "number", "scripted experts, mean", "student, mean")


@table("import.md", "metaworld-50.json", head=FIFTY_HEAD)
def metaworld_fifty(content: dict[str, Any]) -> Rows:
    """Return how many of fifty tasks the student does how well, the names of the worst, and the means."""

    def row(name: str, tasks: list[dict[str, Any]]) -> tuple[str, ...]:
        means = (f"{statistics.mean(one[which] for one in tasks):.3f}" for which in ("expert", "student"))
        return (name, str(len(tasks)), *means)

    tasks = content["tasks"]
    good = [one for one in tasks if one["student"] >= 0.9]
    fair = [one for one in tasks if 0.5 <= one["student"] < 0.9]
    poor = sorted((one for one in tasks if one["student"] < 0.5), key=lambda one: one["student"])
    rows = [row("student 0.9 or more", good), row("student 0.5 to 0.9", fair)]
    rows += [(one["task"], "1", f"{one['expert']:.3f}", f"{one['student']:.3f}") for one in poor]
    return [*rows, row("all", tasks)]


@table("import.md", "import-bipedal-walker.json")
def bipedal_walker(evaluation: dict[str, Any]) -> Rows:
    """Return retention of the student and of the other expert."""
    found, rows = cells(evaluation), []
    for skill, expert in evaluation["experts"].items():
        (other,) = set(evaluation["experts"].values()) - {expert}
        retention = (interval(found[name, skill]["retention"], 2, " to ") for name in ("student", other))
        rows.append((f"{skill.removeprefix('gym:').partition('#')[0]} (PPO)", "1", *retention))
    return rows


def _returns(evaluation: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(one["policy"], one["skill"]): statistics.mean(one["total_reward"]) for one in evaluation["cells"]}


@table("import.md", "walker2d-three-experts.json")
def walker2d(evaluation: dict[str, Any]) -> Rows:
    """Return returns of experts and student, and retention."""
    found, returns = cells(evaluation), _returns(evaluation)
    return [
        (name, f"{returns[expert, skill]:.0f}", f"{returns['student', skill]:.0f}",
         interval(found["student", skill]["retention"], 2, " to "))
        for name, (skill, expert) in zip(("forward", "backward", "stand"), evaluation["experts"].items(), strict=True)
    ]  # fmt: skip


@phrases("import.md", "import-cartpole.json")
def cartpole(evaluation: dict[str, Any]) -> list[str]:
    """Return returns on CartPole."""
    totals = {one["policy"]: one["total_reward"] for one in evaluation["cells"]}
    best = [name for name, values in totals.items() if min(values) == max(values) == 500]
    chance = statistics.mean(totals["random actions"])
    return [
        f"{'both' if len(best) == 2 else len(best)} reach 500 in {evaluation['episodes']} of {evaluation['episodes']} "
        f"episodes, random actions {chance:.0f}"
    ]


@table("import.md", "unitree-g1.json")
def unitree_g1(content: dict[str, Any]) -> Rows:
    """Return walks of the imported policy and of its students."""
    merges = {f"student, seed {run['seed']}": run for run in content["merges"]}
    rows = []
    for walk in content["walks"]:
        meters, run = walk["meters"], merges.get(walk["policy"])
        up = sum(seconds >= 20 for seconds in walk["seconds"])
        mean = f"{statistics.mean(meters):.2f} m ({min(meters):.2f} to {max(meters):.2f})"
        cost = (f"{run['states']:,}", f"{run['processor_seconds']:.0f} s") if run else ("", "")
        rows.append((walk["policy"], f"{up} of {content['episodes']}", mean, *cost))
    return rows
