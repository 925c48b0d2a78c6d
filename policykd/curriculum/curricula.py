"""The curricula as sequences of building blocks, with budgets that match. Names and summaries load no torch.

The budget of a stage is the same in all of them: ``steps`` of its skill plus the states that PLAID's merge at that
stage may collect. A curriculum without that merge spends them on reinforcement learning, and a merge at the end takes
them from the last skill's share, as PLAID's does. The released configurations match PLAID and MultiTasker in the same
way.

To add a curriculum, write a function of a :class:`PlanBuilder` and decorate it with :func:`curriculum`, here or in
another package. A recipe names it; ``package.module:function`` names one whose module has not been imported, as in
the processes of a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from policykd.names import Registry


class PlanBuilder(Protocol):
    """Building blocks of a curriculum; skills are given by their index in the recipe, policies by their stage."""

    @property
    def count(self) -> int:
        """Number of skills."""
        ...

    @property
    def experts(self) -> dict[str, str]:
        """Skill id to the stage that trained on it alone, in the order of the trainings."""
        ...

    def steps(self, index: int) -> int:
        """Return the environment steps of reinforcement learning on a skill in PLAID."""
        ...

    def share(self, index: int) -> int:
        """Return the environment steps of a whole stage in PLAID: its reinforcement learning and its merge."""
        ...

    def train(self, index: int, steps: int, start: str | None) -> str:
        """Add a training on one skill, which makes its expert.

        Args:
            index: the skill.
            steps: budget, environment steps.
            start: stage whose policy is the start; None for new weights.

        Returns:
            The stage.
        """
        ...

    def train_together(self, last: int, steps: int, start: str | None) -> str:
        """Add a training on all skills up to ``last`` at once; arguments otherwise as in :meth:`train`."""
        ...

    def train_on_all(self, steps: int) -> str:
        """Add a training of a new policy on all skills at once, with all observation groups; return the stage."""
        ...

    def inject_after(self, index: int, current: str) -> str:
        """Add the injection of observation groups if the next skill is the first that needs it.

        Args:
            index: the skill that was just learned.
            current: stage of the policy that is trained next.

        Returns:
            The injection, or ``current`` if nothing is injected.
        """
        ...

    def merge(self, last: int, teachers: Sequence[str], previous: str | None) -> str:
        """Add a merge of the skills up to ``last``.

        Args:
            last: the newest skill.
            teachers: per skill, the stage whose policy labels it.
            previous: stage of the student so far, from which the recipe may start the new one; None if there is none.

        Returns:
            The stage.
        """
        ...

    def finetune(self, steps: int, start: str) -> str:
        """Add fine-tuning on all skills at once; arguments otherwise as in :meth:`train`."""
        ...

    def row(self, index: int, stage: str) -> None:
        """Add a row to the matrix: the policy that the curriculum has after a skill was added."""
        ...


@dataclass(frozen=True)
class Curriculum:
    """A way to learn the skills of a recipe.

    Attributes:
        summary: its stages in a few words.
        build: adds its stages and the rows of its matrix to a plan.
        compared: whether a comparison includes it by default.
    """

    summary: str
    build: Callable[[PlanBuilder], None]
    compared: bool = False


CURRICULA: Registry[Curriculum] = Registry("curriculum", Curriculum)
"""The curricula by name, as recipes give it."""


def curriculum(
    name: str, summary: str, *, compared: bool = False
) -> Callable[[Callable[[PlanBuilder], None]], Curriculum]:
    """Return a decorator that registers a function as a curriculum.

    Args:
        name: name in recipes.
        summary: its stages in a few words.
        compared: whether a comparison includes it by default.

    Raises:
        ConfigError: if the name is taken.
    """

    def register(build: Callable[[PlanBuilder], None]) -> Curriculum:
        return CURRICULA.register(name, Curriculum(summary, build, compared))

    return register


def compared_curricula() -> tuple[str, ...]:
    """Return the names of the curricula that a comparison includes by default."""
    return tuple(name for name, entry in CURRICULA.items() if entry.compared)


@curriculum(
    "plaid",
    "every skill is learned from the student so far and then merged into it: the student labels the old skills, the "
    "new expert the new one (Berseth et al., ICLR 2018)",
    compared=True,
)
def plaid(builder: PlanBuilder) -> None:
    """Add PLAID."""
    student: str | None = None  # labels the old skills
    current: str | None = None  # start of the next training
    merged: str | None = None
    for i in range(builder.count):
        expert = builder.train(i, builder.steps(i), current)
        newest = builder.inject_after(i, expert)
        if student is None:
            student, current = expert, newest
        else:
            student = current = merged = builder.merge(i, [*[student] * i, newest], merged)
        builder.row(i, student)


@curriculum("tl-only", "every skill is learned from the policy so far; nothing is merged", compared=True)
def tl_only(builder: PlanBuilder) -> None:
    """Add transfer learning alone."""
    current: str | None = None
    for i in range(builder.count):
        expert = builder.train(i, builder.share(i), current)
        builder.row(i, expert)
        current = builder.inject_after(i, expert)


@curriculum("tl-only+merge", "as tl-only, and one merge of all experts at the end", compared=True)
def tl_only_and_merge(builder: PlanBuilder) -> None:
    """Add transfer learning and a merge of all experts."""
    current: str | None = None
    for i in range(builder.count):
        last = i + 1 == builder.count
        expert = builder.train(i, builder.steps(i) if last else builder.share(i), current)
        current = builder.inject_after(i, expert)
        if not last:
            builder.row(i, expert)
    _merge_all(builder)


@curriculum(
    "multitasker", "reinforcement learning on all skills so far, with one more skill at each stage", compared=True
)
def multitasker(builder: PlanBuilder) -> None:
    """Add reinforcement learning on a growing set of skills."""
    current: str | None = None
    for i in range(builder.count):
        stage = builder.train_together(i, builder.share(i), current)
        builder.row(i, stage)
        current = builder.inject_after(i, stage)


@curriculum("multitasker-joint", "reinforcement learning on all skills from the beginning")
def multitasker_joint(builder: PlanBuilder) -> None:
    """Add reinforcement learning on all skills."""
    builder.row(builder.count - 1, builder.train_on_all(sum(builder.share(i) for i in range(builder.count))))


@curriculum("scratch+merge", "an expert per skill from new weights, and one merge of all at the end", compared=True)
def scratch_and_merge(builder: PlanBuilder) -> None:
    """Add experts from new weights and a merge of all."""
    for i in range(builder.count):
        last = i + 1 == builder.count
        builder.train(i, builder.steps(i) if last else builder.share(i), None)
    _merge_all(builder)


EXPERTS_SHARE = 0.5
"""Share of the reinforcement learning of ``scratch+merge+finetune`` that its experts get; the student gets the rest."""


@curriculum(
    "scratch+merge+finetune",
    "an expert per skill from new weights with half of the steps, one merge of all, and reinforcement learning of the "
    "student on all skills",
)
def scratch_merge_and_finetune(builder: PlanBuilder) -> None:
    """Add experts from new weights, a merge of all, and fine-tuning of the student."""
    last, left = builder.count - 1, 0
    for i in range(builder.count):
        share = builder.steps(i) if i == last else builder.share(i)
        steps = int(EXPERTS_SHARE * share)
        builder.train(i, steps, None)
        left += share - steps
    builder.row(last, builder.finetune(left, _merged(builder)))


def _merge_all(builder: PlanBuilder) -> None:
    """Add one merge of all experts, the result."""
    builder.row(builder.count - 1, _merged(builder))


def _merged(builder: PlanBuilder) -> str:
    """Add one merge of all experts; a single expert is its own result."""
    experts = list(builder.experts.values())
    return builder.merge(builder.count - 1, experts, None) if len(experts) > 1 else experts[0]
