"""Recipes that are ready to run; ``recipes/`` holds them as YAML files to copy and change.

A preset is data: it may use the configurations of training and merging, and runs nothing.

=================== ============================================================================================
``quick``           three easy skills in minutes: flat, a gentle incline, narrow gaps
``standard``        the five terrains of the paper, flat and incline blind, then terrain is injected
``paper``           the paper's text: its reward, networks, exact injection, budgets, MSE, mixing of expert and student
``released-code``   the settings in which the authors' released code differs from the text
``quadruped``       the five terrains of the paper for a quadruped; the first two without a scanner
``quadruped-hard``  grounds that vary in x and y: rough, stairs, walls, stepping stones, beams
``quadruped-gaits`` trot, pace, bound, creep, backward and turning on flat ground, told apart by what is commanded
``humanoid``        balance, then walking on flat ground, slopes, steps and rough ground
=================== ============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.training.config import PpoConfig, TrainConfig
from policykd.agents.training.defaults import SPATIAL, TWO_LEGS
from policykd.curriculum.recipe import Injection, Measurement, Recipe, SkillPlan
from policykd.errors import UnknownNameError
from policykd.merge.config import MergeConfig

_NETWORKS = Architecture(hidden=(192, 192), critic_hidden=(192, 192))
_MERGE = MergeConfig(
    rounds=8, start="newest", adaptive=0.5, updates=1000, target_retention=0.985, architecture=_NETWORKS
)
_ZERO_SHOT = (
    "biped/mixed",
    "biped/walls@0.5",
    "biped/gaps:hard@0.5",
    "biped/steps:hard@0.4",
    "biped/slopes:hard@0.5",
    "biped/downhill@0.5",
)
"""A mixture, walls, wider gaps, stairs up and down, long steep slopes up and down, and an endless descent."""


def preset(name: str) -> Recipe:
    """Return the recipe of a preset.

    Args:
        name: one of :func:`preset_names`.

    Raises:
        UnknownNameError: for another name, with close matches.
    """
    if name not in _PRESETS:
        raise UnknownNameError("preset", name, _PRESETS)
    return _PRESETS[name]()


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return list(_PRESETS)


def for_suite(recipe: Recipe, suite: str) -> Recipe:
    """Return a recipe with the skills of a suite instead of its own.

    Skills of the recipe keep their settings if the policies read the same observation groups; others get the budget of
    the suite.

    Args:
        recipe: the recipe.
        suite: name of a suite; see ``policykd.envs.suites``.

    Raises:
        UnknownNameError: for an unknown suite.
    """
    from policykd.envs.suites import get_suite

    suited = get_suite(suite)
    common = suited[0]
    if common.robot.spatial:
        return replace(_PRESETS[suite](), curriculum=recipe.curriculum)
    seen = {*recipe.injection.blind_groups, *recipe.injection.groups}
    known = {plan.skill: plan for plan in recipe.skills} if seen == set(common.groups) else {}
    fresh = {skill.id: {**_SUITE_PLAN[suite], **_OWN_PLAN.get(skill.id, {})} for skill in suited}
    plans = tuple(known.get(skill, SkillPlan(skill, **settings)) for skill, settings in fresh.items())
    if plans == recipe.skills:
        return recipe
    first, *others = common.groups
    # Proprioception is observed from the start; only walking on the paper's terrains begins blind.
    injection = recipe.injection if suite == "terrains" else Injection(0, (first,), tuple(others))
    measurement = replace(recipe.measurement, zero_shot=())
    return replace(recipe, skills=plans, injection=injection, measurement=measurement, skill_records=None)


_SUITE_PLAN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "terrains": {"steps": 1_200_000},
        "terrains-hard": {"steps": 2_000_000, "target_success": 0.9, "start_level": 0.2},
        "gaits": {"steps": 1_200_000},
    }
)
"""Settings of the skills of a suite that are not in the recipe."""

_OWN_PLAN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"biped/gaps:hard": {"steps": 3_000_000}}  # after 2 M, a student of the others succeeded on 0.41, still improving
)
"""Settings of single skills that differ from their suite's."""


def _quick() -> Recipe:
    return Recipe(
        skills=(
            SkillPlan("biped/flat", 300_000, target_success=0.97),
            SkillPlan("biped/incline@0.5", 400_000, target_success=0.97),
            SkillPlan("biped/gaps@0.5", 1_200_000, target_success=0.98),
        ),
        train=TrainConfig(patience=1, architecture=_NETWORKS),
        merge=_MERGE,
        transfer_noise=0.35,
        measurement=Measurement(episodes=64, zero_shot=("biped/gaps@0.75", "biped/walls@0.3")),
    )


def _standard() -> Recipe:
    return Recipe(
        skills=(
            SkillPlan("biped/flat", 300_000, target_success=0.97),
            SkillPlan("biped/incline", 900_000, target_success=0.98),
            SkillPlan("biped/steps", 1_200_000, target_success=0.98),
            SkillPlan("biped/slopes", 900_000, target_success=0.98),
            SkillPlan("biped/gaps", 1_800_000, target_success=0.98),
        ),
        train=TrainConfig(patience=1, architecture=_NETWORKS),
        merge=_MERGE,
        transfer_noise=0.35,
        measurement=Measurement(episodes=64, zero_shot=_ZERO_SHOT),
    )


_FELT = ("proprio", "phase")
"""Observation groups of the paper's blind walker: its body, and the phase of the walking cycle."""

_FAINT = 0.2
"""Exploration noise that keeps a gait recognizable: with 0.5 and a discount of 0.98, PPO marches on the spot first."""

_REVIEW = 16_384
"""Steps between two decisions of the curriculum under ``imitate``: an episode of every simulation."""

_PAPER_STEPS = {"flat": 3_840_000, "incline": 3_840_000, "steps": 1_024_000, "slopes": 1_024_000, "gaps": 1_024_000}


def _paper() -> Recipe:
    networks = Architecture(hidden=(512, 256), critic_hidden=(512, 256), activation="relu", initial_std=_FAINT)
    return Recipe(
        skills=tuple(
            SkillPlan(f"biped/{name}+imitate", steps, start_level=0.2 if name == "incline" else None)
            for name, steps in _PAPER_STEPS.items()
        ),
        train=TrainConfig(
            patience=1,
            architecture=networks,
            raise_above=0.5,
            review_steps=_REVIEW,
            ppo=PpoConfig(gamma=0.95),
        ),
        injection=Injection(
            blind_groups=_FELT,
            encoder=Encoder("terrain", channels=(8,), kernel=(3,), stride=(1,), dense=32, join="every"),
        ),
        merge=MergeConfig(
            rounds=20,
            updates=1000,
            beta="plaid_paper",
            mixing="step",
            loss="mse",
            start="newest",
            min_teacher_success=0.0,  # under this reward a slow walker is an expert as well
            architecture=networks,
        ),
        # PLAID's exploration does not shrink; with the noise after PPO's training (0.09) climbing took twice as long.
        transfer_noise=_FAINT,
        early_stop=False,
        measurement=Measurement(episodes=64, zero_shot=("biped/mixed+imitate",)),
    )


def _released_code() -> Recipe:
    networks = Architecture(hidden=(128, 64, 32), critic_hidden=(128, 64, 32, 16), initial_std=_FAINT)
    paper = _paper()
    return replace(
        paper,
        skills=tuple(replace(plan, skill=_released(plan.skill)) for plan in paper.skills),
        injection=Injection(blind_groups=_FELT, mode="scaled", scale=0.01, encoder=Encoder("terrain")),
        train=replace(paper.train, architecture=networks),
        # As released, the expert always acts while a distillation collects, with next to no noise.
        merge=replace(paper.merge, beta="constant:1", noise=1e-4, architecture=networks),
        transfer_noise=0.3,
        measurement=replace(paper.measurement, zero_shot=tuple(map(_released, paper.measurement.zero_shot))),
    )


def _released(skill: str) -> str:
    """Return the skill on the terrain of the released simulator."""
    place, _, task = skill.partition("+")
    return f"{place}:terrainrlsim+{task}"


_QUADRUPED_STEPS = {"flat": 900_000, "incline": 700_000, "steps": 700_000, "slopes": 700_000, "gaps": 1_000_000}


def _quadruped() -> Recipe:
    networks = SPATIAL.architecture
    return Recipe(
        skills=tuple(
            SkillPlan(f"quadruped/{name}", steps, target_success=0.97) for name, steps in _QUADRUPED_STEPS.items()
        ),
        injection=Injection(
            blind_groups=("imu", "base_velocity", "joints", "last_action", "command"), groups=("scan",)
        ),
        train=replace(SPATIAL, patience=1),
        joint=replace(SPATIAL.ppo, envs=320, minibatch=1920),
        merge=MergeConfig(
            rounds=6,
            envs=32,
            updates=1600,
            minibatch=512,
            averaging=0.9995,
            noise=0.05,
            start="newest",
            adaptive=0.4,
            gap_memory=0.6,
            target_retention=0.985,
            architecture=networks,
        ),
        transfer_noise=0.2,
        measurement=Measurement(
            episodes=64,
            zero_shot=("quadruped/mixed", "quadruped/walls@0.5", "quadruped/steps:hard@0.5", "quadruped/downhill@0.5"),
        ),
    )


_HARD_STEPS = {"rough": 1_500_000, "stairs": 1_500_000, "barriers": 1_200_000, "stones": 1_500_000, "beams": 1_200_000}


def _quadruped_hard() -> Recipe:
    """Return the recipe of ``quadruped`` with other skills and a scanner from the start, after learning to walk."""
    recipe = _quadruped()
    skills = tuple(SkillPlan(f"quadruped/{name}", steps, target_success=0.9) for name, steps in _HARD_STEPS.items())
    injection = replace(recipe.injection, blind=0, groups=("area",))
    measurement = replace(recipe.measurement, zero_shot=("quadruped/patchwork@0.5", "quadruped/obstacles@0.5"))
    # With one level for all simulations, episodes on easier maps counted for too long: on stairs it went from 0.1 to
    # 0.82 within 20 rollouts, where every episode failed. With levels of their own it is 0.5 after 1.4 M steps.
    train = replace(recipe.train, levels="own", start_level=0.2)
    # From new weights, rough ground had success 0.34 after 1.5 M steps.
    preparation = SkillPlan("quadruped/flat", 983_040, target_success=0.98)
    return replace(
        recipe, skills=skills, preparation=preparation, injection=injection, measurement=measurement, train=train
    )


_GAIT_STEPS = {
    "trot": 1_228_800,
    "pace": 737_280,
    "bound": 737_280,
    "creep": 737_280,
    "reverse": 737_280,
    "turn": 737_280,
}


def _quadruped_gaits() -> Recipe:
    """Return the recipe of ``quadruped`` with the gaits on flat ground, told apart by what is commanded."""
    recipe = _quadruped()
    skills = tuple(
        SkillPlan(f"quadruped/flat+{name}", steps, target_success=2.0) for name, steps in _GAIT_STEPS.items()
    )
    injection = replace(recipe.injection, blind=0, groups=("gait",))
    return replace(recipe, skills=skills, injection=injection, measurement=replace(recipe.measurement, zero_shot=()))


_HUMANOID_STEPS = {"flat": 3_440_640, "slopes": 4_423_680, "steps": 4_423_680, "rough": 4_423_680}


def _humanoid() -> Recipe:
    """Return the recipe of ``quadruped`` for a humanoid, which sees the ground from the start; see docs/robots.md."""
    recipe, networks = _quadruped(), TWO_LEGS.architecture
    skills = tuple(
        SkillPlan(f"humanoid/{name}", steps, target_success=2.0, start_level=None if name == "flat" else 0.1)
        for name, steps in _HUMANOID_STEPS.items()
    )
    return replace(
        recipe,
        skills=skills,
        preparation=SkillPlan("humanoid/flat+balance", 1_474_560, target_success=2.0),
        injection=replace(recipe.injection, blind=0),
        train=replace(TWO_LEGS, patience=1, levels="own"),
        joint=replace(recipe.joint, gamma=TWO_LEGS.ppo.gamma),
        merge=replace(recipe.merge, gamma=TWO_LEGS.ppo.gamma, architecture=networks),
        transfer_noise=0.3,
        measurement=replace(recipe.measurement, zero_shot=("humanoid/mixed@0.5", "humanoid/waves@0.5")),
    )


_PRESETS: Mapping[str, Callable[[], Recipe]] = MappingProxyType(
    {
        "quick": _quick,
        "standard": _standard,
        "paper": _paper,
        "released-code": _released_code,
        "quadruped": _quadruped,
        "quadruped-hard": _quadruped_hard,
        "quadruped-gaits": _quadruped_gaits,
        "humanoid": _humanoid,
    }
)
