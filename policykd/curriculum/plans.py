"""The curricula: which stages each consists of, with budgets that match.

========================  ==============================================================================================
``plaid``                 every skill is learned from the student before and then merged into it: the student labels the
                          old skills, the new expert labels the new one (Berseth et al., ICLR 2018)
``tl-only``               every skill is learned from the policy before; nothing is merged
``tl-only+merge``         the same, and one merge of all experts at the end
``multitasker``           reinforcement learning on all skills so far, one more at each stage
``multitasker-joint``     reinforcement learning on all skills from the beginning
``scratch+merge``         an expert per skill from new weights, and one merge of all at the end
========================  ==============================================================================================

The budget of a stage is the same in all of them, ``steps`` of its skill plus what PLAID's merge at that stage may
collect; a curriculum without that merge spends it on reinforcement learning. What a merge at the end collects is taken
from the last skill's share, as PLAID's is. The released configurations match PLAID and MultiTasker in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from policykd.agents.architecture import Architecture
from policykd.agents.training.config import TrainConfig
from policykd.curriculum.recipe import Recipe, SkillPlan
from policykd.curriculum.stages import Inject, Measure, Merge, Plan, Row, Stage, Train
from policykd.envs.skills import Skill, common_contract, get_skill
from policykd.errors import ContractError
from policykd.seeding import integer_seed

RANDOM = "measure-untrained"
"""Stage that measures the untrained policy."""


def make_plan(recipe: Recipe, seed: int) -> Plan:
    """The stages of a recipe's curriculum.

    Args:
        recipe: the recipe.
        seed: seed of the run. Stages of different curricula that do the same work have the same seed, so that all
            curricula begin with the same first walker.

    Returns:
        The stages, with a measurement of every policy of the matrix.

    Raises:
        UnknownNameError: for an unknown skill or observation group.
        ContractError: if the skills differ in robot, actions or length: no policy could have them all.
    """
    builder = _Builder(recipe, seed)
    _BUILDERS[recipe.curriculum](builder)
    return builder.finish()


def merge_steps(recipe: Recipe, skills: int) -> int:
    """Environment steps that a merge of the first ``skills`` skills may collect, the critic's rollouts included."""
    merge = recipe.merge
    length = get_skill(recipe.skills[0].skill).episode_steps
    return (merge.rounds + (merge.critic == "td")) * merge.envs * length * skills


def budget(recipe: Recipe) -> int:
    """Environment steps that the whole curriculum may use, equal for all curricula of a recipe."""
    merges = sum(merge_steps(recipe, n) for n in range(2, len(recipe.skills) + 1))
    return sum(plan.steps for plan in recipe.skills) + merges


@dataclass
class _Builder:
    """A plan in the making."""

    recipe: Recipe
    seed: int
    stages: list[Stage] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    experts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        common_contract(self.skills(range(self.count)))
        _check_actions(self.skills(range(self.count)))

    @property
    def count(self) -> int:
        return len(self.recipe.skills)

    @property
    def all_groups(self) -> tuple[str, ...]:
        injection = self.recipe.injection
        return (*injection.blind_groups, *injection.groups)

    def skills(self, indices: Sequence[int], groups: Sequence[str] | None = None) -> tuple[Skill, ...]:
        return tuple(get_skill(self.recipe.skills[i].skill, groups or self.all_groups) for i in indices)

    def groups_at(self, index: int) -> tuple[str, ...]:
        """What is seen while skill ``index`` is learned."""
        injection = self.recipe.injection
        return injection.blind_groups if index < injection.blind else self.all_groups

    def label(self, index: int) -> str:
        """Short name of a skill, for stages and rows: its id without the robot."""
        return self.recipe.skills[index].skill.partition("/")[2].replace(":", "-").replace("@", "-")

    def add(self, stage: Stage) -> str:
        self.stages.append(stage)
        return stage.name

    def share(self, index: int) -> int:
        """Environment steps of stage ``index``, that of PLAID's merge included."""
        return self.recipe.skills[index].steps + (merge_steps(self.recipe, index + 1) if index else 0)

    def train(self, index: int, steps: int, start: str | None) -> str:
        """Training on skill ``index`` alone."""
        name = f"train-{self.label(index)}"
        plan = self.recipe.skills[index]
        config = self.train_config(plan, steps, name, self.groups_at(index))
        noise = self.recipe.transfer_noise if start else None
        self.add(Train(name, self.skills([index], self.groups_at(index)), config, start, noise))
        self.experts[plan.skill] = name
        return name

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
        """Training on several skills at once."""
        return replace(self.train_config(plan, steps, name, groups), ppo=self.recipe.joint)

    def architecture(self, groups: Sequence[str]) -> Architecture:
        """Networks of a new policy: with the encoder where its group is seen."""
        networks, encoder = self.recipe.train.architecture, self.recipe.injection.encoder
        if encoder is None or encoder.group not in groups:
            return networks
        return replace(networks, encoders=(*networks.encoders, encoder))

    def inject_after(self, index: int, current: str) -> str:
        """The policy with its new inputs where the next skill is the first that is seen; otherwise as it was."""
        injection = self.recipe.injection
        if index + 1 != injection.blind or injection.blind >= self.count:
            return current
        return self.add(Inject("inject", current, injection, integer_seed(self.seed, "inject")))

    def merge(self, last: int, teachers: Sequence[str], previous: str | None) -> str:
        """A merge of the skills up to ``last``; the last teacher is that of the newest skill."""
        injection = self.recipe.injection
        sighted = last + 1 >= injection.blind and injection.blind < self.count
        groups = self.all_groups if sighted else injection.blind_groups
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
        """Add the measurements: every policy as soon as it is there, the last one also where nobody was trained."""
        measured = dict.fromkeys([*(row.stage for row in self.rows), *self.experts.values()])
        columns = self.skills(range(self.count))
        ids = tuple(skill.id for skill in columns)
        zero_shot = [get_skill(i, self.all_groups) for i in self.recipe.measurement.zero_shot if i not in ids]
        common_contract([*columns, *zero_shot])
        how = self.recipe.measurement
        where: dict[str, Any] = {"episodes": how.episodes, "seed": how.seed, "device": how.device}
        stages: list[Stage] = [Measure(RANDOM, None, columns, reference=self.recipe.train, **where)]
        for stage in self.stages:
            stages.append(stage)
            if stage.name in measured:
                seen = (*columns, *zero_shot) if stage.name == self.rows[-1].stage else columns
                stages.append(Measure(f"measure-{stage.name}", stage.name, seen, **where))
        return Plan(tuple(stages), tuple(self.rows), dict(self.experts), ids)


def _check_actions(skills: Sequence[Skill]) -> None:
    first = skills[0]
    for other in skills[1:]:
        mine, theirs = first.robot.joints, other.robot.joints
        if mine != theirs:
            raise ContractError(f"{first.id} has {len(mine)} joints, {other.id} has {len(theirs)}; they must be equal")


def _plaid(builder: _Builder) -> None:
    student: str | None = None  # who labels the old skills
    current: str | None = None  # where the next training starts
    merged: str | None = None
    for i in range(builder.count):
        expert = builder.train(i, builder.recipe.skills[i].steps, current)
        newest = builder.inject_after(i, expert)
        if student is None:
            student, current = expert, newest
        else:
            student = current = merged = builder.merge(i, [*[student] * i, newest], merged)
        builder.row(i, student)


def _tl_only(builder: _Builder, *, merged: bool = False) -> None:
    current: str | None = None
    for i in range(builder.count):
        last = i + 1 == builder.count
        steps = builder.recipe.skills[i].steps if merged and last else builder.share(i)
        expert = builder.train(i, steps, current)
        current = builder.inject_after(i, expert)
        if not (merged and last):
            builder.row(i, expert)
    if merged:
        _merge_all(builder)


def _merge_all(builder: _Builder) -> None:
    """One merge of all experts; the only expert itself, where there is no other."""
    last, experts = builder.count - 1, list(builder.experts.values())
    builder.row(last, builder.merge(last, experts, None) if last else experts[0])


def _multitasker(builder: _Builder) -> None:
    current: str | None = None
    for i in range(builder.count):
        name = f"joint-{builder.label(i)}" if i else f"train-{builder.label(i)}"
        settings = builder.joint_config if i else builder.train_config
        config = settings(builder.recipe.skills[i], builder.share(i), name, builder.groups_at(i))
        skills = builder.skills(range(i + 1), builder.groups_at(i))
        noise = builder.recipe.transfer_noise if current else None
        stage = builder.add(Train(name, skills, config, current, noise))
        builder.row(i, stage)
        current = builder.inject_after(i, stage)


def _multitasker_joint(builder: _Builder) -> None:
    last = builder.count - 1
    steps = sum(builder.share(i) for i in range(builder.count))
    # The hardest skill's targets and start: its settings are those that none of the others would suffer from.
    plan = max(builder.recipe.skills, key=lambda p: p.steps)
    config = builder.joint_config(plan, steps, "joint-all", builder.all_groups)
    stage = builder.add(Train("joint-all", builder.skills(range(builder.count)), config))
    builder.row(last, stage)


def _scratch(builder: _Builder) -> None:
    last = builder.count - 1
    for i in range(builder.count):
        builder.train(i, builder.recipe.skills[i].steps if i == last else builder.share(i), None)
    _merge_all(builder)


_BUILDERS: Mapping[str, Callable[[_Builder], None]] = MappingProxyType(
    {
        "plaid": _plaid,
        "tl-only": _tl_only,
        "tl-only+merge": lambda builder: _tl_only(builder, merged=True),
        "multitasker": _multitasker,
        "multitasker-joint": _multitasker_joint,
        "scratch+merge": _scratch,
    }
)
