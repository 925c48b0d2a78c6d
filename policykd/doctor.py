"""Diagnosis of this machine: versions, devices, caches, rendering, threads and simulation throughput.

It looks and measures, and changes nothing on the machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from policykd.environment import package_version
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.devices import choose_device, missing_for_cuda
from policykd.envs.env_records import EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.rendering import SceneRenderer, build_scene
from policykd.envs.skills import get_skill
from policykd.errors import MissingDependencyError, check_range
from policykd.threads import usable_cores

PACKAGES = (
    "policykd", "torch", "mujoco", "numpy", "numba", "gymnasium", "stable-baselines3", "safetensors", "scipy",
    "warp-lang", "mujoco-warp", "imageio-ffmpeg", "scikit-learn",
)  # fmt: skip
"""Distributions whose versions are reported; the last four are installed by extras."""

_NVIDIA = Path("/proc/driver/nvidia/version")
_PROBE_SIMS = {"cpu": 256, "cuda": 8192}
_PROBE_SKILL = "biped/steps"


@dataclass(frozen=True)
class Findings:
    """Result of :func:`examine`.

    Attributes:
        versions: version of each distribution; None if it is not installed.
        machine: system, processor, Python, cores that this process may use, threads of torch.
        device: CUDA devices and missing parts of CUDA support; ``auto`` is the device that the name ``auto`` selects,
            ``chosen`` the device of the probe.
        cache: folder of Warp's compiled kernels, number of modules and size in MB; empty without Warp.
        drawing: the OpenGL backend, or the reason why rendering fails.
        probe: simulation throughput in environment steps per second, with skill, device and number of simulations;
            empty if the probe was skipped.
        advice: recommended installations and changes, most important first.
    """

    versions: Mapping[str, str | None]
    machine: Mapping[str, Any]
    device: Mapping[str, Any]
    cache: Mapping[str, Any]
    drawing: Mapping[str, Any]
    probe: Mapping[str, Any]
    advice: tuple[str, ...]


def examine(seconds: float = 10.0, device: str = "auto") -> Findings:
    """Examine this machine.

    Args:
        seconds: length of the throughput probe, s; 0 skips it.
        device: device of the probe.

    Raises:
        ConfigError: for a length outside [0, 3600] s.
        UnknownNameError: for an unknown device.
        MissingDependencyError: for a device that cannot be used here.
    """
    check_range("seconds", seconds, 0.0, 3600.0, "s")
    chosen = choose_device(device)
    drawing, cache = _drawing(), _cache()
    return Findings(
        versions={name: package_version(name) for name in PACKAGES},
        machine={
            "system": platform.platform(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "cores": usable_cores(),
            "torch_threads": torch.get_num_threads(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        device={**_cuda(), "auto": str(choose_device("auto")), "chosen": str(chosen)},
        cache=cache,
        drawing=drawing,
        probe=_probe(chosen, seconds) if seconds else {},
        advice=tuple(_advice(drawing, cache)),
    )


def _cuda() -> dict[str, Any]:
    """Return the CUDA devices that torch sees, and what is missing for policykd to use them."""
    found: dict[str, Any] = {"torch_cuda": torch.version.cuda, "missing": missing_for_cuda()}
    found["driver"] = _NVIDIA.read_text().splitlines()[0] if _NVIDIA.exists() else None
    found["devices"] = []
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        memory = round(properties.total_memory / 2**30, 1)
        found["devices"].append({"name": properties.name, "memory_gib": memory,
                                 "capability": f"{properties.major}.{properties.minor}"})  # fmt: skip
    return found


def _cache() -> dict[str, Any]:
    """Return folder, number of modules and size of Warp's kernel cache."""
    if find_spec("warp") is None:
        return {}
    import warp

    warp.config.quiet = True
    warp.init()
    folder = Path(warp.config.kernel_cache_dir)
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    modules = sum(1 for path in folder.iterdir() if path.is_dir()) if folder.exists() else 0
    size = round(sum(path.stat().st_size for path in files) / 1e6, 1)
    return {"folder": str(folder), "modules": modules, "megabytes": size}


def _drawing() -> dict[str, Any]:
    """Render one small image and return whether it worked."""
    env = BatchedEnv([get_skill("biped/flat")], 1, config=EnvConfig(tracks=1), threads=1)
    env.reset()
    try:
        with SceneRenderer(build_scene(env.robot, env.track(0)), 64, 36) as renderer:
            renderer.frame(env.engine.field("qpos")[0].numpy())
    except MissingDependencyError as error:
        return {"works": False, "error": str(error)}
    return {"works": True, "backend": os.environ.get("MUJOCO_GL") or "MuJoCo's own choice"}


def _probe(device: torch.device, seconds: float) -> dict[str, Any]:
    """Measure environment steps per second under random actions."""
    skill, sims = get_skill(_PROBE_SKILL), _PROBE_SIMS[device.type]
    config = EnvConfig(tracks=64)
    began = time.perf_counter()
    env = (
        BatchedEnv([skill], sims, config=config) if device.type == "cpu"
        else MaskedEnv([skill], sims, config=config, device=str(device))
    )  # fmt: skip
    step = env.step_masked if isinstance(env, MaskedEnv) else env.step
    env.reset(stagger=True)
    draw = torch.Generator(env.device).manual_seed(0)
    actions = 0.4 * torch.rand(16, sims, env.num_actions, generator=draw, device=env.device) - 0.2
    step(actions[0])
    _wait(device)
    ready = time.perf_counter()
    steps = 0
    while time.perf_counter() - ready < seconds:
        for action in actions:
            step(action)
        _wait(device)
        steps += len(actions)
    spent = time.perf_counter() - ready
    return {
        "skill": skill.id,
        "device": str(device),
        "simulations": sims,
        "steps_per_second": round(sims * steps / spent),
        "seconds": round(spent, 2),
        "start_up_seconds": round(ready - began, 2),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _advice(drawing: Mapping[str, Any], cache: Mapping[str, Any]) -> list[str]:
    """Return recommended installations and changes."""
    advice = []
    if not drawing["works"]:
        advice.append(f"to draw and film: {drawing['error']}")
    if package_version("imageio-ffmpeg") is None:
        advice.append("to write videos: pip install 'policykd[video]'")
    if package_version("scikit-learn") is None:
        advice.append("for the digits task of `policykd kd`: pip install 'policykd[kd]'")
    advice += [f"to use --device cuda: {sentence}" for sentence in missing_for_cuda()]
    if cache and not cache["modules"]:
        advice.append(
            "the first use of --device cuda compiles kernels: `policykd doctor --warm SKILL` does it in advance; keep "
            "Warp's cache folder for later runs"
        )
    wanted = os.environ.get("OMP_NUM_THREADS")
    if wanted and wanted.isdigit() and int(wanted) > usable_cores():
        cores = usable_cores()
        advice.append(f"OMP_NUM_THREADS is {wanted}, but this process may use {cores} cores: set it to {cores} or less")
    return advice
