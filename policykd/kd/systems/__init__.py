"""Systems: whole distillation methods (data, teachers, stages, objective), each with the experiment that tests it.

One file per system. It holds the method's reusable pieces, a frozen configuration, ``run(seed, config)``, which trains
every arm of one paired cell, and ``EXPERIMENT``, which says what the paper claims and how the cells decide it. Around
them: ``base`` (the records), ``registry`` (names), ``training`` and ``metrics`` (what systems share), ``data`` (their
splits), ``runner`` (cells to results), ``results`` (values, intervals, verdicts), ``summary`` (one table over all).

``policykd kd run hinton_kd --seeds 10`` does the same from the command line.
"""

from policykd.kd.systems.registry import get, names
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Comparison": "base",
        "Experiment": "base",
        "Result": "results",
        "run_experiment": "runner",
    },
)
__all__ = ["Comparison", "Experiment", "Result", "get", "names", "run_experiment"]
