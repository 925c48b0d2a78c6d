"""The benchmark of public checkpoints: imported, compared with another runtime, and run in its environment."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import foreign_experts
from foreign_experts import SAMPLES, Options, measure

FOLDER = Path(__file__).parents[3] / "shared" / "policies"
ONNX = next(sample for sample in SAMPLES if sample.file.endswith(".onnx"))


@pytest.mark.skipif(not (FOLDER / ONNX.file).is_file(), reason="checkpoints of other libraries are not on this machine")
def test_a_checkpoint_is_compared_and_run():
    pytest.importorskip("onnxruntime")
    row = measure(ONNX, FOLDER, Options(FOLDER, episodes=3))
    assert row["difference"] < 1e-5
    assert row["largest_action"] > 0.1
    assert row["states"] == 500
    assert np.array_equal(row["returns"], [500.0] * 3), "CartPole is held for the whole episode"
    assert row["random"] < 100


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    def missing(path, rows):
        raise ImportError("No module named 'rl_games'. Install it.")

    monkeypatch.setattr(foreign_experts, "_episode", lambda policy, env: (np.zeros((2, 4)), np.zeros((2, 1)), None))
    sample = type(ONNX)("a.pth", "CartPole-v1", missing)
    assert foreign_experts._parity(sample, tmp_path, None, "CartPole-v1")["reason"] == "No module named 'rl_games'"
