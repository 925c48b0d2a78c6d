"""Curricula: PLAID and its baselines as recipes over the same stages, measured in the same way.

``recipe`` says what a curriculum is to do, ``presets`` holds recipes that are ready, ``yaml_files`` reads and writes
them; ``plans`` turns a recipe into ``stages``, ``work`` runs one stage, ``run`` all of them, ``records`` says what came
out; ``compare`` runs several curricula over several seeds, ``comparison`` is what it finds; ``add_skill`` adds one
skill to a student.
"""

from policykd.curriculum.presets import preset, preset_names
from policykd.curriculum.recipe import CURRICULA, Injection, Measurement, Recipe, SkillPlan
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "CurriculumResult": "records",
        "load_recipe": "yaml_files",
        "make_plan": "plans",
        "run_curriculum": "run",
        "save_recipe": "yaml_files",
    },
)
__all__ = [
    "CURRICULA",
    "CurriculumResult",
    "Injection",
    "Measurement",
    "Recipe",
    "SkillPlan",
    "load_recipe",
    "make_plan",
    "preset",
    "preset_names",
    "run_curriculum",
    "save_recipe",
]
