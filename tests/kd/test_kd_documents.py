"""Pages of results are drawn from committed results, and gates are those that the power calculation planned."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from policykd.kd.evidence import EVIDENCE
from policykd.kd.systems import SYSTEMS

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("kd_evidence", ROOT / "benchmarks" / "kd_evidence.py")
SCRIPT = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(SCRIPT)
PAGES = sorted(path.name for path in (ROOT / "docs").glob("kd_*.md"))

ELSEWHERE = {"terrain_relevance": "policykd.report.terrain_relevance:EXPERIMENT"}
"""Experiments that are not part of policykd.kd, because they simulate."""


@pytest.fixture(scope="module")
def drawn():
    """The pages, drawn from the committed results."""
    return SCRIPT.pages()


def test_every_page_of_results_has_its_committed_result(drawn):
    assert set(drawn) == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_drawn_from_the_results_alone(name, drawn):
    assert (ROOT / "docs" / name).read_text() == drawn[name]


def test_results_were_judged_with_the_claims_that_the_code_states():
    for folder, registry in (("systems", SYSTEMS), ("evidence", EVIDENCE)):
        for path in (ROOT / "benchmarks" / "results" / "kd" / folder).glob("*.json"):
            stored = json.loads(path.read_text())
            experiment = registry.resolve(ELSEWHERE.get(stored["name"], stored["name"]))
            asked = [
                {k: entry[k] for k in ("metric", "student", "baseline", "better", "gate", "required")}
                for entry in stored["comparisons"]
            ]
            assert asked == [{key: getattr(one, key) for key in asked[0]} for one in experiment.comparisons], path.name
            assert stored["claim"] == experiment.claim


@pytest.mark.parametrize("name", SYSTEMS)
def test_gates_are_the_planned_ones(name):
    for comparison, planned in SCRIPT.plans(name):
        assert comparison.gate == (0.0 if planned is None else planned.gate), comparison.text


def test_the_pilot_shares_no_seed_with_the_results():
    pilot = json.loads((ROOT / "benchmarks" / "results" / "kd" / "pilot" / "systems.json").read_text())
    assert re.search("seeds 0 to 9", pilot["source"])
    for path in (ROOT / "benchmarks" / "results" / "kd" / "systems").glob("*.json"):
        assert min(json.loads(path.read_text())["seeds"]) >= 100
