"""Draw docs/figures/overview.png: film strips of a student on its terrains, and what it retains of every expert.

Run ``python benchmarks/overview_picture.py results/demo/student`` after ``make demo``. The figures are those of a
committed evaluation, by default of the run whose student the committed picture shows;
``--evaluation results/demo/evaluation.json`` takes those of your own run.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure
from PIL import Image

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.files.skills import skills_for
from policykd.evaluation import Evaluation
from policykd.report.plots.matrix import evaluation_heat_map
from policykd.report.plots.style import save_figure
from policykd.report.skills import label_of
from policykd.report.video import film_strip
from policykd.storage import write_bytes

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks/results/demo-quadruped-evaluation.json"
OUT = ROOT / "docs/figures/overview.png"
FRAMES, SIZE, WIDTH, COLORS = 4, (200, 116), 1350, 128
"""Pictures per terrain, their size, and width and number of colors of the whole, which keep the file small."""


def film(student: LoadedPolicy, skills: Sequence[str], seconds: float) -> dict[str, np.ndarray]:
    """Return a strip of pictures per skill, (height, width, 3) in [0, 1]."""
    strips = {}
    with tempfile.TemporaryDirectory() as folder:
        for skill in skills_for([student.manifest], skills):
            out = Path(folder) / "strip.png"
            film_strip(student.policy, skill, out, seconds=seconds, frames=FRAMES, size=SIZE)
            strips[skill.id] = image.imread(out)[:, :, :3]
    return strips


def draw_strips(strips: dict[str, np.ndarray]) -> Figure:
    """Draw the strips, one row per skill, with their names."""
    height, width = next(iter(strips.values())).shape[:2]
    inches = 9.0
    figure = Figure(figsize=(inches, len(strips) * inches * 0.9 * height / width + 0.1), layout="constrained")
    for axes, (skill, strip) in zip(figure.subplots(len(strips), 1, squeeze=False).flat, strips.items(), strict=True):
        axes.imshow(strip, aspect="equal")
        axes.set_ylabel(label_of(skill), rotation=0, ha="right", va="center", fontsize=11, fontweight="bold")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
    return figure


def stack(figures: Sequence[Figure]) -> bytes:
    """Return figures below each other as one PNG with few colors."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for i, figure in enumerate(figures):
            with Image.open(save_figure(figure, Path(folder) / f"{i}.png")) as picture:
                size = (WIDTH, round(picture.height * WIDTH / picture.width))
                rows.append(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    whole = Image.new("RGB", (WIDTH, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    buffer = io.BytesIO()
    whole.quantize(COLORS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path, help="policy file, or folder of its run")
    parser.add_argument("--evaluation", type=Path, default=MEASURED)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the filmed episodes")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    evaluation = Evaluation.load(given.evaluation)
    strips = film(load_policy(given.student), evaluation.skills, given.seconds)
    write_bytes(given.out, stack([draw_strips(strips), evaluation_heat_map(evaluation)]))
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
