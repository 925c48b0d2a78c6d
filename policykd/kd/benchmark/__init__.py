"""The benchmark of losses: every registered method on one task, under one protocol, on paired seeds.

* ``config``: what a benchmark is; ``reference``: the one of each task, with its networks and training.
* ``settings``: each loss's default setting and its small space of alternatives.
* ``placements``: where each loss is placed: taps, projectors, preparations.
* ``seed_context``: split, teacher and its cached outputs, initial student, shared by the cells of one seed.
* ``cells``, ``runner``: one method on one seed, and all of them, saved one by one.
* ``measures``, ``results``, ``table``: figures on test data, intervals against a baseline, tables.

Plots and the page are drawn from ``result.json`` by ``policykd.report.pages.benchmark``. The protocol: per seed all
methods share split, teacher, initial student and data order; a setting is chosen on validation data among equally many
candidates per method; test data are read once, for the chosen student.

``policykd kd bench --task digits --methods all --seeds 10`` does the same from the command line.
"""

from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "BenchConfig": "config",
        "BenchResult": "results",
        "bench_config": "reference",
        "markdown": "table",
        "run_benchmark": "runner",
    },
)
__all__ = ["BenchConfig", "BenchResult", "bench_config", "markdown", "run_benchmark"]
