"""First tables of their kind for control: divergences by skills and width, and the cost of a skill by two ways."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from doc_figures.formats import interval, short
from doc_figures.registry import Rows, table

LOSSES: Mapping[str, str] = {
    "mse": "MSE", "forward_kl": "forward KL", "reverse_kl": "reverse KL", "jsd": "JSD",
}  # fmt: skip
"""Losses of a merge and what the table calls them."""

DIVERGENCES_HEAD = ("skills", "units", "loss", "weakest skill's retention", "mean retention", "labeled states to 0.95",
                    "labeled states to 0.98")  # fmt: skip

_RETENTIONS = ("weakest_retention", "mean_retention")

COST_HEAD = ("skill", "share of the expert's reward", "RL: environment steps", "merge: labeled states of the skill",
             "steps over states", "RL, s", "merge of all skills, s", "seconds over seconds")  # fmt: skip


@table("merging.md", "divergences.json", head=DIVERGENCES_HEAD)
def divergences(content: Mapping[str, Any]) -> Rows:
    """Return one row per number of skills, width and loss."""
    return [
        (str(row["skills"]), str(row["units"]), LOSSES[row["loss"]], *(interval(row[name], 3) for name in _RETENTIONS),
         *(_states(row["states_to_retention"][mark], row["seeds"]) for mark in ("0.95", "0.98")))
        for row in content["rows"]
    ]  # fmt: skip


def _states(reached: Sequence[int], seeds: int) -> str:
    """Return the median labeled states until every skill kept a retention, and in how many seeds it did."""
    count = f"({len(reached)} of {seeds})"
    return f"{statistics.median(reached):,.0f} {count}" if reached else f"not reached {count}"


@table("merging.md", "cost-of-skills.json", head=COST_HEAD)
def cost_of_skills(content: Mapping[str, Any]) -> Rows:
    """Return a row per skill and share: medians over the demos in which both ways reached that share."""
    rows, last = [], ""
    for skill in dict.fromkeys(skill for demo in content["demos"] for skill in demo["skills"]):
        for mark in content["marks"]:
            found = [demo["skills"][skill][mark] for demo in content["demos"] if skill in demo["skills"]]
            rows.append(("" if skill == last else short(skill), mark, *_costs(found)))
            last = skill
    return rows


def _costs(found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the cells of a row; a demo in which one of both ways did not get there counts in none of them."""
    both = [one for one in found if one["rl"] is not None and one["merge"] is not None]
    if not both:
        return (f"not reached (0 of {len(found)})", *[""] * 5)

    def middle(value: Any, digits: int = 0) -> str:
        return f"{statistics.median(value(one) for one in both):,.{digits}f}"

    count = "" if len(both) == len(found) else f" ({len(both)} of {len(found)})"
    return (
        middle(lambda one: one["rl"]["steps"]) + count,
        middle(lambda one: one["merge"]["skill_states"]),
        middle(lambda one: one["rl"]["steps"] / one["merge"]["skill_states"], 1),
        middle(lambda one: one["rl"]["seconds"]),
        middle(lambda one: one["merge"]["seconds"]),
        middle(lambda one: one["rl"]["seconds"] / one["merge"]["seconds"], 1),
    )
