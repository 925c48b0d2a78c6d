"""Bisect: the stage of a run that lost a skill, from evaluations that the run recorded.

It reads files and simulates nothing. All stages are compared by one source of figures, so that their tracks are equal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.files.policy_file import read_manifest
from policykd.curriculum.plans import make_plan
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.result import RESULT, CurriculumResult
from policykd.curriculum.stage_runner import EVALUATION, StageFolders
from policykd.curriculum.stages import Row
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.evaluation import Evaluation
from policykd.evaluation.results import RANDOM, Episodes
from policykd.plain import from_plain
from policykd.seeding import integer_seed
from policykd.stats import Interval, paired_difference
from policykd.storage import read_json

_MODULE = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+):")

MEASURES = ("reward", "success")
"""Figures that a skill is followed by."""


@dataclass(frozen=True)
class Score:
    """One policy on the skill.

    Attributes:
        label: short name of the skill that was added before, or ``before`` and ``after``.
        stage: stage whose policy it is.
        reward_per_step: mean reward per step.
        success: success rate.
        episodes: every episode's outcome; None where only means were recorded.
    """

    label: str
    stage: str
    reward_per_step: float
    success: float
    episodes: Episodes | None = None

    def value(self, by: str) -> float:
        """Return the figure that the skill is followed by."""
        return self.success if by == "success" else self.reward_per_step


@dataclass(frozen=True)
class Bisection:
    """A skill over the stages of a run.

    A stage has the skill if its figure, less that of random actions, is at least ``1 - bound`` of the best stage's. The
    stage that lost it follows the last stage that has it.

    Attributes:
        skill: id of the skill.
        by: ``reward`` or ``success``.
        bound: largest share of the best stage's figure that a stage may lack.
        floor: figure of random actions; 0 where rewards are in [0, 1], and for success.
        source: where the figures are from.
        scores: the policies in the order of the run.
    """

    skill: str
    by: str
    bound: float
    floor: float
    source: str
    scores: tuple[Score, ...]

    @property
    def shares(self) -> list[float]:
        """Per policy, its figure over the best one's, both less that of random actions; 0 if no stage had the skill."""
        values = [score.value(self.by) - self.floor for score in self.scores]
        best = max(values)
        return [value / best if best > 0 else 0.0 for value in values]

    @property
    def ever_had(self) -> bool:
        """Whether some stage did better than random actions or, by success, succeeded at least once."""
        return max(score.value(self.by) for score in self.scores) > self.floor

    @property
    def last_good(self) -> Score | None:
        """The last stage that has the skill; None if none ever had it."""
        good = [s for s, share in zip(self.scores, self.shares, strict=True) if share >= 1.0 - self.bound]
        return good[-1] if good and self.ever_had else None

    @property
    def lost_by(self) -> Score | None:
        """The stage that lost the skill; None if the last policy has it, or none ever had it."""
        if self.last_good is None or self.last_good is self.scores[-1]:
            return None
        return self.scores[self.scores.index(self.last_good) + 1]

    @property
    def change(self) -> Interval | None:
        """Figure of the stage that lost the skill less that of the last good one, on the same tracks.

        A paired bootstrap; None if nothing was lost, or only means were recorded.
        """
        before, after = self.last_good, self.lost_by
        if before is None or after is None or before.episodes is None or after.episodes is None:
            return None
        first, second = (_outcomes(score.episodes, self.by) for score in (after, before) if score.episodes)
        return paired_difference(first, second, seed=integer_seed(0, "bisect", self.skill))

    def to_json(self) -> dict[str, Any]:
        """Return scores, shares and verdict as JSON, without the episodes."""
        rows = [
            {"label": s.label, "stage": s.stage, "reward_per_step": s.reward_per_step, "success": s.success,
             "share": share}
            for s, share in zip(self.scores, self.shares, strict=True)
        ]  # fmt: skip
        return {
            "skill": self.skill, "by": self.by, "bound": self.bound, "floor": self.floor, "source": self.source,
            "scores": rows,
            "last_good": None if self.last_good is None else self.last_good.stage,
            "lost_by": None if self.lost_by is None else self.lost_by.stage,
            "change": None if self.change is None else asdict(self.change),
        }  # fmt: skip


def bisect_skill(
    run: Path,
    skill: str,
    *,
    by: str = "reward",
    bound: float = 0.1,
    evaluation: Path | None = None,
    imports: bool = False,
) -> Bisection:
    """Return which stage of a run lost a skill.

    Args:
        run: folder of a curriculum, finished or not, or of ``add-skill``.
        skill: id of the skill.
        by: ``reward`` (per step) or ``success``.
        bound: largest share of the best stage's figure that a stage may lack and still have the skill, in [0.001, 1].
        evaluation: file of ``policykd evaluate`` to use instead of the run's own evaluations; its policies are named
            as the stages.
        imports: import the packages that the run's recipe names, as the run did. Without it a file imports nothing.

    Raises:
        UnknownNameError: for another measure, or a skill that the run does not have and that was not evaluated.
        ConfigError: for a folder without stages, a run without a finished stage, a recipe that names packages of your
            own, or figures that were not recorded, with the command that measures them.
        OutputError: for a file that cannot be read.
    """
    if by not in MEASURES:
        raise UnknownNameError("measure", by, MEASURES)
    check_range("bound", bound, 0.001, 1.0)
    rows, columns = _rows(run, imports)
    sources = _Sources(run, skill, rows)
    for source, scores, floor in [sources.given(evaluation)] if evaluation else sources.recorded():
        if len(scores) == len(rows):
            return Bisection(skill, by, bound, floor if by == "reward" else 0.0, source, tuple(scores))
    if skill not in columns and not sources.seen:
        raise UnknownNameError(f"skill of {run}:", skill, columns)
    raise ConfigError(_advice(run, skill, rows))


def _rows(run: Path, imports: bool) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows whose policies are finished, and the ids of the run's skills."""
    folders = StageFolders(run / "stages")
    columns: tuple[str, ...] | None = None
    if (run / "config.json").exists() and "recipe" in (content := read_json(run / "config.json")):
        recipe = from_plain(Recipe, content["recipe"], "recipe")
        if not imports:
            _check_no_imports(run, recipe)
        plan = make_plan(recipe, int(content.get("seed", 0)))
        rows, columns = list(plan.rows), plan.columns
    elif folders.policy("student").is_dir():
        rows = [Row("before", "student"), Row("after", "merge")]
    else:
        raise ConfigError(
            f"{run} is not a run with stages (policykd plaid, policykd add-skill); compare the policies of its lineage "
            f"with policykd lineage and policykd evaluate"
        )
    if not (run / RESULT).exists():
        rows = [row for row in rows if folders.outcome(row.stage) is not None]
    if not rows:
        raise ConfigError(f"no stage of {run} is finished; continue the run with --resume")
    return rows, read_manifest(folders.policy(rows[-1].stage)).skills if columns is None else columns


def _check_no_imports(run: Path, recipe: Recipe) -> None:
    """Raise unless every package that the recipe names is imported already."""
    injection = recipe.injection
    names = [recipe.curriculum, *recipe.skill_names, *recipe.measurement.zero_shot]
    names += [*injection.blind_groups, *injection.groups]
    asked = [found["module"] for name in names for found in _MODULE.finditer(name)]
    if new := sorted(set(asked) - sys.modules.keys()):
        raise ConfigError(
            f"the recipe of {run} names parts of {', '.join(new)}; a file imports nothing unless you ask for it: "
            f"add --imports"
        )


_Source = tuple[str, list[Score], float]  # its name, the scores that it has, the figure of random actions


class _Sources:
    """Places that may hold figures of a run's stages on one skill."""

    def __init__(self, run: Path, skill: str, rows: Sequence[Row]) -> None:
        self._run, self._skill, self._rows = run, skill, rows
        self.seen = False
        """Whether some source has the skill."""

    def recorded(self) -> Iterator[_Source]:
        """Yield the evaluations of the stages, that of the whole run, and its matrix; the best one first."""
        yield self._of_stages()
        if (self._run / EVALUATION).exists():
            yield self._of_file(self._run / EVALUATION)
        if (self._run / RESULT).exists():
            yield self._of_matrix()

    def given(self, path: Path) -> _Source:
        """Return the figures of a file of ``policykd evaluate``."""
        return self._of_file(path)

    def _of_stages(self) -> _Source:
        folders, floor = StageFolders(self._run / "stages"), 0.0
        cells: dict[tuple[str, str], Episodes] = {}
        for row in self._rows:
            if not (folders(f"measure-{row.stage}") / EVALUATION).exists():
                continue
            found = folders.evaluation(f"measure-{row.stage}")
            cells |= found.cells
            floor = _floor(found, self._skill)
        return f"{self._run / 'stages'}/measure-*/{EVALUATION}", self._scores(cells), floor

    def _of_file(self, path: Path) -> _Source:
        found = Evaluation.load(path)
        return str(path), self._scores(found.cells), _floor(found, self._skill)

    def _of_matrix(self) -> _Source:
        path = self._run / RESULT
        matrix = CurriculumResult.load(path).matrix
        if self._skill not in matrix.skills:
            return str(path), [], 0.0
        self.seen, column = True, matrix.skills.index(self._skill)
        figures = dict(zip(matrix.stages, zip(matrix.scores, matrix.success, strict=True), strict=True))
        scores = [
            Score(row.label, row.stage, figures[row.label][0][column], figures[row.label][1][column])
            for row in self._rows
            if row.label in figures
        ]
        return str(path), scores, float(matrix.floor[column])

    def _scores(self, cells: Mapping[tuple[str, str], Episodes]) -> list[Score]:
        found = []
        for row in self._rows:
            cell = cells.get((row.stage, self._skill))
            if cell is not None:
                self.seen = True
                reward, success = float(np.mean(cell.reward_per_step)), float(np.mean(cell.success))
                found.append(Score(row.label, row.stage, reward, success, cell))
        return found


def _floor(found: Evaluation, skill: str) -> float:
    """Return the mean reward per step of random actions where it is the reference, or 0."""
    cell = found.cells.get((RANDOM, skill))
    return 0.0 if cell is None else float(np.mean(cell.reward_per_step))


def _outcomes(episodes: Episodes, by: str) -> np.ndarray:
    return np.asarray(episodes.success if by == "success" else episodes.reward_per_step, dtype=float)


def _advice(run: Path, skill: str, rows: Sequence[Row]) -> str:
    policies = " ".join(str(run / "stages" / row.stage) for row in rows)
    file = run / "bisect.json"
    return (
        f"not every stage of {run} has figures of {skill}; measure them with policykd evaluate {policies} --skills "
        f"{skill} --out {file}, then run policykd bisect {run} --skill {skill} --evaluation {file}"
    )
