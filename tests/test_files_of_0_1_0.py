"""Files that policykd 0.1.0 wrote still load, and say what they said then. They are in tests/data/v0_1_0."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.agents import load_policy
from policykd.curriculum import CurriculumResult, load_recipe
from policykd.curriculum.comparison import Comparison
from policykd.evaluation import Evaluation
from policykd.kd.benchmark import BenchResult
from policykd.kd.experiments import Result
from policykd.merge import LabeledData

FILES = Path(__file__).parent / "data" / "v0_1_0"
EXPECTED = json.loads((FILES / "expected.json").read_text())


def content(name):
    return json.loads((FILES / name).read_text())


@pytest.mark.parametrize("name", ["expert", "student", "injected"])
def test_policies(name):
    policy = load_policy(FILES / "policies" / name).policy
    x = torch.linspace(-1, 1, policy.observation_size)[None]
    with torch.no_grad():
        action, value = policy(x)[0], policy.value(x)
    assert action.tolist() == pytest.approx(EXPECTED[name]["action"], abs=1e-6)
    assert float(value) == pytest.approx(EXPECTED[name]["value"], abs=1e-6)


def test_labeled_data():
    data = LabeledData.open(FILES / "dataset")
    assert [skill.id for skill in data.manifest.skills] == ["biped/flat", "biped/gaps"]
    assert all(torch.isfinite(data.load(shard).labels).all() for shard in data.manifest.shards)


def test_evaluation():
    evaluation = Evaluation.load(FILES / "evaluation.json")
    assert evaluation.experts == {"biped/flat": "flat", "biped/gaps": "gaps"}
    assert json.loads(json.dumps(evaluation.to_json()))["cells"] == content("evaluation.json")["cells"]


def test_curriculum():
    result = CurriculumResult.load(FILES / "curriculum.json")
    stored = content("curriculum.json")["matrix"]
    np.testing.assert_array_equal(result.matrix.normalized, stored["derived"]["normalised"])
    assert list(result.matrix.skills) == stored["skills"]


def test_comparison():
    comparison = Comparison.load(FILES / "comparison.json")
    assert list(comparison.curricula) == ["plaid", "scratch+merge"]
    assert {run.steps for run in comparison.runs} == {comparison.budget}


def test_recipe():
    recipe = load_recipe(FILES / "recipe.yaml")
    assert [plan.skill for plan in recipe.skills][:2] == ["biped/flat", "biped/incline"]


def test_results_of_kd():
    result = Result.from_json(content("kd-run.json"))
    assert result.values["CE"]["accuracy"] == tuple(content("kd-run.json")["values"]["CE"]["accuracy"])
    bench = BenchResult.from_json(content("kd-bench.json"))
    assert json.loads(json.dumps(bench.to_json()))["cells"] == content("kd-bench.json")["cells"]
