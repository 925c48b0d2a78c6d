"""Draw the pictures of docs/kd_systems.md: generated digits, and distilled digits and spectrograms.

Run ``python benchmarks/kd_samples.py [--emodb data/emodb.npz]``. It trains the generators of one seed and writes SVG
files to docs/figures/kd; the spectrograms need prepared data, see ``policykd kd data``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policykd.kd.evidence import EVIDENCE
from policykd.kd.evidence.data_distillation_ser import OnSpeech
from policykd.kd.systems import SYSTEMS
from policykd.kd.systems.cgan_kd import Problem
from policykd.kd.systems.cudfkd import DataFree
from policykd.kd.systems.data_distillation_ser import DistilledCell
from policykd.report.plots.samples import samples_figure
from policykd.report.plots.style import save_figure

FOLDER, SEED = Path(__file__).parents[1] / "docs/figures/kd", 100
EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")


def images(x: Tensor) -> np.ndarray:
    """Return rows of 64 pixels as pictures."""
    return x.detach().numpy().reshape(-1, 8, 8)


def first_of_each(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return the first sample of every class."""
    return torch.stack([x[y == label][0] for label in range(classes)])


def draw_cgan_kd() -> None:
    """Draw real digits, generated ones, and those that density ratios and the teacher keep."""
    problem = Problem(SEED, SYSTEMS["cgan_kd"].config, "digits")
    problem.train_generator()
    raw, chosen = problem.fakes(rejected=False), problem.fakes(rejected=True)
    kept = problem.processed(chosen)
    parts = {"real": problem.real, "generated": raw, "kept by density ratio and teacher": kept}
    rows = {title: images(first_of_each(part.x, part.y, 10)) for title, part in parts.items()}
    save_figure(samples_figure(rows, [str(label) for label in range(10)]), FOLDER / "cgan_kd.svg")


def draw_cudfkd() -> None:
    """Draw real digits, and samples that the generator made for the teacher without them."""
    task = DataFree(SEED, SYSTEMS["cudfkd"].config)
    _, make = task.of_generator(task.recipe.curriculum)
    x = task.samples(make, 1000)
    with torch.no_grad():
        said = task.teacher(x).max(1)
    best = [int((said.values - 1e9 * (said.indices != label)).argmax()) for label in range(10)]
    rows = {
        "real, which the student never sees": images(first_of_each(task.train.x, task.train.y, 10)),
        "generated: those that the teacher is most sure of": images(x[best]),
    }
    save_figure(samples_figure(rows, [str(label) for label in range(10)]), FOLDER / "cudfkd.svg")


def draw_distilled(cell: DistilledCell, name: str, labels: list[str], *, upward: bool) -> None:
    """Draw real samples and the blocks of data that were distilled for a fixed start."""
    made = cell.distilled(lambda _: cell.start("fixed"), "fixed").x.detach()
    side = cell.train.x.shape[-2:] if cell.train.x.dim() > 2 else (8, 8)
    rows = {"real": first_of_each(cell.train.x, cell.train.y, cell.classes).reshape(-1, *side).numpy()}
    rows |= {f"distilled, block {k + 1}": block.reshape(-1, *side).numpy() for k, block in enumerate(made)}
    save_figure(samples_figure(rows, labels, color_map="magma", upward=upward), FOLDER / f"{name}.svg")


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emodb", type=Path, help="prepared EMO-DB; without it, its spectrograms are not drawn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw_cgan_kd()
    draw_cudfkd()
    recipe = SYSTEMS["data_distillation_ser"].config
    draw_distilled(DistilledCell(SEED, recipe), "data_distillation_ser", [str(k) for k in range(10)], upward=False)
    if given.emodb is not None:
        speech = replace(EVIDENCE["data_distillation_ser"].config, data=str(given.emodb))
        draw_distilled(OnSpeech.cell(0, speech), "data_distillation_ser-emodb", list(EMOTIONS), upward=True)


if __name__ == "__main__":
    main()
