"""Export of policies to runtimes that do not have policykd: ONNX, TorchScript and a C header.

It reads policies and manifests and writes files; it trains nothing.
"""

from policykd.agents.export.export import ExportReport, export_policy

__all__ = ["ExportReport", "export_policy"]
