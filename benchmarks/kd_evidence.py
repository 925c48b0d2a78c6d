"""Draw docs/kd_evidence.md from the results in benchmarks/results/kd/evidence.

Run ``python benchmarks/kd_evidence.py`` after new results were saved there; it trains nothing.
"""

from pathlib import Path

from policykd.kd.evidence._table import draw_arms, draw_table, load_results

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/kd/evidence", ROOT / "docs/kd_evidence.md"
HEAD = """# Systems on real data

Made from the results in `benchmarks/results/kd/evidence` by `python benchmarks/kd_evidence.py`; do not edit.

```sh
policykd kd data smartwatch                        # prepare the data once; `policykd kd data` lists all data sets
policykd kd run sk_kd --data data/smartwatch.npz   # run a system on them
```

Effects are paired over seeds: data, teacher, first weights and batches of a seed are shared by its arms. Every
comparison tests a difference of 0 by Student's t. Verdicts follow p-values that are corrected by Holm, the required
comparisons together: *shown* where the difference is on the claimed side, *contradicted* where it is on the other, *not
shown* otherwise. "Could have shown" is the effect that this number of seeds finds with 80 % power given the spread,
before the correction; a smaller true effect is likely to be missed. No comparison measures the term that a method
minimizes.

Networks, training sets and schedules are small, so accuracies are far below published ones.

"""


def main() -> None:
    """Write the document."""
    results = load_results(RESULTS)
    PAGE.write_text(f"{HEAD}{draw_table(results)}\n\n## Arms\n\n{draw_arms(results)}", encoding="utf-8")
    print(f"-> {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
