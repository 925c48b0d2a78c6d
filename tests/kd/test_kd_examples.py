"""Every example of examples/kd runs in seconds, and its student learns."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "kd"
LEARNED = {  # value after training, and by how much at least it is better than after the first epoch
    "token_classification": ("last epoch", 0.8, 0.2),
    "segmentation": ("best epoch", 0.7, 0.05),
    "multi_label": ("best epoch", 0.75, 0.1),
    "regression": ("best epoch", 0.5, -0.2),
    "model_output": ("last epoch", 0.9, 0.3),
}
SHORTER = {"token_classification": {"epochs": 6}, "segmentation": {"epochs": 4}}  # enough to show that they learn


def test_there_are_five():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LEARNED)


@pytest.mark.parametrize("name", LEARNED)
def test_the_student_learns(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, example)
    spec.loader.exec_module(example)
    scores = example.main(**SHORTER.get(name, {}))
    which, bound, gain = LEARNED[name]
    if gain < 0:  # an error
        assert scores[which] < bound
        assert scores[which] < scores["first epoch"] + gain
    else:
        assert scores[which] > bound
        assert scores[which] > scores["first epoch"] + gain
