"""Training of students: one loop, its configuration and batches, checkpoints, logs and the distiller around them.

``loop`` minimizes any loss over batches, ``distiller`` runs an objective with selection, checkpoints and logs, ``step``
splits a batch without changing its gradient, ``stacked`` trains networks of one architecture as one.
"""

from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Batch": "batches",
        "Batches": "batches",
        "Distiller": "distiller",
        "OptimizerConfig": "config",
        "SchedulerConfig": "config",
        "TrainConfig": "config",
    },
)
__all__ = ["Batch", "Batches", "Distiller", "OptimizerConfig", "SchedulerConfig", "TrainConfig"]
