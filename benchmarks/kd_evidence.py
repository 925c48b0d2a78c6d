"""Draw the pages of supervised distillation from the results in benchmarks/results/kd.

Run ``python benchmarks/kd_evidence.py`` after new results were saved there; it trains nothing. It writes
docs/kd_systems.md, docs/kd_evidence.md and one docs/kd_bench_<name>.md per benchmark.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

from policykd.kd.benchmark.below import below_baseline, draw_candidates
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.benchmark.table import markdown
from policykd.kd.evidence._table import draw_arms, draw_table, load_results
from policykd.kd.experiments.experiment import Comparison
from policykd.kd.experiments.power import Pilot, Plan, plan
from policykd.kd.experiments.results import Result
from policykd.kd.systems import SYSTEMS
from policykd.storage import read_json

ROOT = Path(__file__).parents[1]
RESULTS, DOCS, SEEDS = ROOT / "benchmarks/results/kd", ROOT / "docs", 10
DIGITS = "handwritten digits, 8 x 8 (scikit-learn)"
DATA = {
    "cgan_kd": f"{DIGITS}; diabetes records (scikit-learn)",
    "concrete_distribution": "a choice with known costs, drawn",
    "hard_alignment_binary_concrete": "generated frames of symbols",
    "wearable_augmentation_kd": "generated windows",
    "nurd": "generated inputs with a nuisance",
    "multimodal_hashing": "halves of handwritten digits (scikit-learn)",
    "gp_self_distillation": "diabetes and tumor records (scikit-learn)",
    "ground_truth_self_distillation": "diabetes records (scikit-learn)",
    "iusp": "generated clips",
    "kdgan": "contexts with known labels, drawn",
    "modality_relation_gram": "generated modalities",
    "pskd_har": "generated pairs of sensors",
    "single_image_kd": "photographs and handwritten digits (scikit-learn)",
    "sk_kd": "generated electrodes",
    "tasked": "generated persons",
    "terrain_relevance": "recorded walks of a biped on steps",
}

SYSTEMS_HEAD = """# Systems of supervised knowledge distillation

Made from the results in `benchmarks/results/kd/systems` by `python benchmarks/kd_evidence.py`; do not edit.

```sh
policykd kd run all --seeds 10 --first-seed 100 --out results/kd
```

Systems of the literature, each as a small experiment on data that ship with the project or are generated;
[some of them on real data](kd_evidence.md). Data, teacher, first weights and batches of a seed are shared by its arms.

* An effect is a mean over paired seeds with its 95 % interval by Student's t (Fieller's for ratios).
* A claim is *shown* if a paired t-test finds the effect beyond its gate, *contradicted* if it finds it on the other
  side, and otherwise *not shown*. A system is contradicted if a required claim is, and shown if all of them are.
* The required claims of one system are corrected together by Holm, since its verdict is what they decide together; the
  column "over all" corrects those of all systems together, for readers who pick the best rows of the page.
* "Could have shown" is the effect beyond the gate that these seeds find with 80 % power, given their spread and the
  hardest step of the correction. A smaller true effect is likely to be missed.
* Claims about the term that a method minimizes, or about its own weights, are reported and decide nothing.
"""
MISSING = "No results on new seeds are committed yet for: {names}. Their plan is below; the command above runs them."
PLAN = """## Plan

Gates were fixed by a power calculation before these seeds ran. The pilot are the published means of seeds 0 to 9, on
which settings had been chosen, too; their single values were not kept, so spreads follow from the widths of the
intervals. A gate is the largest bound that a true effect of the pilot's size is shown to exceed with 80 % power by
ten new seeds; it is 0 where ten seeds are too few for that or the pilot is on the other side. Gates that tolerate a
loss are choices and stay. Systems that were added later have no pilot ("not measured"): their gates are 0.
`policykd.kd.experiments.power` has the functions; a test compares the gates in the code with this table.
"""
EVIDENCE_HEAD = """# Systems on real data

Made from the results in `benchmarks/results/kd/evidence` by `python benchmarks/kd_evidence.py`; do not edit.

```sh
policykd kd data smartwatch                        # prepare the data once; `policykd kd data` lists all data sets
policykd kd run sk_kd --data data/smartwatch.npz   # run a system on them
policykd train biped/steps --out results/terrain-relevance   # the policy that is explained
policykd kd run policykd.report.terrain_relevance:EXPERIMENT --set policy=results/terrain-relevance/steps/policy
```

Columns and verdicts are those of [the systems on small data](kd_systems.md). The seeds are the first that ran on these
data, so there was no pilot: gates are 0, and "could have shown" says which effects the seeds can find. For a run on new
seeds, `policykd.kd.experiments.power.plan` turns these results into gates.

Until the first of these results were known, all systems of this page were corrected together (the column "over all").
The correction within a system, which decides here, was chosen afterward, for the reason that
[the other page](kd_systems.md) gives; so new seeds have to confirm what it calls shown. The last table has those that
ran.

Networks, training sets and schedules are small, so accuracies are far below published ones. On the images the teachers
learn from 960 to 1,700 images of 16 x 16 (12 x 12 for `sskd`) and reach about 40 % test accuracy, students about 30 %.

Where distillation is below cross-entropy although papers say otherwise: in `crd`, plain distillation with the published
weights 0.1 and 0.9 is below cross-entropy; with weight 1 on both (the arm "kd, same weights") about half of that gap is
gone: with few steps, the small weight of the labels costs accuracy. In `takd`, the student has 4 and 8 channels and is
worse with every teacher than with none, as the student of five units on the digits is.
"""
AGAIN_HEAD = """## New seeds

`--seeds 10 --first-seed 100`, with everything else as above. Every seed splits persons or speakers in its own way, so
other persons are unseen.
"""
PICTURES = {
    "cgan_kd": "real digits, those of a generator that learned from 150 real ones, and those that density ratios and "
    "the teacher keep.",
    "cudfkd": "real digits, and what a generator makes for the teacher without having seen any.",
    "data_distillation_ser": "real digits, and the two blocks of ten that train a network from its start in six steps.",
    "data_distillation_ser-emodb": "log-mel spectrograms of one recording per emotion (time to the right, pitch "
    "upward), and the two distilled blocks.",
}
PICTURES_HEAD = """## Pictures

Samples are drawn by `python benchmarks/kd_samples.py --emodb data/emodb.npz` for seed 100 (0 for speech), the others by
`python benchmarks/kd_pictures.py` from `benchmarks/results/kd/pictures`. That samples look like data does not say that
they teach, and the reverse; see the verdicts."""
BELOW = {
    "smartwatch": """`crd` and `cc`: their published weights are too large for 500 windows and 48 steps. At a tenth of
the weight, validation accuracy rises from 65.1 to 69.0 and from 66.5 to 69.9, against 70.3 with labels alone; neither
difference on test data is shown.

`mlkd`: no weight of its own term closes the gap. The schedule is short for every loss (half the rate costs
cross-entropy ten points), and this loss gives the labels a weight of 0.1, so their part of the gradient has a tenth of
the usual size. [With eight times the epochs](kd_bench_smartwatch_long.md) most of the gap is gone: it is 8.2 points
instead of 23.4, and not shown."""
}


def read_pilots() -> dict[str, dict[tuple[str, str, str | None], Pilot]]:
    """Return system -> (metric, student, baseline) -> pilot; spreads follow from the widths of the saved intervals."""
    content = read_json(RESULTS / "pilot/systems.json")
    seeds, quantile = int(content["seeds"]), NormalDist().inv_cdf(0.975)
    found: dict[str, dict[tuple[str, str, str | None], Pilot]] = {}
    for name, rows in content["systems"].items():
        better = {(c.metric, c.student, c.baseline): c.better for c in SYSTEMS.resolve(name).comparisons}
        for row in rows:
            key = (row["metric"], row["student"], row["baseline"])
            if row["statistic"] != "difference" or key not in better:
                continue
            spread = (row["high"] - row["low"]) / (2 * quantile) * seeds / math.sqrt(seeds - 1)
            sign = 1.0 if better[key] == "higher" else -1.0
            found.setdefault(name, {})[key] = Pilot(sign * row["estimate"], spread, seeds)
    return found


def plans(name: str) -> list[tuple[Comparison, Plan | None]]:
    """Return the required claims of a system with their plans; None where the pilot did not measure a claim."""
    required = [one for one in SYSTEMS.resolve(name).comparisons if one.required]
    known = read_pilots().get(name, {})
    keys = [(one.metric, one.student, one.baseline) for one in required]
    return [
        (one, plan(one, known[key], SEEDS, comparisons=len(required)) if key in known else None)
        for one, key in zip(required, keys, strict=True)
    ]


def draw_plan() -> str:
    """Return the table of plans in Markdown."""
    head = ["system", "claim", "pilot: mean (spread)", f"shown by {SEEDS} seeds", "gate", "seeds that would be needed"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name in SYSTEMS:
        for one, planned in plans(name):
            gate = f"{'>' if one.better == 'higher' else '<'} {one.gate:g}"
            if planned is None:
                cells = [name, one.text, "not measured", "", gate, ""]
            else:
                pilot, needed = planned.pilot, planned.needed
                many = "over 1000 or none" if needed is None else str(needed)
                cells = [
                    name,
                    one.text,
                    f"{pilot.mean:.3g} ({pilot.spread:.2g})",
                    f"{planned.detectable:.2g}",
                    gate,
                    many,
                ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_overview(results: list[Result]) -> str:
    """Return one row per system: claim, data, verdict, seeds, seconds."""
    lines = ["| system | claim | data | verdict | seeds | s per seed |", "| --- | --- | --- | --- | --- | --- |"]
    for one in results:
        data = Path(str(one.config.get("data", ""))).stem or DATA.get(one.name, DIGITS)
        seconds = f"{one.seconds / len(one.seeds):.1f}"
        lines.append(f"| {one.name} | {one.claim} | {data} | {one.verdict} | {len(one.seeds)} | {seconds} |")
    return "\n".join(lines)


def draw_pictures() -> list[str]:
    """Return the section with the pictures that are committed."""
    parts = [PICTURES_HEAD]
    for name, text in PICTURES.items():
        if (DOCS / f"figures/kd/{name}.svg").exists():
            parts.append(f"![{name}](figures/kd/{name}.svg)\n\n`{name}`: {text}")
    for path in sorted((RESULTS / "pictures").glob("*.json")):
        saved = read_json(path)
        parts.append(
            f"![{saved['about']}](figures/kd_{path.stem}.svg)\n\n`{path.stem}`, seed {saved['seed']}: {saved['about']}"
        )
    return parts


def draw_systems() -> str:
    """Return docs/kd_systems.md; without saved results it has the plan alone."""
    parts = [SYSTEMS_HEAD.rstrip()]
    if any((RESULTS / "systems").glob("*.json")):
        results = load_results(RESULTS / "systems")
        left = [name for name in SYSTEMS if name not in {result.name for result in results}]
        parts += [draw_overview(results), *([MISSING.format(names=", ".join(left))] if left else [])]
        parts += ["## Claims", draw_table(results), *draw_pictures()]
        parts += [PLAN.rstrip(), draw_plan(), "## Arms", draw_arms(results)]
    else:
        parts += [MISSING.format(names="all of them"), PLAN.rstrip(), draw_plan()]
    return "\n\n".join(parts)


def draw_evidence() -> str:
    """Return docs/kd_evidence.md."""
    results = load_results(RESULTS / "evidence")
    parts = [EVIDENCE_HEAD.rstrip(), draw_overview(results), "## Claims", draw_table(results)]
    again = load_results(RESULTS / "evidence_again")
    parts += ["## Arms", draw_arms(results), AGAIN_HEAD.rstrip(), draw_overview(again), draw_table(again)]
    return "\n\n".join(parts)


def draw_benchmark(path: Path) -> str:
    """Return the page of a saved benchmark: its tables, and what is known about methods below the baseline."""
    result = BenchResult.from_json(read_json(path))
    parts, low = [markdown(result).rstrip()], below_baseline(result)
    if low:
        parts += [f"## Below {result.baseline}", "\n".join(draw_candidates(result, [result.baseline, *low]))]
    return "\n\n".join([*parts, *([BELOW[path.stem]] if path.stem in BELOW else [])])


def pages() -> dict[str, str]:
    """Return every page: file name -> text."""
    found = {"kd_systems.md": draw_systems(), "kd_evidence.md": draw_evidence()}
    benches = sorted((RESULTS / "bench").glob("*.json"))
    found |= {f"kd_bench_{path.stem}.md": draw_benchmark(path) for path in benches}
    return {name: text.rstrip() + "\n" for name, text in found.items()}


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"-> docs/{name}")


if __name__ == "__main__":
    main()
