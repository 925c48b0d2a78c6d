"""An evaluation as a table for the terminal and for papers.

It shows figures that ``results`` computed, and of environments with rewards of any size the return.
"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from policykd.evaluation.results import RANDOM, Evaluation
from policykd.paper_tables import PaperTable
from policykd.seeding import integer_seed
from policykd.stats import Interval, bootstrap, format_interval

_RETURN = "return"


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return a table of policies by skills: success, reward, retention and distance, each with its 95 % interval.

    Environments with rewards of any size have their return, too; those that report no success have none.

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
    columns = _columns(evaluation)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for skill in evaluation.skills:
        for policy in evaluation.policies:
            if (policy, skill) not in evaluation.summaries:  # random actions, which bounded rewards do not need
                continue
            star = " *" if evaluation.experts.get(skill) == policy else ""
            figures = _figures(evaluation, policy, skill)
            texts = (format_interval(figures[name], digits) for name, digits in columns.items())
            table.add_row(Text(skill), Text(policy + star), *texts)
        table.add_section()
    return table


def paper_table(evaluation: Evaluation) -> PaperTable:
    """Return the same table for LaTeX and CSV; "expert" says of which skills a policy is the expert."""
    rows, columns = [], _columns(evaluation)
    for policy, skill in evaluation.summaries:
        expert = "yes" if evaluation.experts.get(skill) == policy else ""
        figures = _figures(evaluation, policy, skill)
        rows.append((skill, policy, expert, *(figures[name] for name in columns)))
    return PaperTable(("skill", "policy", "expert", *columns), tuple(rows), (0, 0, 0, *columns.values()))


def _columns(evaluation: Evaluation) -> dict[str, int]:
    """Return the names of the figures with their digits; the return is there where rewards are of any size."""
    columns = {"success": 2, "reward per step": 3, _RETURN: 1, "retention": 3, "distance, m": 1}
    if not any(policy == RANDOM for policy, _ in evaluation.cells):
        del columns[_RETURN]
    return columns


def _figures(evaluation: Evaluation, policy: str, skill: str) -> dict[str, Interval | None]:
    """Return the figures of a cell by their columns; None for those that say nothing there."""
    summary, cell = evaluation.summaries[policy, skill], evaluation.cells[policy, skill]
    of_any_size = (RANDOM, skill) in evaluation.cells
    seed = integer_seed(evaluation.seed, "intervals", skill)
    return {
        "success": summary.success if evaluation.judges(skill) else None,
        "reward per step": summary.reward_per_step,
        _RETURN: bootstrap(cell.total_reward, seed=seed) if of_any_size else None,
        "retention": summary.retention,
        "distance, m": None if of_any_size and not any(cell.distance) else summary.distance,
    }
