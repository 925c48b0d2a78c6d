"""Curricula: PLAID and its baselines as recipes over the same stages, measured in the same way.

``recipe`` describes the skills and settings of a curriculum, ``presets`` holds recipes. ``curricula`` defines the
curricula, ``plans`` turns a recipe into ``stages``, ``stage_runner`` runs one stage, ``runner`` all of them, ``result``
collects the outcome. ``comparison`` runs several curricula over several seeds;
``add_skill`` adds one skill to a student; ``specialize`` forks specialists from it and merges them again.
"""

from policykd.curriculum.curricula import CURRICULA, Curriculum, PlanBuilder, compared_curricula, curriculum
from policykd.curriculum.presets import preset, preset_names
from policykd.curriculum.recipe import Injection, Measurement, Recipe, SkillPlan, load_recipe, save_recipe
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {"CurriculumResult": "result", "make_plan": "plans", "run_curriculum": "runner"},
)
__all__ = [
    "CURRICULA",
    "Curriculum",
    "CurriculumResult",
    "Injection",
    "Measurement",
    "PlanBuilder",
    "Recipe",
    "SkillPlan",
    "compared_curricula",
    "curriculum",
    "load_recipe",
    "make_plan",
    "preset",
    "preset_names",
    "run_curriculum",
    "save_recipe",
]
