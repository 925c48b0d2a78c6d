"""``policykd doctor``: what it finds, writes down and advises."""

import json
from importlib import metadata

import pytest
import torch

from policykd import doctor
from policykd.cli.main import main
from policykd.doctor import examine
from policykd.errors import ConfigError, MissingDependencyError


def test_findings_are_printed_and_written_down(tmp_path, capsys):
    out = tmp_path / "found" / "doctor.json"
    assert main(["doctor", "--seconds", "0.05", "--device", "cpu", "--out", str(out)]) == 0
    found, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert found["versions"]["torch"] == metadata.version("torch")
    assert f"torch {found['versions']['torch']}" in printed
    assert found["probe"]["device"] == "cpu"
    assert found["probe"]["seconds"] >= 0.05
    assert found["probe"]["steps_per_second"] > 0
    assert f"{found['probe']['steps_per_second']:,} env steps/s" in printed


def test_without_seconds_nothing_is_measured():
    assert examine(seconds=0.0, device="cpu").probe == {}


def test_what_is_missing_is_advised(monkeypatch):
    monkeypatch.setattr(doctor, "missing_for_cuda", lambda: ["torch was built without CUDA"])
    monkeypatch.setattr(doctor, "_drawing", lambda: {"works": False, "error": "apt-get install libegl1"})
    monkeypatch.setattr(doctor, "package_version", lambda name: None)
    monkeypatch.setattr(doctor, "_cache", lambda: {"folder": "/nowhere", "modules": 0, "megabytes": 0.0})
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    advice = "\n".join(examine(seconds=0.0, device="cpu").advice)
    for part in ("apt-get install libegl1", "policykd[video]", "policykd[kd]", "torch was built without CUDA",
                 "compiles kernels", "OMP_NUM_THREADS is 4096"):  # fmt: skip
        assert part in advice


def test_bad_input_is_refused(capsys):
    with pytest.raises(ConfigError, match="seconds is -1"):
        examine(seconds=-1.0)
    if not torch.cuda.is_available():
        with pytest.raises(MissingDependencyError, match="device 'cuda' cannot be used"):
            examine(seconds=0.0, device="cuda")
    assert main(["doctor", "--device", "gpu"]) == 2
    assert "unknown device 'gpu'" in capsys.readouterr().err
