"""Tables of experiments: one over several as Markdown and JSON, one of each for LaTeX and CSV.

It formats stored results and computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policykd.kd.experiments.results import Outcome, Result
from policykd.paper_tables import PaperTable
from policykd.stats import BRACKETS, format_interval
from policykd.storage import write_json, write_text


def effect_text(outcome: Outcome) -> str:
    """An effect with its interval: ``+0.041 [+0.032, +0.052]``, ratios and single arms without signs."""
    signed = outcome.comparison.statistic == "difference" and outcome.comparison.baseline is not None
    return format_interval(outcome.effect, 3, style=BRACKETS, signed=signed, significant=True, always=True)


def gate_text(outcome: Outcome) -> str:
    """What the interval must be beyond: ``> 0.04``."""
    return f"{'>' if outcome.comparison.better == 'higher' else '<'} {outcome.comparison.gate:g}"


def p_text(outcome: Outcome) -> str:
    """The corrected p-value; empty where there are too few seeds."""
    return "" if outcome.verdict == "too few seeds" else f"{outcome.corrected:.2g}"


def required_effects(result: Result) -> list[tuple[str, str]]:
    """Text and effect of every required comparison; those that were not shown or were contradicted say so."""
    return [
        (o.comparison.text, effect_text(o) + (f" {o.verdict}" if o.verdict in ("not shown", "contradicted") else ""))
        for o in result.outcomes
        if o.comparison.required
    ]


def paper_table(result: Result) -> PaperTable:
    """The comparisons of one experiment: effect with interval, gate, corrected p-value, verdict."""
    rows = tuple(
        (o.comparison.text, o.effect, gate_text(o), p_text(o), "yes" if o.comparison.required else "", o.verdict)
        for o in result.outcomes
    )
    return PaperTable(("comparison", "effect", "gate", "p, corrected", "required", "verdict"), rows, (0, 3, 0, 0, 0, 0))


def markdown(results: Sequence[Result]) -> str:
    """The summary: system, claim, effects of the required comparisons with intervals, verdict."""
    lines = ["| system | claim | effect [95 % interval] | verdict |", "| --- | --- | --- | --- |"]
    for result in results:
        effects = "<br>".join(f"{_cell(text)}: {effect}" for text, effect in required_effects(result))
        lines.append(f"| {result.name} | {_cell(result.claim)} | {effects} | {result.verdict} ({_seeds(result)}) |")
    return "\n".join(lines) + "\n"


def write_summary(results: Sequence[Result], folder: Path) -> None:
    """Write ``summary.md`` and ``summary.json`` atomically."""
    rows = [
        {
            "system": result.name,
            "claim": result.claim,
            "verdict": result.verdict,
            "seeds": len(result.seeds),
            "seconds": result.seconds,
            "comparisons": result.to_json()["comparisons"],
            "notes": list(result.notes),
        }
        for result in results
    ]
    write_text(folder / "summary.md", markdown(results))
    write_json(folder / "summary.json", {"systems": rows})


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _seeds(result: Result) -> str:
    return f"{len(result.seeds)} seed{'s' if len(result.seeds) != 1 else ''}"
