"""Plans: the stages of a recipe's curriculum with their skills, settings and seeds, and the budget of all curricula.

It computes; nothing is trained, measured or written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from policykd.agents.architecture import Architecture
from policykd.agents.training.config import TrainConfig
from policykd.curriculum.curricula import CURRICULA
from policykd.curriculum.recipe import Recipe, SkillPlan
from policykd.curriculum.skills import import_groups, skill_of_recipe
from policykd.curriculum.stages import Inject, Measure, Merge, Plan, Row, Stage, Train
from policykd.envs.skills import Skill, common_contract
from policykd.seeding import integer_seed

MEASURE_UNTRAINED = "measure-untrained"
"""Stage that measures the untrained policy."""


def make_plan(recipe: Recipe, seed: int) -> Plan:
    """Return the stages of a recipe's curriculum.

    Args:
        recipe: the recipe.
        seed: seed of the run. Stages of different curricula that do the same work have the same seed, so that all
            curricula begin with the same first walker.

    Returns:
        The stages, with a measurement of every policy of the matrix.

    Raises:
        UnknownNameError: for an unknown curriculum, skill or observation group.
        ContractError: if the skills differ in robot, actions or length, so that one policy cannot have them all.
    """
    builder = _Builder(replace(recipe, injection=import_groups(recipe.injection)), seed)
    CURRICULA.resolve(recipe.curriculum).build(builder)
    return replace(builder.finish(), imports=_names_in(recipe))


def merge_steps(recipe: Recipe, skills: int) -> int:
    """Return the environment steps that a merge of the first skills may collect, the critic's rollouts included."""
    merge = recipe.merge
    length = skill_of_recipe(recipe, recipe.skills[0].skill).episode_steps
    return (merge.rounds + (merge.critic == "td")) * merge.envs * length * skills


def budget(recipe: Recipe) -> int:
    """Return the environment steps that a whole curriculum may use, equal for all curricula of a recipe."""
    merges = sum(merge_steps(recipe, n) for n in range(2, len(recipe.skills) + 1))
    return sum(plan.steps for plan in recipe.skills) + merges


@dataclass
class _Builder:
    """The plan under construction; see :class:`policykd.curriculum.curricula.PlanBuilder`."""

    recipe: Recipe
    seed: int
    stages: list[Stage] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    experts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        common_contract([*self.skills(range(self.count)), *self.unseen()])

    @property
    def count(self) -> int:
        return len(self.recipe.skills)

    @property
    def all_groups(self) -> tuple[str, ...]:
        injection = self.recipe.injection
        return (*injection.blind_groups, *injection.groups)

    def skills(self, indices: Sequence[int], groups: Sequence[str] | None = None) -> tuple[Skill, ...]:
        seen = groups or self.all_groups
        return tuple(skill_of_recipe(self.recipe, self.recipe.skills[i].skill, seen) for i in indices)

    def unseen(self) -> list[Skill]:
        """Return the skills without training on which the last policy is measured."""
        ids = {skill.id for skill in self.skills(range(self.count))}
        named = (skill_of_recipe(self.recipe, i, self.all_groups) for i in self.recipe.measurement.zero_shot)
        return [skill for skill in named if skill.id not in ids]

    def groups_at(self, index: int) -> tuple[str, ...]:
        """Return the observation groups of the training on skill ``index``."""
        injection = self.recipe.injection
        return injection.blind_groups if index < injection.blind else self.all_groups

    def label(self, index: int) -> str:
        return self.skills([index])[0].slug

    def add(self, stage: Stage) -> str:
        self.stages.append(stage)
        return stage.name

    def steps(self, index: int) -> int:
        return self.recipe.skills[index].steps

    def share(self, index: int) -> int:
        return self.steps(index) + (merge_steps(self.recipe, index + 1) if index else 0)

    def train(self, index: int, steps: int, start: str | None) -> str:
        name = f"train-{self.label(index)}"
        plan = self.recipe.skills[index]
        config = self.train_config(plan, steps, name, self.groups_at(index))
        noise = self.recipe.transfer_noise if start else None
        skills = self.skills([index], self.groups_at(index))
        self.add(Train(name, skills, config, start, noise))
        self.experts[skills[0].id] = name
        return name

    def train_together(self, last: int, steps: int, start: str | None) -> str:
        name = f"joint-{self.label(last)}" if last else f"train-{self.label(last)}"
        settings = self.joint_config if last else self.train_config
        config = settings(self.recipe.skills[last], steps, name, self.groups_at(last))
        skills = self.skills(range(last + 1), self.groups_at(last))
        return self.add(Train(name, skills, config, start, self.recipe.transfer_noise if start else None))

    def train_on_all(self, steps: int) -> str:
        # Targets and start of the hardest skill: its settings are safe for all other skills.
        plan = max(self.recipe.skills, key=lambda p: p.steps)
        config = self.joint_config(plan, steps, "joint-all", self.all_groups)
        return self.add(Train("joint-all", self.skills(range(self.count)), config))

    def train_config(self, plan: SkillPlan, steps: int, name: str, groups: Sequence[str]) -> TrainConfig:
        target = plan.target_success if self.recipe.early_stop else 2.0
        return replace(
            self.recipe.train,
            steps=steps,
            target_success=target,
            start_level=plan.start_level,
            seed=integer_seed(self.seed, name),
            architecture=self.architecture(groups),
        )

    def joint_config(self, plan: SkillPlan, steps: int, name: str, groups: Sequence[str]) -> TrainConfig:
        """Return the settings of a training on several skills at once."""
        return replace(self.train_config(plan, steps, name, groups), ppo=self.recipe.joint)

    def architecture(self, groups: Sequence[str]) -> Architecture:
        """Return the networks of a new policy, with the encoder if its group is observed."""
        networks, encoder = self.recipe.train.architecture, self.recipe.injection.encoder
        if encoder is None or encoder.group not in groups:
            return networks
        return replace(networks, encoders=(*networks.encoders, encoder))

    def inject_after(self, index: int, current: str) -> str:
        injection = self.recipe.injection
        if index + 1 != injection.blind or injection.blind >= self.count:
            return current
        return self.add(Inject("inject", current, injection, integer_seed(self.seed, "inject")))

    def merge(self, last: int, teachers: Sequence[str], previous: str | None) -> str:
        injection = self.recipe.injection
        injected = last + 1 >= injection.blind and injection.blind < self.count
        groups = self.all_groups if injected else injection.blind_groups
        skills = self.skills(range(last + 1), groups)
        name = f"merge-{self.label(last)}"
        networks = self.architecture(groups)
        config = replace(self.recipe.merge, seed=integer_seed(self.seed, name), architecture=networks)
        if not self.recipe.early_stop:
            config = replace(config, target_retention=2.0)
        if config.start != "previous":
            previous = None
        elif previous is None:
            config = replace(config, start="newest")
        return self.add(Merge(name, skills, tuple(teachers), config, previous, self.recipe.keep_data))

    def row(self, index: int, stage: str) -> None:
        self.rows.append(Row(self.label(index), stage))

    def finish(self) -> Plan:
        """Add the measurement of every policy after its stage; the last one is also measured on unseen skills."""
        measured = dict.fromkeys([*(row.stage for row in self.rows), *self.experts.values()])
        columns = self.skills(range(self.count))
        how = self.recipe.measurement
        where: dict[str, Any] = {"episodes": how.episodes, "seed": how.seed, "device": how.device}
        stages: list[Stage] = [Measure(MEASURE_UNTRAINED, None, columns, reference=self.recipe.train, **where)]
        for stage in self.stages:
            stages.append(stage)
            if stage.name in measured:
                skills = (*columns, *self.unseen()) if stage.name == self.rows[-1].stage else columns
                stages.append(Measure(f"measure-{stage.name}", stage.name, skills, **where))
        return Plan(tuple(stages), tuple(self.rows), dict(self.experts), tuple(s.id for s in columns))


def _names_in(recipe: Recipe) -> tuple[str, ...]:
    """Return the names from which another process can import all skills and groups of a recipe."""
    skills = [*(plan.skill for plan in recipe.skills), *recipe.measurement.zero_shot]
    groups = (*recipe.injection.blind_groups, *recipe.injection.groups)
    return (*(name for name in skills if name not in (recipe.skill_records or ())), *groups)
