"""Merging: several experts become one student by policy distillation (DAgger with several teachers).

``config`` says what a merge is, ``teachers`` checks who may label and ``labeling`` lets them, ``student`` makes the
first student. ``collect`` runs a mixture of expert and student, with ``noise``, and makes a ``rollout`` of labeled
states per skill, whose number follows ``quota``. ``labeled_data`` keeps them on disk as ``data_manifest`` says,
``dataset`` in memory. ``fitting`` moves the student by one of ``losses``, ``validation`` measures it, ``critic``
follows at the end. ``distiller`` drives the rounds; ``offline`` does without a simulator.
"""

from policykd.lazy import lazy_exports
from policykd.merge.config import MergeConfig

__getattr__ = lazy_exports(
    __name__,
    {
        "DataMergeResult": "offline",
        "LabeledData": "labeled_data",
        "MergeResult": "distiller",
        "Teacher": "teachers",
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
    "merge_data",
    "merge_experts",
    "teachers_from",
]
