"""Devices by name: what is chosen, and what is said where something is missing."""

import pytest
import torch
from worlds import batched

from policykd.envs import devices
from policykd.envs.devices import choose_device, missing_for_cuda
from policykd.errors import MissingDependencyError, UnknownNameError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have a CUDA build, so many devices, and these packages."""

    def pretend(cuda="13.0", count=0, packages=("warp", "mujoco_warp")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(devices, "find_spec", lambda name: object() if name in packages else None)

    return pretend


def test_a_whole_installation_is_chosen(machine):
    machine(count=2)
    assert missing_for_cuda() == []
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UnknownNameError, match="cuda:0, cuda:1"):
        choose_device("cuda:2")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cuda": None}, "built without CUDA"),
        ({"count": 0}, "nvidia-smi"),
        ({"count": 1, "packages": ("warp",)}, r"package mujoco_warp is not installed: pip install 'policykd\[gpu\]'"),
        ({"count": 1, "packages": ()}, "package warp is not installed"),
    ],
)
def test_what_is_missing_is_named(machine, parts, said):
    machine(**parts)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(MissingDependencyError, match=said):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "auto:1", ""])
def test_other_names_are_refused(name):
    with pytest.raises(UnknownNameError, match="valid: auto, cpu, cuda"):
        choose_device(name)


def test_an_environment_says_what_its_device_lacks(machine):
    machine(cuda=None)
    with pytest.raises(MissingDependencyError, match="device 'cuda' cannot be used"):
        batched(device="cuda")
    assert batched(device="auto").device == torch.device("cpu")
