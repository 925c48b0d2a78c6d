"""``policykd doctor``: what it finds, writes down and advises."""

import json
from importlib import metadata

import pytest
import torch

from policykd import doctor, warming
from policykd.cli.main import main
from policykd.doctor import examine
from policykd.errors import ConfigError, MissingDependencyError, UnknownNameError
from policykd.warming import Warmed


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


def test_kernels_are_compiled_in_advance(monkeypatch, tmp_path, capsys):
    asked = []

    def warmed(skills, device):
        asked.append((skills, device))
        return [Warmed(name, 64, 1.25) for name in skills]

    monkeypatch.setattr(warming, "warm_kernels", warmed)
    options = ["--seconds", "0", "--out", str(tmp_path / "d.json"), "--warm", "biped/flat", "biped/gaps"]
    assert main(["doctor", *options]) == 0
    assert "biped/gaps, 64 worlds: 1.2 s" in capsys.readouterr().out
    assert main(["doctor", *options, "--device", "cpu"]) == 0
    assert asked == [(("biped/flat", "biped/gaps"), "cuda"), (("biped/flat", "biped/gaps"), "cpu")]


def test_every_skill_is_stepped_with_every_number_of_worlds():
    done = list(warming.warm_kernels(["biped/flat"], "cpu", worlds=(2, 3)))
    assert [(w.skill, w.worlds) for w in done] == [("biped/flat", 2), ("biped/flat", 3)]
    assert all(w.seconds > 0 for w in done)
    assert warming.WORLDS == (64, 256, 1024)
    with pytest.raises(UnknownNameError, match="biped/flt"):
        next(warming.warm_kernels(["biped/flt"], "cpu"))


def test_bad_input_is_refused(capsys):
    with pytest.raises(ConfigError, match="seconds is -1"):
        examine(seconds=-1.0)
    if not torch.cuda.is_available():
        with pytest.raises(MissingDependencyError, match="device 'cuda' cannot be used"):
            examine(seconds=0.0, device="cuda")
    assert main(["doctor", "--device", "gpu"]) == 2
    assert "unknown device 'gpu'" in capsys.readouterr().err
