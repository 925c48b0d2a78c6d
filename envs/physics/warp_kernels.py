"""The kernels that a policy step launches, and their compilation for a CUDA architecture on machines without one.

Warp compiles for any architecture with the compiler that it brings; a cache that is carried to a GPU machine saves the
first minute there. Which kernels a step launches is noted in a step on Warp's CPU device. Needs the extra ``[gpu]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import warp as wp
import warp._src.context as context

Modules = dict[tuple[str, int], Any]
"""Modules of kernels by name and block size: Warp compiles each block size separately."""

_BLOCK = 256


def launched_modules(work: Callable[[], Any]) -> Modules:
    """Return the modules of all kernels that ``work`` launches, with the block sizes that a CUDA device would get."""
    found: Modules = {}
    with _noted(found):
        work()
    return found


@contextmanager
def _noted(found: Modules) -> Iterator[None]:
    launch, launch_tiled = context.launch, context.launch_tiled

    def noted(kernel: Any, *arguments: Any, **options: Any) -> Any:
        if getattr(kernel, "module", None) is not None:
            found[kernel.module.name, options.get("block_dim", _BLOCK)] = kernel.module
        return launch(kernel, *arguments, **options)

    def noted_tiled(kernel: Any, *arguments: Any, **options: Any) -> Any:
        found[kernel.module.name, options["block_dim"]] = kernel.module
        _put(launch, noted_tiled)  # on the CPU it launches with a block of 1, which no device gets
        try:
            return launch_tiled(kernel, *arguments, **options)
        finally:
            _put(noted, noted_tiled)

    _put(noted, noted_tiled)
    try:
        yield
    finally:
        _put(launch, launch_tiled)


def _put(launch: Callable[..., Any], launch_tiled: Callable[..., Any]) -> None:
    """Replace the functions by which Warp and mujoco_warp launch kernels."""
    for place in (context, wp):
        place.launch, place.launch_tiled = launch, launch_tiled


def compile_modules(modules: Modules, architecture: int) -> Mapping[tuple[str, int], str]:
    """Compile modules into Warp's cache for a CUDA architecture; no GPU is needed.

    Args:
        modules: from :func:`launched_modules`.
        architecture: compute capability, for example 90 for sm_90.

    Returns:
        Messages of the modules that do not compile.
    """
    failed: dict[tuple[str, int], str] = {}
    for (name, block), module in modules.items():
        before = module.options["block_dim"]
        module.options["block_dim"] = block
        try:
            wp.compile_aot_module(module, arch=architecture)
        except Exception as error:  # whatever the compiler says is reported with the module's name
            failed[name, block] = str(error)
        finally:
            module.options["block_dim"] = before
    return failed
