"""Merging: several experts become one student by policy distillation (DAgger with several teachers).

``config`` says what a merge is, ``teachers`` checks who may label, ``collect`` runs a mixture of expert and student
and labels every state, ``dataset`` keeps the labelled states per skill, ``losses`` compares student and teacher,
``critic`` makes value targets, ``distiller`` drives the rounds.
"""

from policykd.merge.config import MergeConfig
from policykd.merge.distiller import MergeResult, merge_experts
from policykd.merge.teachers import Teacher

__all__ = ["MergeConfig", "MergeResult", "Teacher", "merge_experts"]
