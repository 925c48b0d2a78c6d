"""Draw docs/kd_evidence.md from the results in benchmarks/results/kd.

Run ``python benchmarks/kd_evidence.py`` after new results were saved there; it trains nothing.
"""

from pathlib import Path

from policykd.kd.benchmark.results import BenchResult
from policykd.kd.evidence._table import draw_arms, draw_losses, draw_table, load_results
from policykd.storage import read_json

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/kd", ROOT / "docs/kd_evidence.md"
HEAD = """# Systems on real data

Made from the results in `benchmarks/results/kd` by `python benchmarks/kd_evidence.py`; do not edit.

```sh
policykd kd data smartwatch                        # prepare the data once; `policykd kd data` lists all data sets
policykd kd run sk_kd --data data/smartwatch.npz   # run a system on them
```

Effects are paired over seeds: data, teacher, first weights and batches of a seed are shared by its arms. Every
comparison tests a difference of 0 by Student's t (effects of comparisons with another bound are what exceeds it).
Verdicts follow p-values that are corrected by Holm, the required comparisons together: *shown* where the difference
is on the claimed side, *contradicted* where it is on the other, *not shown* otherwise. "Could have shown" is the
effect that this number of seeds finds with 80 % power given the spread, before the correction; a smaller true effect
is likely to be missed. No comparison measures the term that a method minimizes.

Networks, training sets and schedules are small, so accuracies are far below published ones.

Where distillation is below cross-entropy although papers say otherwise, capacity and budget are the likely reasons.
On the images the teachers learn from 960 to 1,700 images of 16 x 16 (12 x 12 for `sskd`) and reach about 40 % test
accuracy, students about 30 %. In `crd`, plain distillation with the published weights 0.1 and 0.9 is below
cross-entropy; with weight 1 on both (the arm "kd, same weights") about half of that gap is gone: with few steps, the
small weight of the labels costs accuracy. In `takd`, the student has 4 and 8 channels and is worse with every teacher
than with none, as the student of five units on the digits is.

"""


LOSSES = """## Losses

Every loss had eight candidate settings per seed, chosen by validation accuracy; it shares split, teacher, first weights
and batches with the baseline. All losses of a table are corrected together.

"""


def draw_benchmark(path: Path) -> str:
    """Return heading, setting and table of a saved benchmark."""
    result = BenchResult.from_json(read_json(path))
    options = " ".join(f"{name}={value}" for name, value in result.config["task_options"])
    networks = f"student {result.config['student']}, teacher {result.config['teacher']}"
    setting = f"{result.seeds} seeds, {result.config['train']['epochs']} epochs, {networks}, {options}"
    return f"### {path.stem}\n\n{setting}\n\n{draw_losses(result)}\n"


def main() -> None:
    """Write the document."""
    results = load_results(RESULTS / "evidence")
    benches = "\n".join(draw_benchmark(path) for path in sorted((RESULTS / "bench").glob("*.json")))
    text = f"{HEAD}{draw_table(results)}\n\n{LOSSES}{benches}\n## Arms\n\n{draw_arms(results)}"
    PAGE.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(f"-> {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
