"""Draw pictures of KD systems that people would rather look at: reliability diagrams, retrieval lists, relevance maps.

Run ``python benchmarks/kd_pictures.py NAME ...`` to run seed 100 of a system and save what its picture shows in
benchmarks/results/kd/pictures; without names it only draws docs/figures/kd_<name>.svg from what is saved there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from policykd.report.plots.style import COLORS, INK, new_figure, save_figure, set_title
from policykd.storage import read_json, write_json

ROOT = Path(__file__).parents[1]
SAVED, FIGURES, SEED = ROOT / "benchmarks/results/kd/pictures", ROOT / "docs/figures", 100
ALT = {
    "concrete_calibration": "Reliability diagrams of one classifier under three calibrations.",
    "multimodal_hashing": "Left halves of digits and right halves that their codes find; green ones have their label.",
    "in_distribution_interpretability": "Patches of digits that three ways of explaining call relevant.",
    "terrain_relevance": "Ground ahead of a walking biped, and how relevant each block of it is for the next action.",
}
"""What each picture shows, in words."""


def calibration_data() -> dict[str, Any]:
    """Return the bars of the reliability diagrams."""
    from policykd.kd.calibration import reliability
    from policykd.kd.systems.concrete_calibration import EXPERIMENT, CalibrationCell

    cell = CalibrationCell(SEED, EXPERIMENT.config)
    decided, found = cell.said(cell.test)[1].argmax(1), {}
    for name, calibrated in cell.calibrated().items():
        probabilities = calibrated(cell.test)
        confidence = probabilities.gather(1, decided[:, None])[:, 0].clamp(0.0, 1.0)
        mean, right, count = reliability(confidence, decided == cell.test.y)
        bars = {"confidence": mean.tolist(), "accuracy": right.tolist(), "count": count.tolist()}
        found[name] = bars | {"ece": cell.figures(probabilities, cell.test)["ece"]}
    return found


def draw_calibration(saved: dict[str, Any]) -> Figure:
    """Draw accuracy against confidence, with a point per bin whose area is its number of samples."""
    names = ["not calibrated", "temperature scaling", "simplex temperature"]
    figure, panels = new_figure(1, 3, (9.0, 3.2), share_y=True)
    for axes, name, color in zip(panels, names, COLORS, strict=False):
        bars = saved[name]
        kept = np.asarray(bars["count"]) > 0
        x, y = (np.asarray(bars[key])[kept] for key in ("confidence", "accuracy"))
        axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, alpha=0.5)
        axes.plot(x, y, color=color)
        axes.scatter(x, y, s=10 + 0.4 * np.asarray(bars["count"])[kept], color=color)
        axes.set_xlabel("confidence")
        set_title(axes, f"{name}: error {bars['ece']:.3f}")
    panels[0].set_ylabel("share of right predictions")
    return figure


def hashing_data(queries: int = 5, shown: int = 10) -> dict[str, Any]:
    """Return whole digits, of which the codes of queries saw the left half and those of the found the right half."""
    from policykd.kd.experiments.digits import digits_rows
    from policykd.kd.hashing import hamming_distances, pack_codes, ranked
    from policykd.kd.systems.multimodal_hashing import EXPERIMENT, MultimodalHashing, trained_codes
    from policykd.seeding import generator

    recipe = EXPERIMENT.config
    data = MultimodalHashing().data(SEED, recipe)
    codes = trained_codes(data, recipe, SEED, bits=recipe.bits[1], alpha=recipe.alpha)
    packed = [pack_codes(codes(place, split.x)) for place, split in enumerate(data.test)]
    test = digits_rows(SEED, recipe.shares)[1]
    whole = test.take(generator(SEED, "multimodal_hashing", "database").permutation(len(test)))
    rows = [int((whole.y == label).nonzero()[0]) for label in (0, 3, 4, 7, 8)[:queries]]
    order = ranked(hamming_distances(packed[0][rows], packed[1]))[:, :shown]
    return {
        "queries": [whole.x[row].tolist() for row in rows],
        "labels": [int(whole.y[row]) for row in rows],
        "found": [[whole.x[k].tolist() for k in own] for own in order.tolist()],
        "found labels": [whole.y[own].tolist() for own in order],
    }


def draw_hashing(saved: dict[str, Any]) -> Figure:
    """Draw a row per query, then what it finds, framed by whether the label agrees; unseen halves are pale."""
    shown = len(saved["found"][0])
    figure, panels = new_figure(len(saved["queries"]), shown + 1, (9.0, 4.4))
    for row, (query, label) in enumerate(zip(saved["queries"], saved["labels"], strict=True)):
        images = [(query, INK), *_framed(saved["found"][row], saved["found labels"][row], label)]
        for place, (image, color) in enumerate(images):
            axes, pale = panels[row * (shown + 1) + place], np.full((8, 8), 0.25)
            pale[:, slice(0, 4) if place == 0 else slice(4, 8)] = 1.0
            axes.imshow(np.reshape(image, (8, 8)), cmap="gray_r", alpha=pale)
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set(visible=True, color=color, linewidth=2.0)
    set_title(panels[0], "query")
    set_title(panels[1], "found")
    return figure


def _framed(images: list[Any], labels: list[int], label: int) -> list[tuple[Any, str]]:
    return [(image, COLORS[2] if own == label else COLORS[1]) for image, own in zip(images, labels, strict=True)]


def relevance_data(count: int = 4) -> dict[str, Any]:
    """Return explained digits with the relevance of their patches."""
    from policykd.kd.systems.in_distribution_interpretability import EXPERIMENT, InterpretabilityCell
    from policykd.seeding import generator

    cell = InterpretabilityCell(SEED, EXPERIMENT.config)
    rows = generator(SEED, "interpretability", "explained").permutation(len(cell.test))[:count].tolist()
    found = []
    for place, row in enumerate(rows):
        values = cell.relevances(cell.test.x[row], place)
        maps = {name: (own / own.max().clamp_min(1e-9)).round(decimals=3).tolist() for name, own in values.items()}
        found.append({"image": cell.test.x[row].tolist(), "label": int(cell.test.y[row]), "relevance": maps})
    return {"digits": found}


def draw_relevance(saved: dict[str, Any]) -> Figure:
    """Draw a row per digit: the digit, then the relevance of its patches by three ways."""
    names = ["in distribution", "zeros", "gradient times input"]
    digits = saved["digits"]
    figure, panels = new_figure(len(digits), 1 + len(names), (7.2, 7.2))
    for row, one in enumerate(digits):
        own = panels[row * 4 : row * 4 + 4]
        own[0].imshow(np.reshape(one["image"], (8, 8)), cmap="gray_r")
        for axes, name in zip(own[1:], names, strict=True):
            axes.imshow(np.reshape(one["image"], (8, 8)), cmap="gray_r", extent=(0, 4, 4, 0), alpha=0.35)
            axes.imshow(np.reshape(one["relevance"][name], (4, 4)), cmap="Greens", alpha=0.65, extent=(0, 4, 4, 0))
            if row == 0:
                set_title(axes, name)
        for axes in own:
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
    return figure


def terrain_data(policy: Path, count: int = 3) -> dict[str, Any]:
    """Return moments of a walking policy: heights of the ground and relevance of its blocks, and the mean relevance."""
    from policykd.envs.observations.planar import SCAN_AHEAD, SCAN_BEHIND
    from policykd.report.terrain_relevance import EXPERIMENT, Explainer, recorded, walking_policy

    recipe = replace(EXPERIMENT.config, policy=str(policy))
    walker = walking_policy(recipe.skill, recipe.policy, recipe.train_steps)
    explainer = Explainer(walker, recorded(walker, recipe, SEED), recipe, SEED)
    moments = []
    for place, whole in enumerate(explainer.moments()):
        heights = (whole * explainer.spread + explainer.mean)[explainer.columns]
        values = explainer.relevances(whole, place)["in distribution"]
        moments.append({"heights": heights.tolist(), "relevance": values.tolist()})
    mean = np.mean([one["relevance"] for one in moments], axis=0).tolist()
    span = {"from": SCAN_BEHIND, "to": SCAN_AHEAD, "skill": recipe.skill}
    return {"moments": moments[:count], "centers": explainer.centers().tolist(), "mean": mean, **span}


def draw_terrain(saved: dict[str, Any]) -> Figure:
    """Draw the ground of every moment, its blocks as dark as they are relevant, and the mean over moments."""
    figure, panels = new_figure(len(saved["moments"]) + 1, 1, (7.2, 6.4))
    for axes, one in zip(panels, saved["moments"], strict=False):
        x = np.linspace(saved["from"], saved["to"], len(one["heights"]))
        edges = np.linspace(0, len(x), len(one["relevance"]) + 1).astype(int)
        low = min(one["heights"]) - 0.15
        for value, start, end in zip(one["relevance"], edges[:-1], edges[1:], strict=True):
            own = slice(start, min(end + 1, len(x)))
            axes.fill_between(x[own], low, one["heights"][own], color=COLORS[2], alpha=0.08 + 0.85 * value, linewidth=0)
        axes.plot(x, one["heights"], color=INK, linewidth=1.0)
        axes.axvline(0.0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_ylabel("height, m")
    set_title(panels[0], f"ground as {saved['skill']} scans it; dark: relevant; dotted: the root")
    panels[-1].bar(
        saved["centers"], saved["mean"], width=0.8 * (saved["centers"][1] - saved["centers"][0]), color=COLORS[2]
    )
    panels[-1].set(xlabel="distance ahead of the root, m", ylabel="mean relevance", xlim=panels[0].get_xlim())
    return figure


PICTURES: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], Figure]]] = {
    "concrete_calibration": (calibration_data, draw_calibration),
    "multimodal_hashing": (hashing_data, draw_hashing),
    "in_distribution_interpretability": (relevance_data, draw_relevance),
    "terrain_relevance": (partial(terrain_data, Path("results/terrain-relevance/steps/policy")), draw_terrain),
}
"""System -> what gathers the data of its picture, and what draws it."""


def saved_pictures() -> list[str]:
    """Return the systems whose data are saved."""
    return [name for name in PICTURES if (SAVED / f"{name}.json").exists()]


def main() -> None:
    """Gather the data of the named systems, and draw all that are saved."""
    for name in sys.argv[1:]:
        SAVED.mkdir(parents=True, exist_ok=True)
        write_json(SAVED / f"{name}.json", {"about": ALT[name], "seed": SEED, **PICTURES[name][0]()})
    for name in saved_pictures():
        save_figure(PICTURES[name][1](read_json(SAVED / f"{name}.json")), FIGURES / f"kd_{name}.svg")
        print(f"-> docs/figures/kd_{name}.svg")


if __name__ == "__main__":
    main()
