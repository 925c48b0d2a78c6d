"""Figures of PLAID and its baselines: docs/curricula.md."""

from __future__ import annotations

import statistics
from itertools import product
from typing import Any

from doc_figures.formats import cells, interval, millions
from doc_figures.registry import Rows, phrases, table

_LEARNED = 0.5
"""Success below which a skill counts as forgotten or not learned."""


def _task(skill: str) -> str:
    """Return what a skill is called in a comparison's table: its task on flat ground, else its terrain."""
    terrain, _, task = skill.partition("/")[2].partition("+")
    return task if task and task != "imitate" else terrain.partition(":")[0].partition("@")[0]


def _share(matrix: dict[str, Any]) -> Any:
    return matrix["derived"]["normalised"]


def _success(matrix: dict[str, Any], digits: int = 2) -> list[str]:
    return [f"{value:.{digits}f}" for value in matrix["success"][-1]]


def _run(content: dict[str, Any]) -> Rows:
    """Return the matrix of one run, one row per stage, and success at the end."""
    matrix = content["matrix"]
    rows = [
        (stage, *(f"{value:.3f}" for value in row)) for stage, row in zip(matrix["stages"], _share(matrix), strict=True)
    ]
    return [*((None, *row[1:]) for row in rows), (None, *_success(matrix))]


@table("curricula.md", "plaid-quick.json")
def plaid_quick(content: dict[str, Any]) -> Rows:
    """Return the matrix of the preset quick."""
    return _run(content)


@table("curricula.md", "plaid-standard.json")
def plaid_standard(content: dict[str, Any]) -> Rows:
    """Return the matrix of the preset standard."""
    return _run(content)


@table("curricula.md", "plaid-quick.json", "plaid-standard.json")
def plaid_cost(*contents: dict[str, Any]) -> Rows:
    """Return retention, forgetting and cost of both."""
    derived = [content["matrix"]["derived"] for content in contents]
    costs = [content["cost"] for content in contents]
    return [
        (None, *(f"{one['mean_retention']:.3f}, {min(one['retention'].values()):.3f}" for one in derived)),
        (None, *(f"{one['mean_absolute_forgetting']:.3f}" for one in derived)),
        (None, *(millions(cost["steps"]) for cost in costs)),
        (None, *(f"{cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} s" for cost in costs)),
    ]


@phrases("curricula.md", "plaid-standard.json")
def plaid_zero_shot(content: dict[str, Any]) -> list[str]:
    """Return success on terrains that were not trained."""
    names = ("mixed", "walls@0.5", "gaps:hard@0.5", "steps:hard@0.4", "slopes:hard@0.5", "downhill@0.5")
    mixed, walls, gaps, stairs, slopes, downhill = (
        f"{content['zero_shot'][f'biped/{name}']['success']:.2f}" for name in names
    )
    return [
        f"{mixed} of `mixed`, {walls} of walls of half the height, {gaps} of gaps of 0.35 to 0.4 m, "
        f"{stairs} of stairs of 0.4 of their height, {slopes} of long slopes of up to 17 degrees, "
        f"and {downhill} of endless ways down"
    ]


QUADRUPED = tuple(f"plaid-quadruped-{seed}.json" for seed in range(3))


@table("curricula.md", *QUADRUPED)
def plaid_quadruped(*contents: dict[str, Any]) -> Rows:
    """Return the matrices of the seeds side by side."""
    shares = [_share(content["matrix"]) for content in contents]
    rows = [
        (stage, *(", ".join(f"{value:.3f}" for value in cell) for cell in zip(*lines, strict=True)))
        for stage, *lines in zip(contents[0]["matrix"]["stages"], *shares, strict=True)
    ]
    ends = (_success(content["matrix"]) for content in contents)
    return [*rows, (None, *(", ".join(cell) for cell in zip(*ends, strict=True)))]


@phrases("curricula.md", *QUADRUPED)
def plaid_quadruped_cost(*contents: dict[str, Any]) -> list[str]:
    """Return losses, retention and cost of the quadruped's runs."""
    derived = [content["matrix"]["derived"] for content in contents]
    lost = max(value for one in derived for value in one["forgetting"].values())
    least = min(value for one in derived for value in one["retention"].values())
    steps = ", ".join(f"{content['cost']['steps'] / 1e6:.2f}" for content in contents)
    seconds = ", ".join(f"{content['cost']['cpu_seconds']:,.0f}" for content in contents)
    return [
        f"lost at most {lost:.3f} of its expert's reward",
        f"retained {least:.3f} or more",
        f"took {steps} M environment steps and {seconds} s of processor time",
    ]


@table("curricula.md", "plaid-environments-0.json")
def plaid_environments(content: dict[str, Any]) -> Rows:
    """Return the matrix of three gymnasium environments; the intervals of the last row are not in the file."""
    rows = [(None, *(f"{value:.3f}" for value in row)) for row in _share(content["matrix"])]
    return [*rows[:-1], (None, *(None for _ in rows[-1][1:]))]


@phrases("curricula.md", "plaid-environments-0.json", "plaid-environments-1.json")
def plaid_environments_text(content: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return retentions and cost of the run in three gymnasium environments."""
    last = [f"**{value:.3f}** (" for value in _share(content["matrix"])[-1]]
    least = min(second["matrix"]["derived"]["retention"].values())
    cost = content["cost"]
    return [
        *last,
        f"{millions(cost['steps'])} environment steps, {cost['cpu_seconds']:.0f} s of processor time",
        f"skill is retained to {least - 5e-4:.3f} or more" if least < 1 else "skill is retained to 1.000 or more",
    ]


def _summary_rows(content: dict[str, Any], names: list[str]) -> list[tuple[str | None, ...]]:
    """Return the rows below the skills: means, weakest skill, forgetting."""
    keys = {"overall": "interquartile mean over all", "mean": "mean", "weakest skill": "weakest skill",
            "forgetting": "forgetting (below 0: improved later)"}  # fmt: skip
    return [
        (title, *(interval(found, 2, "-") if (found := content["summary"][name][key]) else "-" for name in names))
        for key, title in keys.items()
    ]


def _runs(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [run for run in content["runs"] if run["curriculum"] == name]


def _seconds(content: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    costs = (statistics.mean(run["cpu_seconds"] for run in _runs(content, name)) for name in names)
    return ("processor time, s", *(f"{cost:.0f}" for cost in costs))


def _final(content: dict[str, Any], name: str, i: int) -> list[float]:
    return [run["matrix"]["success"][-1][i] for run in _runs(content, name)]


@table("curricula.md", "compare-standard.json")
def compare_standard(content: dict[str, Any]) -> Rows:
    """Return the comparison on the paper's terrains."""
    names, skills = content["curricula"], content["skills"]
    rows: list[tuple[str | None, ...]] = [
        (_task(skill), *(interval(content["summary"][name]["skills"][skill], 2, "-") for name in names))
        for skill in skills
    ]
    rows += _summary_rows(content, names)
    for i, skill in enumerate(skills):
        least = (min(_final(content, name, i)) for name in names)
        rows.append((f"lowest success of three seeds, {_task(skill)}", *(f"{value:.2f}" for value in least)))
    mixed = [[run["zero_shot"]["biped/mixed"]["success"] for run in _runs(content, name)] for name in names]
    rows.append((None, *(f"{min(values):.2f}-{max(values):.2f}" for values in mixed)))
    return [*rows, _seconds(content, names)]


def _with_success(content: dict[str, Any]) -> Rows:
    """Return a comparison whose cells have reward, then mean success and that of the worst seed."""
    names, rows = content["curricula"], []
    for i, skill in enumerate(content["skills"]):
        row = [_task(skill)]
        for name in names:
            success = _final(content, name, i)
            reward = interval(content["summary"][name]["skills"][skill], 2, "-")
            row.append(f"{reward}, {statistics.mean(success):.2f} / {min(success):.2f}")
        rows.append(tuple(row))
    return [*rows, *_summary_rows(content, names), _seconds(content, names)]


@table("curricula.md", "compare-terrains-hard.json")
def compare_hard(content: dict[str, Any]) -> Rows:
    """Return the comparison on hard terrains."""
    return _with_success(content)


@table("curricula.md", "compare-gaits.json")
def compare_gaits(content: dict[str, Any]) -> Rows:
    """Return the comparison on conflicting gaits."""
    return [(None, *row[1:]) for row in _with_success(content)]


@phrases("curricula.md", "compare-gaits.json", "compare-gaits-finetune.json")
def gaits_finetuned(content: dict[str, Any], finetuned: dict[str, Any]) -> list[str]:
    """Return success and mean reward with seed 0 of three curricula."""
    found = []
    for source, name in ((finetuned, "scratch+merge+finetune"), (content, "multitasker-joint"), (content, "plaid")):
        matrix = next(run for run in _runs(source, name) if run["seed"] == 0)["matrix"]
        success = ", ".join(f"{value:.2f}" for value in matrix["success"][-1])
        found.append(f"{success} and a mean reward of {statistics.mean(matrix['scores'][-1]):.3f}")
    return found


@phrases("curricula.md", "compare-quadruped-gaits.json", "compare-quadruped-gaits-1.json")
def quadruped_gaits_by_seed(*contents: dict[str, Any]) -> list[str]:
    """Return least success and mean reward, by seed, of the two curricula that were run with two seeds."""
    found = []
    for content, name in product(contents, ("scratch+merge+finetune", "multitasker-joint")):
        (run,) = _runs(content, name)
        matrix = run["matrix"]
        found.append(
            f"{min(matrix['success'][-1]):.2f} and a mean reward of {statistics.mean(matrix['scores'][-1]):.3f}"
        )
    return found


@phrases("curricula.md", "specialize-quadruped.json")
def specialized(content: dict[str, Any]) -> list[str]:
    """Return what one cycle gained, in the test that decided and on other tracks, in percent."""
    (cycle,) = content["cycles"]
    confirmed = {_task(skill): value for skill, value in content["confirmed"].items()}
    others = [100 * value["estimate"] for skill, value in confirmed.items() if skill != "incline"]
    low, high = (100 * confirmed["incline"][key] for key in ("low", "high"))
    return [
        f"specialist of the incline rose by {100 * cycle['specialists']['quadruped/incline']:.1f} %",
        f"rose by {100 * confirmed['incline']['estimate']:.1f} % ({low:.1f} to {high:.1f})",
        f"the others by {min(others):.1f} to {max(others):.1f} %",
        f"{content['steps'] / 1e6:.2f} M environment steps",
    ]


@table("curricula.md", "compare-gaits.json")
def gaits_matrix(content: dict[str, Any]) -> Rows:
    """Return PLAID's policy after every stage: mean reward over the seeds as a share of the experts' mean."""
    matrices = [run["matrix"] for run in _runs(content, "plaid")]
    size = range(len(content["skills"]))
    best = [statistics.mean(one["experts"][j] for one in matrices) for j in size]
    means = [[statistics.mean(one["scores"][i][j] for one in matrices) / best[j] for j in size] for i in size]
    return [(None, *(f"{value:.3f}" for value in row)) for row in means]


@table("curricula.md", "compare-quadruped-gaits.json")
def compare_quadruped_gaits(content: dict[str, Any]) -> Rows:
    """Return reward as a share of PLAID's experts' and success of one seed, without the intervals that it has not."""
    rows, summary = [], content["summary"]
    for i, skill in enumerate(content["skills"]):
        row = (f"{summary[name]['skills'][skill]['estimate']:.2f}, {_final(content, name, i)[0]:.2f}"
               for name in content["curricula"])  # fmt: skip
        rows.append((_task(skill), *row))
    ends = [
        (key, *(f"{summary[name][key]['estimate']:.2f}" for name in content["curricula"]))
        for key in ("mean", "weakest skill")
    ]
    return [*rows, *ends, _seconds(content, content["curricula"])]


@table("curricula.md", "compare-quadruped-hard.json", "quadruped-hard-easier.json")
def compare_quadruped_hard(content: dict[str, Any], easier: dict[str, Any]) -> Rows:
    """Return reward, success, and success on easier tracks, of one seed."""
    names, found = content["curricula"], cells(easier)
    ends = {name: _runs(content, name)[0]["matrix"] for name in names}
    rows: list[tuple[str | None, ...]] = []
    for i, (skill, below) in enumerate(zip(content["skills"], easier["skills"], strict=True)):
        row = [
            f"{ends[name]['scores'][-1][i]:.2f}, {ends[name]['success'][-1][i]:.2f}, "
            f"{found[f'{name}-0', below]['success']['estimate']:.2f}"
            for name in names
        ]
        rows.append((_task(skill), *row))
    means = (statistics.mean(ends[name]["scores"][-1]) for name in names)
    return [*rows, ("mean reward", *(f"{value:.2f}" for value in means)), _seconds(content, names)]


@phrases("curricula.md", "compare-quadruped-hard.json")
def quadruped_hard_kept(content: dict[str, Any]) -> list[str]:
    """Return what PLAID's student keeps of its experts, and what TL-Only forgets."""
    kept = content["summary"]["plaid"]["skills"]
    share = {_task(skill): f"{found['estimate']:.2f}" for skill, found in kept.items()}
    lost = content["summary"]["tl-only"]["forgetting"]["estimate"]
    return [
        f"keeps {share['rough']}, {share['stairs']} and {share['barriers']} of its experts' reward on rough ground, "
        "stairs and barriers",
        f"lost {lost:.2f} of the experts' reward",
    ]


@table("curricula.md", "compare-standard.json", "compare-terrains-hard.json", "compare-gaits.json")
def where_plaid_wins(*contents: dict[str, Any]) -> Rows:
    """Return mean, weakest skill and the number of runs with a skill that is not there at the end."""
    rows = []
    for content in contents:
        row: list[str | None] = [None]
        for name in ("plaid", "tl-only", "multitasker"):
            runs, found = _runs(content, name), content["summary"][name]
            lost = sum(min(run["matrix"]["success"][-1]) < _LEARNED for run in runs)
            row.append(
                f"{found['mean']['estimate']:.2f}, {found['weakest skill']['estimate']:.2f}, {lost} of {len(runs)}"
            )
        rows.append(tuple(row))
    return rows


@table("curricula.md", "compare-paper.json")
def compare_paper(content: dict[str, Any]) -> Rows:
    """Return rewards of both curricula, at the end and after each skill's own stage; the paper's rows are recalled."""
    rows = []
    for name in ("plaid", "tl-only"):
        (run,) = _runs(content, name)
        last, own = run["matrix"]["scores"][-1], list(run["experts"].values())
        if name == "tl-only":
            own = [run["matrix"]["scores"][i][i] for i in range(len(last))]
        rows += [(None, *(f"{value:.3f}" for value in (*values, statistics.mean(values)))) for values in (last, own)]
    return [*rows, *[(None,) * 7] * 2]


@phrases("curricula.md", "compare-paper.json")
def paper_success(content: dict[str, Any]) -> list[str]:
    """Return success of both curricula."""
    runs = {name: _runs(content, name)[0] for name in ("plaid", "tl-only")}
    plaid, alone = (", ".join(_success(runs[name]["matrix"])) for name in ("plaid", "tl-only"))
    mixed = [f"{run['zero_shot']['biped/mixed+imitate']['success']:.2f}" for run in runs.values()]
    return [f"is {plaid} for PLAID and {alone} for TL-Only; on `mixed` it is {mixed[0]} and {mixed[1]}"]


@phrases("curricula.md", "terrains-hard-joint.json", "compare-terrains-hard.json")
def hard_joint(content: dict[str, Any], compared: dict[str, Any]) -> list[str]:
    """Return the share of joint training on all hard terrains from the beginning."""
    rewards = content["matrix"]["scores"][-1]
    shares = [f"{own / best:.2f}" for own, best in zip(rewards, compared["experts"], strict=True)]
    success = _success(content["matrix"])
    return [
        f"reaches {', '.join(shares[:3])} and {shares[3]} of the same experts' reward on slopes, steps, walls "
        f"and gaps, with success {', '.join(success[:3])} and {success[3]}, "
        f"for {content['cost']['steps'] / 1e6:.1f} M steps and {content['cost']['cpu_seconds']:.0f} s"
    ]


@table("curricula.md", "sixth-skill.json")
def sixth_skill(content: dict[str, Any]) -> Rows:
    """Return the price of one more skill."""
    new = content["skill"]
    rows = []
    for arm in ("plaid", "fine-tuning", "joint, continued", "joint, from scratch"):
        found = content["seeds"]["0"][arm]
        old = min(value for skill, value in found["kept"].items() if skill != new)
        done = found["steps"] is not None
        steps = millions(found["steps"]) if done else f"not in {found['budget'] / 1e6:.0f} M"
        rows.append(
            (None, steps, f"{found['seconds']:.0f}" if done else "-", f"{old:.3f}", f"{found['kept'][new]:.3f}")
        )
    return rows
