"""The result of a finished curriculum: matrix, metrics and cost of every stage.

It reads the files of finished stages and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policykd import __version__
from policykd.curriculum.plans import MEASURE_UNTRAINED, budget
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Outcome, Plan, Train
from policykd.errors import OutputError
from policykd.evaluation import Evaluation
from policykd.evaluation.curves import curve_of, steps_to
from policykd.evaluation.matrix import SkillMatrix
from policykd.evaluation.results import RANDOM
from policykd.plain import as_plain, from_plain, typed, versioned
from policykd.storage import read_json, write_json

FORMAT_VERSION = 1
RESULT = "curriculum.json"
"""File of the result in a run's folder."""

_SHARE = 0.9


@dataclass(frozen=True)
class CurriculumResult:
    """A finished curriculum.

    Attributes:
        recipe: the recipe.
        seed: seed of the run.
        matrix: scores after every stage.
        outcomes: every stage, in the order of the plan.
        final: stage of the final policy.
        experts: skill id to the stage of its expert; empty if no skill is learned alone.
        zero_shot: skill id to success and reward per step of the final policy on skills without training.
        steps_to_expert: per skill that is learned alone, environment steps of its training until a validation reached
            90 % of the best one's reward; None without a validation.
        budget: environment steps that the recipe allows.
    """

    recipe: Recipe
    seed: int
    matrix: SkillMatrix
    outcomes: tuple[Outcome, ...]
    final: str
    experts: Mapping[str, str]
    zero_shot: Mapping[str, Mapping[str, float]]
    steps_to_expert: Mapping[str, float | None]
    budget: int

    @property
    def steps(self) -> int:
        """Environment steps used to learn: training and the states that merges collected."""
        return sum(outcome.steps for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """Wall time of all stages one after the other, s."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all stages, s."""
        return sum(outcome.cpu_seconds for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the cost as they are written."""
        cost = {"steps": self.steps, "budget": self.budget, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {
            "format_version": FORMAT_VERSION,
            "policykd_version": __version__,
            "recipe": as_plain(self.recipe),
            "seed": self.seed,
            "matrix": self.matrix.to_json(),
            "cost": cost,
            "final": self.final,
            "experts": dict(self.experts),
            "zero_shot": {s: dict(v) for s, v in self.zero_shot.items()},
            "steps_to_expert": dict(self.steps_to_expert),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }

    def save(self, path: Path) -> None:
        """Write everything to a JSON file, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> CurriculumResult:
        """Read a JSON file that :meth:`save` wrote.

        Raises:
            OutputError: if it is not the result of a finished curriculum, naming the file.
        """
        try:
            content = versioned(read_json(path), FORMAT_VERSION, str(path))
        except FileNotFoundError:
            raise OutputError(f"there is no finished curriculum at {path}") from None

        def invalid(reason: str) -> OutputError:
            return OutputError(f"{path} is not a valid result of a curriculum: {reason}")

        recipe = from_plain(Recipe, content.get("recipe"), "recipe", error=invalid)
        cost = typed(dict[str, Any], content.get("cost"), "cost", error=invalid)
        given = {**content, "recipe": recipe, "budget": cost.get("budget")}
        return from_plain(cls, given, error=invalid, strict=True, ignore_unknown=True)


def collect_result(out: Path, plan: Plan, recipe: Recipe, seed: int) -> CurriculumResult:
    """Collect the outcomes of a run's finished stages, and write the evaluation of all its policies.

    Args:
        out: folder of the run.
        plan: plan of the run.
        recipe: recipe of the run.
        seed: seed of the run.
    """
    folders = StageFolders(out / "stages")
    by_name = outcomes_of(folders, plan)
    merged_evaluation(folders, plan).save(out / "evaluation.json")
    final = plan.rows[-1].stage
    last = by_name[f"measure-{final}"].figures
    zero_shot = {
        skill: {"success": last["success"][skill], "reward_per_step": last["reward_per_step"][skill]}
        for skill in last["success"]
        if skill not in plan.columns
    }
    matrix = matrix_of(plan, by_name)
    return CurriculumResult(
        recipe=recipe,
        seed=seed,
        matrix=matrix,
        outcomes=tuple(by_name.values()),
        final=final,
        experts=plan.experts,
        zero_shot=zero_shot,
        steps_to_expert={
            s: _steps_to_expert(folders, plan, name, floor)
            for (s, name), floor in zip(plan.experts.items(), _floors(plan, matrix), strict=True)
        },
        budget=budget(recipe),
    )


def outcomes_of(folders: StageFolders, plan: Plan) -> dict[str, Outcome]:
    """Return the outcomes of a plan's finished stages by name, in the order of the plan."""
    found = {stage.name: folders.outcome(stage.name) for stage in plan.stages}
    return {name: outcome for name, outcome in found.items() if outcome is not None}


def merged_evaluation(folders: StageFolders, plan: Plan) -> Evaluation:
    """Return one evaluation of all measured policies on the plan's skills; they share tracks and initial states.

    Args:
        folders: folders of the finished stages.
        plan: the plan.
    """
    measured = {row.stage for row in plan.rows} | set(plan.experts.values())
    names = [stage.name for stage in plan.stages if stage.name in measured]
    parts = {name: folders.evaluation(f"measure-{name}") for name in names}
    first = next(iter(parts.values()))
    cells = {(name, skill): part.cells[name, skill] for name, part in parts.items() for skill in plan.columns}
    steps = {skill: first.episode_steps[skill] for skill in plan.columns}
    random = {(RANDOM, s): first.cells[RANDOM, s] for s in plan.columns if (RANDOM, s) in first.cells}
    cells |= random
    policies = (*parts, *([RANDOM] if random else []))
    whole = replace(first, policies=policies, skills=plan.columns, episode_steps=steps, cells=cells, experts={})
    return whole.with_experts(plan.experts)


def matrix_of(plan: Plan, outcomes: Mapping[str, Outcome]) -> SkillMatrix:
    """Return the matrix of a plan.

    Args:
        plan: the plan.
        outcomes: its finished stages by name.
    """
    rows = [outcomes[f"measure-{row.stage}"].figures for row in plan.rows]
    scores = [[row["reward_per_step"][skill] for skill in plan.columns] for row in rows]
    learned = _learned(plan)
    untrained = outcomes[MEASURE_UNTRAINED].figures["reward_per_step"]
    experts = [
        outcomes[f"measure-{plan.experts[skill]}"].figures["reward_per_step"][skill]
        if skill in plan.experts
        else scores[learned[j]][j]  # without an expert, the policy's score right after it learned the skill
        for j, skill in enumerate(plan.columns)
    ]
    return SkillMatrix(
        stages=tuple(row.label for row in plan.rows),
        skills=plan.columns,
        scores=tuple(tuple(row) for row in scores),
        success=tuple(tuple(row["success"][skill] for skill in plan.columns) for row in rows),
        experts=tuple(experts),
        untrained=tuple(untrained[skill] for skill in plan.columns),
        learned=learned,
        random=tuple(rows[0]["random"][skill] for skill in plan.columns) if "random" in rows[0] else (),
    )


def _floors(plan: Plan, matrix: SkillMatrix) -> list[float]:
    """Return the scores of random actions on the skills that are learned alone, or 0."""
    floor = dict(zip(plan.columns, matrix.floor.tolist(), strict=True))
    return [floor[skill] for skill in plan.experts]


def _learned(plan: Plan) -> tuple[int, ...]:
    """Return the row after which each skill is learned: its own with one row per skill; otherwise skills share rows."""
    first = len(plan.columns) - len(plan.rows)
    return tuple(max(0, j - first) for j in range(len(plan.columns)))


def _steps_to_expert(folders: StageFolders, plan: Plan, name: str, floor: float) -> float | None:
    stage = next(s for s in plan.stages if s.name == name)
    assert isinstance(stage, Train)
    curve = [(steps, score - floor) for steps, score in curve_of(folders.log(name))]
    return steps_to(curve, _SHARE * max(score for _, score in curve)) if curve else None
