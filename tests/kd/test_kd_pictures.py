"""Pictures of systems: each saved one has its drawing, and is drawn from the saved data alone."""

import importlib.util
from pathlib import Path

import pytest

from policykd.kd.systems import SYSTEMS
from policykd.report.plots.style import svg_text
from policykd.storage import read_json

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("kd_pictures", ROOT / "benchmarks" / "kd_pictures.py")
SCRIPT = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(SCRIPT)


def test_every_saved_picture_is_drawn_and_shown():
    page = (ROOT / "docs" / "kd_systems.md").read_text()
    saved = {path.stem for path in SCRIPT.SAVED.glob("*.json")}
    assert saved == {path.stem.removeprefix("kd_") for path in SCRIPT.FIGURES.glob("kd_*.svg")}
    assert saved <= set(SCRIPT.PICTURES) == set(SCRIPT.ALT) <= {*SYSTEMS, "terrain_relevance"}
    for name in saved:
        assert f"![{SCRIPT.ALT[name]}](figures/kd_{name}.svg)" in page


@pytest.mark.parametrize("name", SCRIPT.saved_pictures())
def test_a_picture_is_drawn_from_its_saved_data(name):
    saved = read_json(SCRIPT.SAVED / f"{name}.json")
    drawn = svg_text(SCRIPT.PICTURES[name][1](saved))
    assert drawn.startswith("<svg")
    stored = (SCRIPT.FIGURES / f"kd_{name}.svg").read_text()
    assert stored.count("<path") == drawn.count("<path")
    assert stored.count("<image") == drawn.count("<image")
