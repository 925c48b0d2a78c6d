"""An evaluation as a table for the terminal and for papers.

It formats summaries that ``results`` computed and calculates nothing.
"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from policykd.evaluation.results import Evaluation
from policykd.paper_tables import PaperTable
from policykd.stats import format_interval


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return a table of policies by skills: success, reward, retention and distance, each with its 95 % interval.

    Args:
        evaluation: the results.

    Returns:
        A table for rich's console; an expert on its own skill is marked with a star.
    """
    acting = "sampled" if evaluation.noise else "mean"
    table = Table(
        title=f"{evaluation.episodes} episodes per cell on shared tracks, {acting} actions, 95 % intervals",
        title_justify="left",
    )
    for name in ("skill", "policy"):
        table.add_column(name, no_wrap=True)
    for name in ("success", "reward per step", "retention", "distance, m"):
        table.add_column(name, justify="right", no_wrap=True)
    for skill in evaluation.skills:
        for policy in evaluation.policies:
            if (policy, skill) not in evaluation.summaries:  # random actions, which bounded rewards do not need
                continue
            summary = evaluation.summaries[policy, skill]
            star = " *" if evaluation.experts.get(skill) == policy else ""
            table.add_row(
                Text(skill),
                Text(policy + star),
                format_interval(summary.success, 2),
                format_interval(summary.reward_per_step, 3),
                format_interval(summary.retention, 3),
                format_interval(summary.distance, 1),
            )
        table.add_section()
    return table


def paper_table(evaluation: Evaluation) -> PaperTable:
    """Return the same table for LaTeX and CSV; "expert" says of which skills a policy is the expert."""
    rows = []
    for (policy, skill), summary in evaluation.summaries.items():
        expert = "yes" if evaluation.experts.get(skill) == policy else ""
        figures = (summary.success, summary.reward_per_step, summary.retention, summary.distance)
        rows.append((skill, policy, expert, *figures))
    head = ("skill", "policy", "expert", "success", "reward per step", "retention", "distance, m")
    return PaperTable(head, tuple(rows), (0, 0, 0, 2, 3, 3, 1))
