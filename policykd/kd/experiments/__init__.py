"""Experiments: what tests a system's claim on paired seeds, from one cell per seed to intervals and a verdict.

``experiment`` holds the records, ``runner`` runs and stores cells, ``results`` turns them into effects and verdicts,
``digits`` has the data that most systems use. Nothing here knows a particular system.
"""

from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {"Comparison": "experiment", "Experiment": "experiment", "Result": "results", "run_experiment": "runner"},
)
__all__ = ["Comparison", "Experiment", "Result", "run_experiment"]
