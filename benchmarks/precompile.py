"""Compile for a CUDA architecture, without a GPU, every kernel that a policy step launches: a cache to carry.

    WARP_CACHE_PATH=kernels python benchmarks/precompile.py biped/steps quadruped/flat --arch 90

On the GPU machine, set ``WARP_CACHE_PATH`` to the copied folder. Needs the extra ``[gpu]``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial

import torch
import tyro

from policykd.envs import BatchedEnv, EnvConfig, get_skill
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics.mujoco_warp import WarpEngine
from policykd.envs.physics.warp_kernels import Modules, compile_modules, launched_modules
from policykd.envs.world_counts import round_worlds


@dataclass(frozen=True)
class Options:
    """Options of the compilation.

    Attributes:
        skills: the skills.
        arch: compute capability: 90 for H100 and H200, 80 for A100, 89 for L4 and 4090.
        worlds: numbers of simulations; each compiles kernels of its own.
        tracks: tracks of a terrain, as in training; the room for contacts is measured on them.
    """

    skills: tyro.conf.Positional[tuple[str, ...]] = ("biped/flat", "biped/steps", "quadruped/flat", "humanoid/flat")
    arch: int = 90
    worlds: tuple[int, ...] = (64, 256, 1024)
    tracks: int = 1024


def modules_of(name: str, worlds: int, tracks: int) -> Modules:
    """Return the modules that a step of a skill launches with a number of worlds."""
    skill, config = get_skill(name), EnvConfig(tracks=tracks)
    cpu = BatchedEnv([skill], 1, config=config)
    model = cpu.engine._batch.model  # type: ignore[attr-defined]
    sizes = cpu._contact_sizes(model, cpu._boxes, None)
    engine = partial(WarpEngine, sizes=sizes, device="cpu", worlds=round_worlds(worlds))
    env = MaskedEnv([skill], 1, config=config, make_engine=engine)
    env.reset()
    return launched_modules(lambda: env.step_masked(torch.zeros(1, env.num_actions)))


def main(options: Options) -> None:
    """Compile, and exit with an error if a module does not."""
    began, modules = time.perf_counter(), Modules()
    for name in options.skills:
        for worlds in options.worlds:
            modules |= modules_of(name, worlds, options.tracks)
    failed = compile_modules(modules, options.arch)
    for (name, block), message in failed.items():
        print(f"{name}, blocks of {block}: {message}")
    print(f"{len(modules)} modules, {len(failed)} failed, {time.perf_counter() - began:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(tyro.cli(Options))
