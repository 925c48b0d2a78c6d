"""Devices of simulation and networks: the CPU, or a CUDA device with mujoco_warp.

It only answers questions about devices; it allocates nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from policykd.errors import MissingDependencyError, UnknownNameError

DEVICES = ("auto", "cpu", "cuda")
"""Names of devices; ``cuda:1`` and so on select one of several."""

INSTALL = "pip install 'policykd[gpu]'"
"""Command that installs mujoco_warp."""


def missing_for_cuda() -> list[str]:
    """Return what is missing for ``--device cuda`` on this machine, one sentence each; empty if nothing is missing."""
    missing = []
    if torch.version.cuda is None:
        missing.append("torch was built without CUDA: install a CUDA build of torch (see pytorch.org)")
    elif not torch.cuda.is_available():
        missing.append("torch finds no CUDA device: check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES")
    missing += [
        f"the package {name} is not installed: {INSTALL}"
        for name in ("warp", "mujoco_warp")
        if find_spec(name) is None
    ]  # fmt: skip
    return missing


def is_card(name: str) -> bool:
    """Return whether a device's name stands for a CUDA device; ``auto`` does where nothing is missing."""
    return name.partition(":")[0] == "cuda" or (name == "auto" and choose_device(name).type == "cuda")


def choose_device(name: str) -> torch.device:
    """Return the device with a name.

    Args:
        name: ``cpu``; ``cuda``, or ``cuda:1`` and so on; ``auto`` for ``cuda`` if it is usable, otherwise ``cpu``.

    Returns:
        The device.

    Raises:
        UnknownNameError: for any other name.
        MissingDependencyError: for ``cuda`` on a machine that cannot use it, saying what to install.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise UnknownNameError("device", name, DEVICES)
    if kind == "cpu":
        return torch.device("cpu")
    missing = missing_for_cuda()
    if kind == "auto":
        return torch.device("cpu" if missing else "cuda")
    if missing:
        raise MissingDependencyError(f"device '{name}' cannot be used: {'; '.join(missing)}")
    if index and int(index) >= torch.cuda.device_count():
        raise UnknownNameError("device", name, [f"cuda:{i}" for i in range(torch.cuda.device_count())])
    return torch.device(name)
