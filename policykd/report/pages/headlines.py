"""The tiles and the verdict at the top of a run's page, derived from the run's files.

It formats texts and numbers; the HTML is in the templates.
"""

from __future__ import annotations

from collections.abc import Sequence

from policykd.report.pages.html import Tile
from policykd.report.run_files import ResultsFolder, RunFiles
from policykd.stats import Interval


def headlines(results: ResultsFolder) -> list[Tile]:
    """Return retention and success of the student on its worst skill, size and cost, as far as they are known."""
    tiles = []
    for name in results.students[:1]:
        kept = _worst(results, name, "retention")
        if kept is not None:
            skill, interval = kept
            tiles.append(Tile(percent(interval.estimate), "of the expert's reward kept", _where(skill, interval)))
        success = _worst(results, name, "success")
        if success is not None:
            skill, interval = success
            tiles.append(Tile(percent(interval.estimate), "success of the student", _where(skill, interval)))
    student = next((run for run in results.runs if run.manifest.operation == "merge"), None)
    if student is not None:
        tiles.append(_size(results, student))
    steps, seconds = sum(run.steps for run in results.runs), sum(run.seconds for run in results.runs)
    if steps:
        tiles.append(Tile(f"{steps / 1e6:.2f} M", "environment steps", "training and merging together"))
    if seconds:
        tiles.append(Tile(duration(seconds), "of wall time", "training and merging, one after the other"))
    return tiles


_FALLEN = 0.9
"""Success below which an expert does not have a skill."""


def verdict(results: ResultsFolder) -> str:
    """Return the result of the evaluation in two sentences; empty without experts or a student."""
    evaluation = results.evaluation
    student = results.students[0] if results.students else None
    kept = _worst(results, student, "retention") if student else None
    if student is None or kept is None:
        return ""
    sentence = (
        f"{student[:1].upper()}{student[1:]} keeps at least {percent(kept[1].estimate)} of the reward of each expert, "
        f"measured on {evaluation.episodes} tracks per skill that training never saw."
    )
    judged = [skill for skill in evaluation.skills if evaluation.judges(skill)]
    away = [
        min(evaluation.summaries[name, s].success.estimate for s in judged if s != own)
        for own, name in evaluation.experts.items()
        if set(judged) - {own}
    ]
    return sentence + _elsewhere(away) if away else sentence


def _elsewhere(away: Sequence[float]) -> str:
    """Return what experts lack, from the least success of each on the skills of others."""
    fallen = [success for success in away if success < _FALLEN]
    if not fallen:
        return f" Every expert succeeds on at least {percent(min(away))} of the tracks of all other skills, too."
    verb = "falls" if len(fallen) == 1 else "fall"
    who = "Every expert falls" if len(fallen) == len(away) else f"{len(fallen)} of {len(away)} experts {verb}"
    most = f"{percent(max(fallen))} or less" if max(fallen) > 0 else "0 %"
    return f" {who} to a success of {most} on at least one other skill."


def _worst(results: ResultsFolder, policy: str, field: str) -> tuple[str, Interval] | None:
    """Return the skill and the interval of a policy's lowest figure."""
    evaluation = results.evaluation
    skills = [skill for skill in evaluation.skills if field != "success" or evaluation.judges(skill)]
    found = [(skill, getattr(evaluation.summaries[policy, skill], field)) for skill in skills]
    known = [(skill, interval) for skill, interval in found if interval is not None]
    return min(known, key=lambda pair: pair[1].estimate) if known else None


def _size(results: ResultsFolder, student: RunFiles) -> Tile:
    hashes = {parent.weights_sha256 for parent in student.manifest.parents}
    parents = [run.manifest.parameters for run in results.runs if run.manifest.weights_sha256 in hashes]
    detail = f"{student.manifest.parameters:,} parameters"
    if parents:
        detail += f"; experts {sum(parents):,} together"
    count = len(student.manifest.parents)
    return Tile(f"{count} \N{RIGHTWARDS ARROW} 1", "experts merged into one student", detail)


def _where(skill: str, interval: Interval) -> str:
    low, high = (percent(x) for x in (interval.low, interval.high))
    return f"on the worst skill, {skill}; 95 % interval {low} to {high}"


def percent(value: float) -> str:
    """Return a share as text, ``97 %``."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """Return a time as text, in seconds or minutes."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
