"""Training of students: one loop, its configuration and batches, checkpoints, logs and the distiller around them.

``loop`` minimizes any loss over batches, ``distiller`` runs an objective with selection, checkpoints and logs, ``step``
splits a batch without changing its gradient, ``stacked`` trains networks of one architecture as one.
"""

from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Averaging": "averaging",
        "Batch": "batches",
        "Batches": "batches",
        "Distiller": "distiller",
        "Fields": "fields",
        "OptimizerConfig": "config",
        "SchedulerConfig": "config",
        "Stage": "stages",
        "TrainConfig": "config",
        "Variants": "variants",
    },
)
__all__ = [
    "Averaging",
    "Batch",
    "Batches",
    "Distiller",
    "Fields",
    "OptimizerConfig",
    "SchedulerConfig",
    "Stage",
    "TrainConfig",
    "Variants",
]
