"""The card of a policy: what it can do, what it reads, what it was made from; a folder that a model hub takes.

The folder holds the policy itself, so that ``load_policy`` reads it; the card is written twice, as ``README.md`` for a
hub and as a page that opens from disk.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policykd import __version__
from policykd.agents.files.container import read_parts, write_parts
from policykd.agents.files.description import Description, describe_policy
from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.lineage import trace
from policykd.errors import ConfigError
from policykd.evaluation import Evaluation
from policykd.report.pages.html import embed_file, interval_cell, write_html
from policykd.stats import BRACKETS, format_interval
from policykd.storage import prepare_folder, write_text

CARD = "README.md"
FOLDER = "policy"
"""Folder of the policy inside the card's folder."""

_FIGURES = (("success", "success", 2), ("reward_per_step", "reward per step", 3), ("retention", "retention", 3))
_TAGS = ("robotics", "reinforcement-learning", "policy-distillation", "policykd")


@dataclass(frozen=True)
class CardOptions:
    """What a card says besides what the policy file holds.

    Attributes:
        title: its title; empty for the names of the robot and the skills.
        license: identifier of the license, for example ``mit``; empty says that none is stated.
        evaluation: file of an evaluation; None for none.
        name: the policy's name in the evaluation; empty for the only one that is not an expert.
        search: folders in which its parents are searched.
    """

    title: str = ""
    license: str = ""
    evaluation: Path | None = None
    name: str = ""
    search: tuple[Path, ...] = ()


def write_card(
    policy: Path, out: Path, options: CardOptions = CardOptions(), films: Sequence[tuple[str, Path, Path]] = ()
) -> Path:
    """Write the folder of a card.

    Args:
        policy: policy file, or folder of a run.
        out: the folder; what it holds is replaced file by file.
        options: what the card says.
        films: skill, clip and film strip inside the folder, as :func:`policykd.report.video.film_policy` returns them.

    Returns:
        The page.

    Raises:
        PolicyFileError: if the policy cannot be read.
        OutputError: if the evaluation cannot be read or the folder cannot be written.
        ConfigError: for a name that the evaluation does not have, or several to choose from.
    """
    loaded = load_policy(policy)
    rows = _evaluated(options)
    lineage = trace(policy, options.search).lines()
    prepare_folder(out)
    write_parts(out / FOLDER, dict(zip(("manifest.json", "weights.safetensors"), read_parts(policy), strict=True)))
    inside = [(skill, *(str(path.relative_to(out)) for path in paths)) for skill, *paths in films]
    card = _Card(loaded, describe_policy(loaded), options, rows, lineage, inside)
    write_text(out / CARD, card.markdown())
    return write_html(out, "card.html", card.context(out))


def _evaluated(options: CardOptions) -> list[tuple[str, dict[str, Any]]]:
    """Return the skills of the evaluation with the policy's intervals, by figure."""
    if options.evaluation is None:
        return []
    found = Evaluation.load(options.evaluation)
    experts = set(found.experts.values())
    own = [options.name] if options.name else [name for name in found.policies if name not in experts]
    if len(own) != 1 or own[0] not in found.policies:
        raise ConfigError(
            f"{options.evaluation} has the policies {', '.join(found.policies)}; choose this one with --name"
        )
    summaries = ((skill, found.summaries[own[0], skill]) for skill in found.skills)
    return [(skill, {field: getattr(summary, field) for field, _, _ in _FIGURES}) for skill, summary in summaries]


@dataclass(frozen=True)
class _Card:
    loaded: LoadedPolicy
    described: Description
    options: CardOptions
    rows: Sequence[tuple[str, dict[str, Any]]]
    lineage: Sequence[str]
    films: Sequence[tuple[str, ...]]

    @property
    def title(self) -> str:
        return self.options.title or f"{self.described.robot}: {', '.join(self.loaded.manifest.skills)}"

    @property
    def about(self) -> list[tuple[str, str]]:
        """Facts about the policy, name and text."""
        manifest = self.loaded.manifest
        return [
            ("robot", manifest.robot),
            ("skills", ", ".join(manifest.skills)),
            ("made by", f"policykd {manifest.policykd_version}, {manifest.operation}, seed {manifest.seed}"),
            ("actions per second", f"{1 / manifest.control_dt:g}"),
            ("parameters", f"{manifest.parameters:,}"),
            ("memory", self.described.memory or "none"),
            ("license", self.options.license or "not stated"),
            ("sha256 of the weights", manifest.weights_sha256),
            ("sha256 of the manifest's content", manifest.content_sha256),
        ]

    def markdown(self) -> str:
        """Return the card for a hub: front matter, then tables."""
        front = [
            "---",
            "library_name: policykd",
            *([f"license: {self.options.license}"] if self.options.license else []),
        ]
        front += ["tags:", *(f"- {tag}" for tag in _TAGS), "---", "", f"# {_plain(self.title)}", ""]
        parts = [*front, *_table(("", ""), self.about)]
        parts += [text for skill, _, strip in self.films for text in (f"![{_plain(skill)}]({strip})", "")]
        if self.rows:
            head = ("skill", *(name for _, name, _ in _FIGURES))
            cells = [
                (skill, *(format_interval(figures[field], digits, style=BRACKETS) for field, _, digits in _FIGURES))
                for skill, figures in self.rows
            ]
            parts += ["## What it can do", "", "Means with 95 % intervals.", "", *_table(head, cells)]
        parts += ["## Inputs", "", *_table(("columns", "observation group", "features in order"), self._inputs())]
        parts += ["## Actions", "", *_table(("column", "joint", "target at 0", "scale", "limits"), self._actions())]
        parts += ["## Lineage", "", "```", *self.lineage, "```", "", "## Use", "", "```python", _USE, "```", ""]
        return "\n".join(parts)

    def context(self, folder: Path) -> dict[str, Any]:
        """Return the values of the page's template."""
        return {
            "title": self.title,
            "tiles": [],
            "about": self.about,
            "figures": [name for _, name, _ in _FIGURES],
            "rows": [(s, [interval_cell(f[field], digits) for field, _, digits in _FIGURES]) for s, f in self.rows],
            "inputs": self._inputs(),
            "actions": self._actions(),
            "lineage": "\n".join(self.lineage),
            "films": [(skill, clip, embed_file(folder / strip, "image/png")) for skill, clip, strip in self.films],
            "use": _USE,
            "version": __version__,
        }

    def _inputs(self) -> list[tuple[str, ...]]:
        return [
            (f"{one.first}-{one.last}", one.group, one.units or "as the environment returns them")
            for one in self.described.inputs
        ]

    def _actions(self) -> list[tuple[str, ...]]:
        return [
            (str(i), one.joint, f"{one.stand:g}", f"{one.scale:g}", f"{one.limits[0]:g} to {one.limits[1]:g}")
            for i, one in enumerate(self.described.actions)
        ]


_USE = """from policykd.agents import load_policy

policy, manifest = load_policy("<this folder>")
targets = manifest.targets(policy.act(observations))  # observations: group -> array"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown; texts come from files of strangers and are escaped."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(_plain, row))} |" for row in rows), ""]


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    escaped = html.escape(text, quote=False).replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#" else letter for letter in escaped)
