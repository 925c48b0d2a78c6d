"""What a finished curriculum says: matrix, figures of every stage, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policykd import __version__
from policykd.curriculum.plans import RANDOM, budget
from policykd.curriculum.recipe import Recipe
from policykd.curriculum.stages import Outcome, Plan, Train
from policykd.curriculum.work import StageFolders
from policykd.curriculum.yaml_files import from_plain
from policykd.errors import OutputError
from policykd.evaluation import Evaluation
from policykd.evaluation.curves import curve_of, steps_to
from policykd.evaluation.matrix import SkillMatrix
from policykd.plain import as_plain
from policykd.runs import read_log
from policykd.storage import read_json, write_json

FORMAT_VERSION = 1
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
        experts: skill id to the stage of its expert; empty where nobody learns a skill alone.
        zero_shot: skill id to success and reward per step of the final policy where nobody was trained.
        steps_to_expert: per skill, environment steps of the training on it until a validation reached 90 % of the best
            one's reward; None where nobody learns a skill alone.
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
        """Everything."""
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
            OutputError: if it is no finished curriculum, naming it.
        """
        try:
            content = read_json(path)
        except FileNotFoundError:
            raise OutputError(f"there is no finished curriculum at {path}") from None
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise OutputError(f"{path} has format {version}; this policykd reads {FORMAT_VERSION}")
        try:
            return cls(
                recipe=from_plain(Recipe, content["recipe"], "recipe"),
                seed=content["seed"],
                matrix=SkillMatrix.from_json(content["matrix"]),
                outcomes=tuple(Outcome(**o) for o in content["outcomes"]),
                final=content["final"],
                experts=content["experts"],
                zero_shot=content["zero_shot"],
                steps_to_expert=content["steps_to_expert"],
                budget=content["cost"]["budget"],
            )
        except (KeyError, TypeError) as error:
            raise OutputError(f"{path} lacks or garbles {error}") from None


def read_result(out: Path, plan: Plan, recipe: Recipe, seed: int) -> CurriculumResult:
    """Collect what the finished stages of a run left behind, and write the evaluation of all its policies.

    Args:
        out: folder of the run.
        plan: its plan.
        recipe: its recipe.
        seed: its seed.
    """
    folders = StageFolders(out / "stages")
    found = [folders.outcome(stage.name) for stage in plan.stages]
    outcomes = tuple(outcome for outcome in found if outcome is not None)
    together(folders, plan).save(out / "evaluation.json")
    final = plan.rows[-1].stage
    by_name = {outcome.name: outcome for outcome in outcomes}
    last = by_name[f"measure-{final}"].figures
    zero_shot = {
        skill: {"success": last["success"][skill], "reward_per_step": last["reward_per_step"][skill]}
        for skill in last["success"]
        if skill not in plan.columns
    }
    return CurriculumResult(
        recipe=recipe,
        seed=seed,
        matrix=matrix_of(plan, by_name),
        outcomes=outcomes,
        final=final,
        experts=plan.experts,
        zero_shot=zero_shot,
        steps_to_expert={s: _steps_to_expert(folders, plan, name) for s, name in plan.experts.items()},
        budget=budget(recipe),
    )


def together(folders: StageFolders, plan: Plan) -> Evaluation:
    """One evaluation of all measured policies on the plan's skills; they share tracks and initial states.

    Args:
        folders: where the finished stages live.
        plan: the plan.
    """
    measured = {row.stage for row in plan.rows} | set(plan.experts.values())
    names = [stage.name for stage in plan.stages if stage.name in measured]
    parts = {name: Evaluation.load(folders(f"measure-{name}") / "evaluation.json") for name in names}
    first = next(iter(parts.values()))
    cells = {(name, skill): part.cells[name, skill] for name, part in parts.items() for skill in plan.columns}
    steps = {skill: first.episode_steps[skill] for skill in plan.columns}
    whole = replace(first, policies=tuple(parts), skills=plan.columns, episode_steps=steps, cells=cells, experts={})
    return whole.with_experts(plan.experts)


def matrix_of(plan: Plan, outcomes: Mapping[str, Outcome]) -> SkillMatrix:
    """The matrix of a plan.

    Args:
        plan: the plan.
        outcomes: its finished stages by name.
    """
    rows = [outcomes[f"measure-{row.stage}"].figures for row in plan.rows]
    scores = [[row["reward_per_step"][skill] for skill in plan.columns] for row in rows]
    learned = _learned(plan)
    untrained = outcomes[RANDOM].figures["reward_per_step"]
    experts = [
        outcomes[f"measure-{plan.experts[skill]}"].figures["reward_per_step"][skill]
        if skill in plan.experts
        else scores[learned[j]][j]  # without an expert, what the policy could right after it learned the skill
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
    )


def _learned(plan: Plan) -> tuple[int, ...]:
    """Row after which each skill is learned: with one row per skill its own; otherwise later skills share rows."""
    first = len(plan.columns) - len(plan.rows)
    return tuple(max(0, j - first) for j in range(len(plan.columns)))


def _steps_to_expert(folders: StageFolders, plan: Plan, name: str) -> float | None:
    stage = next(s for s in plan.stages if s.name == name)
    assert isinstance(stage, Train)
    curve = curve_of(read_log(folders(name) / "progress.jsonl"))
    return steps_to(curve, _SHARE * max(score for _, score in curve)) if curve else None
