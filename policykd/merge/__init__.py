"""Merging: several experts become one student by policy distillation (DAgger with several teachers).

``config`` says what a merge is, ``teachers`` checks who may label, ``collect`` runs a mixture of expert and student
and labels every state, ``dataset`` keeps the labelled states per skill, ``losses`` compares student and teacher,
``critic`` makes value targets, ``distiller`` drives the rounds.
"""

from policykd.lazy import lazy_exports
from policykd.merge.config import MergeConfig

__getattr__ = lazy_exports(
    __name__,
    {"MergeResult": "distiller", "Teacher": "teachers", "merge_experts": "distiller", "teachers_from": "teachers"},
)
__all__ = ["MergeConfig", "MergeResult", "Teacher", "merge_experts", "teachers_from"]
