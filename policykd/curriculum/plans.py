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
from policykd.curriculum.skills import environments_of_recipe, import_groups, skill_of_recipe
from policykd.curriculum.stages import Finetune, Inject, Measure, Merge, Plan, Row, Stage, Train
from policykd.envs.devices import is_card
from policykd.envs.foreign.skill import PREFIX, GymSkill, together
from policykd.envs.skills import Skill, common_contract
from policykd.errors import ConfigError, ContractError
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
        ConfigError: for fine-tuning on another device than the CPU.
    """
    builder = _Builder(replace(recipe, injection=import_groups(recipe.injection)), seed)
    CURRICULA.resolve(recipe.curriculum).build(builder)
    return replace(builder.finish(), imports=_names_in(recipe))


def merge_steps(recipe: Recipe, skills: int) -> int:
    """Return the environment steps that a merge of the first skills may collect, the critic's rollouts included."""
    merge = recipe.merge
    # All skills of a merge advance together, as long as the longest episode.
    length = max(skill_of_recipe(recipe, plan.skill).episode_steps for plan in recipe.skills[:skills])
    return (merge.rounds + (merge.critic == "td")) * merge.envs * length * skills


def budget(recipe: Recipe) -> int:
    """Return the environment steps that a whole curriculum may use, equal for all curricula of a recipe."""
    merges = sum(merge_steps(recipe, n) for n in range(2, len(recipe.skills) + 1))
    preparation = 0 if recipe.preparation is None else recipe.preparation.steps
    return preparation + sum(plan.steps for plan in recipe.skills) + merges


@dataclass
class _Builder:
    """The plan under construction; see :class:`policykd.curriculum.curricula.PlanBuilder`."""

    recipe: Recipe
    seed: int
    stages: list[Stage] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    experts: dict[str, str] = field(default_factory=dict)
    environments: tuple[GymSkill, ...] = ()

    def __post_init__(self) -> None:
        self.environments = environments_of_recipe(self.recipe)
        common_contract([*self.skills(range(self.count)), *self.unseen()])

    @property
    def count(self) -> int:
        return len(self.recipe.skills)

    @property
    def all_groups(self) -> tuple[str, ...]:
        if self.environments:
            return together(self.environments)[0].groups
        injection = self.recipe.injection
        return (*injection.blind_groups, *injection.groups)

    def skills(self, indices: Sequence[int], groups: Sequence[str] | None = None) -> tuple[Skill, ...]:
        seen = groups or self.all_groups
        if self.environments:
            offered = together(self.environments, seen)
            return tuple(offered[i] for i in indices)
        return tuple(skill_of_recipe(self.recipe, self.recipe.skills[i].skill, seen) for i in indices)

    def groups_at(self, index: int) -> tuple[str, ...]:
        """Return the observation groups of the training on skill ``index``."""
        if self.environments:
            return together(self.environments[: index + 1])[0].groups
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
        skills = self.skills([index], self.groups_at(index))
        self.add(Train(name, skills, config, *self.start_of(start)))
        self.experts[skills[0].id] = name
        return name

    def train_together(self, last: int, steps: int, start: str | None) -> str:
        name = f"joint-{self.label(last)}" if last else f"train-{self.label(last)}"
        settings = self.joint_config if last else self.train_config
        config = settings(self.recipe.skills[last], steps, name, self.groups_at(last))
        skills = self.skills(range(last + 1), self.groups_at(last))
        return self.add(Train(name, skills, config, *self.start_of(start)))

    def train_on_all(self, steps: int) -> str:
        # Targets and start of the hardest skill: its settings are safe for all other skills.
        plan = max(self.recipe.skills, key=lambda p: p.steps)
        config = self.joint_config(plan, steps, "joint-all", self.all_groups)
        return self.add(Train("joint-all", self.skills(range(self.count)), config, *self.start_of(None)))

    def start_of(self, stage: str | None) -> tuple[str | None, float | None]:
        """Return the stage that a training starts from, and its exploration noise.

        New weights, ``stage`` None, are replaced by the policy of the preparation, which is added when it is needed
        first.
        """
        plan = self.recipe.preparation
        if stage is None and plan is not None:
            skill = skill_of_recipe(self.recipe, plan.skill, self.all_groups)
            stage = f"prepare-{skill.slug}"
            if all(other.name != stage for other in self.stages):
                self.add(Train(stage, (skill,), self.train_config(plan, plan.steps, stage, self.all_groups)))
        return stage, self.recipe.transfer_noise if stage else None

    def train_config(self, plan: SkillPlan, steps: int, name: str, groups: Sequence[str]) -> TrainConfig:
        return replace(
            self.recipe.train,
            steps=steps,
            target_success=self.targets(plan)[0],
            target_reward=self.targets(plan)[1],
            start_level=plan.start_level,
            seed=integer_seed(self.seed, name),
            architecture=self.architecture(groups),
        )

    def targets(self, plan: SkillPlan) -> tuple[float, float]:
        """Return target success and target reward per step of a training.

        Few gymnasium environments report success; their trainings stop at a return only.
        """
        usual = self.recipe.train.target_reward
        if not self.recipe.early_stop or (self.environments and plan.target_return is None):
            return 2.0, usual
        if plan.target_return is None or not self.environments:
            return plan.target_success, usual
        skill = next(s for s, p in zip(self.environments, self.recipe.skills, strict=True) if p == plan)
        return 0.0, plan.target_return / skill.episode_steps

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
        if self.environments:
            return self.inject_environment(index + 1, current)
        if index + 1 != injection.blind or injection.blind >= self.count:
            return current
        return self.add(Inject("inject", current, injection, integer_seed(self.seed, "inject")))

    def inject_environment(self, index: int, current: str) -> str:
        """Add the injection of the groups that environment ``index`` is the first to have."""
        if index >= self.count:
            return current
        groups, old = self.groups_at(index), self.groups_at(index - 1)
        new = groups[len(old) :]
        if not new:
            return current
        encoder = self.recipe.injection.encoder
        encoder = encoder if encoder is not None and encoder.group in new else None
        injection = replace(self.recipe.injection, blind_groups=old, groups=new, encoder=encoder)
        name = f"inject-{self.label(index)}"
        return self.add(
            Inject(name, current, injection, integer_seed(self.seed, name), self.skills([index], groups)[0])
        )

    def merge(self, last: int, teachers: Sequence[str], previous: str | None) -> str:
        groups = self.merged_groups(last)
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
        keep, allow = self.recipe.keep_data, self.recipe.allow_conflicts
        return self.add(Merge(name, skills, tuple(teachers), config, previous, keep, allow))

    def merged_groups(self, last: int) -> tuple[str, ...]:
        """Return the observation groups of a student of the skills up to ``last``."""
        if self.environments:  # the newest expert has the groups of the next environment already
            return self.groups_at(min(last + 1, self.count - 1))
        injection = self.recipe.injection
        injected = last + 1 >= injection.blind and injection.blind < self.count
        return self.all_groups if injected else injection.blind_groups

    def finetune(self, steps: int, start: str) -> str:
        if is_card(self.recipe.train.device):
            raise ConfigError(f"{self.recipe.curriculum} fine-tunes, which runs on the CPU only: give --device cpu")
        skills = self.skills(range(self.count), self.merged_groups(self.count - 1))
        config = replace(self.recipe.finetune, steps=steps, seed=integer_seed(self.seed, "finetune"))
        return self.add(Finetune("finetune", skills, config, start))

    def unseen(self) -> list[Skill]:
        """Return the skills without training on which the last policy is measured."""
        ids = {skill.id for skill in self.skills(range(self.count))}
        return [skill for skill in self._zero_shot() if skill.id not in ids]

    def _zero_shot(self) -> list[Skill]:
        names = self.recipe.measurement.zero_shot
        if not self.environments:
            return [skill_of_recipe(self.recipe, name, self.all_groups) for name in names]
        others = [skill_of_recipe(self.recipe, name) for name in names]
        foreign = [skill for skill in others if isinstance(skill, GymSkill)]
        if len(foreign) < len(others):
            raise ContractError(f"measurement.zero_shot is {list(names)}; all of them must be gymnasium environments")
        return list(together([*self.environments, *foreign], self.all_groups)[self.count :])

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
    skills = [*recipe.skill_names, *recipe.measurement.zero_shot]
    groups = (*recipe.injection.blind_groups, *recipe.injection.groups)
    if recipe.skills[0].skill.startswith(PREFIX):
        return ()
    return (*(name for name in skills if name not in (recipe.skill_records or ())), *groups)
