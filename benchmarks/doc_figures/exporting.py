"""Figures of exported policies: docs/export.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from doc_figures.formats import interval
from doc_figures.registry import Rows, table

FORMATS: Mapping[str, str] = {"C header": "c", "onnxruntime": "onnx", "TorchScript": "torchscript"}
"""Formats of an export by the runtimes that are timed."""

HEAD = ("runtime", "one action, us (least to largest)", "largest difference of an action", "success of 64 episodes")


@table("export.md", "export-latency.json", head=HEAD)
def export_latency(content: Mapping[str, Any]) -> Rows:
    """Return time, parity and success in closed loop of every runtime."""
    return [_row(runtime, times, content["export"]["files"]) for runtime, times in content["microseconds"].items()]


def _row(runtime: str, times: list[float], files: Mapping[str, Any]) -> tuple[str, ...]:
    found = files[FORMATS[runtime]]["comparison"]
    policy, file = found["success"]
    middle = interval((statistics.median(times), min(times), max(times)), 0, " to ")
    return (runtime, middle, f"{found['largest_action']:.0e}", f"{file:.2f}, of the policy {policy:.2f}")
