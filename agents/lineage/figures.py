"""The figures that a policy's manifest records: retention of merges, validations of trainings, scores of imports.

Metrics of a manifest are free JSON, perhaps from a stranger: everything that is not a number is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policykd.agents.files.manifest import Manifest

_SHOWN = {"retention": "retention", "success": "success", "reward_per_step": "reward per step", "return": "return"}
"""Metrics that are shown, with their names for people."""


def recorded_figures(manifest: Manifest) -> dict[str, float]:
    """Return the figures of a policy when it was made, by name, for example ``retention biped/flat``.

    They are those of the run that made it: retention per skill of a merge, success and reward per step of a training's
    best validation or, per skill, of the last validation of a fine-tuning.
    """
    metrics = manifest.metrics
    found = {name: value for metric, shown in _SHOWN.items() for name, value in _named(shown, metrics.get(metric))}
    after = metrics.get("after")
    for skill, values in after.items() if isinstance(after, Mapping) else ():
        for metric in ("success", "reward_per_step"):
            if isinstance(values, Mapping) and _is_number(values.get(metric)):
                found[f"{_SHOWN[metric]} {skill}"] = float(values[metric])
    return found


def _named(shown: str, value: Any) -> list[tuple[str, float]]:
    """Return (name, figure) of a metric that is one number, or one number per skill."""
    if isinstance(value, Mapping):
        return [(f"{shown} {skill}", float(entry)) for skill, entry in value.items() if _is_number(entry)]
    return [(shown, float(value))] if _is_number(value) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def without_skill(metrics: Mapping[str, Any], skills: tuple[str, ...], skill: str) -> dict[str, Any]:
    """Return the metrics that are given per skill, without those of one skill.

    Figures of all skills together, such as the success of a training on several, are left out: they would include the
    skill.

    Args:
        metrics: metrics of a manifest.
        skills: the policy's skills.
        skill: the skill to leave out.
    """
    per_skill = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, Mapping) and value and set(value) <= set(skills)
    }
    kept = {name: {s: v for s, v in value.items() if s != skill} for name, value in per_skill.items()}
    return {name: value for name, value in kept.items() if value}
