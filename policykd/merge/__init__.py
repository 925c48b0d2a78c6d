"""Merging: several experts become one student by policy distillation (DAgger with several teachers).

``config`` describes a merge, ``teachers`` checks the experts, ``labeling`` computes their labels, ``student`` makes the
first student. ``collect`` runs a mixture of expert and student and records labeled states, which ``data`` keeps on disk
and in memory. ``fitting`` trains the student with one of ``losses``, ``retention`` validates it against its teachers,
``critic`` is fitted at the end. ``distiller`` runs the rounds; ``offline`` merges recorded data without a simulator.
"""

from policykd.lazy import lazy_exports
from policykd.merge.config import MergeConfig

__getattr__ = lazy_exports(
    __name__,
    {
        "DataMergeResult": "offline",
        "LabeledData": "data.folder",
        "MergeResult": "result",
        "Teacher": "teachers",
        "function_teacher": "teachers",
        "merge_data": "offline",
        "merge_experts": "distiller",
        "teachers_from": "teachers",
    },
)
__all__ = [
    "DataMergeResult",
    "LabeledData",
    "MergeConfig",
    "MergeResult",
    "Teacher",
    "function_teacher",
    "merge_data",
    "merge_experts",
    "teachers_from",
]
