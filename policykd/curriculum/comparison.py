"""What a comparison of curricula found: every seed's values; intervals derive from them.

Scores are normalized by one expert per skill that all curricula share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policykd import __version__
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.yaml_files import from_plain
from policykd.errors import OutputError, UnknownNameError
from policykd.evaluation.matrix import SkillMatrix
from policykd.plain import as_plain
from policykd.stats import Interval, few_seeds, stratified_bootstrap
from policykd.storage import read_json

FORMAT_VERSION = 1
AGGREGATES = ("overall", "mean", "weakest skill")
"""Columns over all skills: :meth:`Comparison.overall`, :meth:`Comparison.mean` and :meth:`Comparison.weakest`."""


@dataclass(frozen=True)
class SeedResult:
    """One curriculum with one seed.

    Attributes:
        curriculum: its name.
        seed: its seed.
        matrix: scores after every stage, against the run's own experts.
        steps: environment steps used.
        seconds: wall time of its stages, s.
        cpu_seconds: processor time of its stages, s.
        experts: skill id to reward per step of its own experts; empty where nobody learns a skill alone.
        zero_shot: skill id to success and reward per step of the final policy.
        transfer: skill id to forward transfer against the run of ``scratch+merge`` of the same seed; empty without.
    """

    curriculum: str
    seed: int
    matrix: SkillMatrix
    steps: int
    seconds: float
    cpu_seconds: float
    experts: Mapping[str, float]
    zero_shot: Mapping[str, Mapping[str, float]]
    transfer: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        recipe: what all curricula share.
        curricula: their names.
        seeds: the seeds.
        skills: ids of the skills.
        budget: environment steps that each run may use.
        experts: reward per step that scores are normalized by, per skill.
        runs: every curriculum with every seed.
    """

    recipe: Recipe
    curricula: tuple[str, ...]
    seeds: tuple[int, ...]
    skills: tuple[str, ...]
    budget: int
    experts: tuple[float, ...]
    runs: tuple[SeedResult, ...]

    def of(self, curriculum: str) -> list[SeedResult]:
        """The runs of one curriculum, by seed.

        Raises:
            UnknownNameError: for a curriculum that was not compared.
        """
        if curriculum not in self.curricula:
            raise UnknownNameError("compared curriculum", curriculum, self.curricula)
        return [run for run in self.runs if run.curriculum == curriculum]

    def final_scores(self, curriculum: str) -> np.ndarray:
        """(seeds, skills) rewards per step of the final policies over the shared experts'."""
        return np.array([run.matrix.scores[-1] for run in self.of(curriculum)]) / np.array(self.experts)

    def final_success(self, curriculum: str) -> np.ndarray:
        """(seeds, skills) success of the final policies."""
        return np.array([run.matrix.success[-1] for run in self.of(curriculum)])

    def overall(self, curriculum: str) -> Interval:
        """Interquartile mean of the normalized scores over seeds and skills, with its stratified 95 % interval."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="iqm")

    def mean(self, curriculum: str) -> Interval:
        """Mean in place of the interquartile mean, which leaves out a skill that was lost."""
        return stratified_bootstrap(self.final_scores(curriculum), statistic="mean")

    def weakest(self, curriculum: str) -> Interval:
        """Score of every policy's weakest skill: mean over the seeds."""
        return stratified_bootstrap(self.final_scores(curriculum).min(axis=1, keepdims=True), statistic="mean")

    def on_skill(self, curriculum: str, skill: str) -> Interval:
        """Interquartile mean on one skill: resampled over the seeds."""
        column = self.skills.index(skill)
        return stratified_bootstrap(self.final_scores(curriculum)[:, [column]], statistic="iqm")

    def intervals(self, curriculum: str) -> dict[str, Interval]:
        """What tables say of a curriculum, by the name of the column: every skill, then all of them together."""
        found = {skill: self.on_skill(curriculum, skill) for skill in self.skills}
        together = (self.overall(curriculum), self.mean(curriculum), self.weakest(curriculum))
        return {**found, **dict(zip(AGGREGATES, together, strict=True))}

    def forgetting(self, curriculum: str) -> Interval | None:
        """Mean forgetting over the seeds, normalized by the shared experts; None without an old skill.

        Below zero where old skills became better since they were added, as joint training goes on to do.
        """
        matrices = [run.matrix.with_experts(self.experts) for run in self.of(curriculum)]
        values = [-m.backward_transfer for m in matrices if m.backward_transfer is not None]
        return stratified_bootstrap(np.array(values)[:, None], statistic="mean") if values else None

    @property
    def warning(self) -> str:
        """What to keep in mind about the number of seeds; empty from five on."""
        return few_seeds(len(self.seeds))

    def to_json(self) -> dict[str, Any]:
        """Everything, with the intervals for readers who only want those."""
        summary = {
            name: {
                **{column: asdict(found[column]) for column in AGGREGATES},
                "skills": {skill: asdict(found[skill]) for skill in self.skills},
                "success": dict(zip(self.skills, self.final_success(name).mean(axis=0).tolist(), strict=True)),
                "forgetting": None if (forgotten := self.forgetting(name)) is None else asdict(forgotten),
            }
            for name, found in ((name, self.intervals(name)) for name in self.curricula)
        }
        runs = [{**asdict(run), "matrix": run.matrix.to_json()} for run in self.runs]
        head = {"format_version": FORMAT_VERSION, "policykd_version": __version__, "warning": self.warning}
        body = {name: as_plain(getattr(self, name)) for name in ("curricula", "seeds", "skills", "budget", "experts")}
        return {**head, "recipe": as_plain(self.recipe), **body, "summary": summary, "runs": runs}

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read a JSON file that :func:`run_comparison` wrote.

        Raises:
            OutputError: if it is no comparison, naming it.
        """
        content = read_json(path)
        if content.get("format_version") != FORMAT_VERSION:
            raise OutputError(f"{path} is no comparison of format {FORMAT_VERSION}")
        try:
            runs = [SeedResult(**{**run, "matrix": SkillMatrix.from_json(run["matrix"])}) for run in content["runs"]]
            lists = {name: tuple(content[name]) for name in ("curricula", "seeds", "skills", "experts")}
            recipe = from_plain(Recipe, content["recipe"], "recipe")
            return cls(recipe=recipe, budget=content["budget"], runs=tuple(runs), **lists)
        except (KeyError, TypeError) as error:
            raise OutputError(f"{path} lacks or garbles {error}") from None
