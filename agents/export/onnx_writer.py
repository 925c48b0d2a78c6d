"""ONNX files of policies, built operation by operation, with the metadata that deployers read.

It needs the package ``onnx`` and no tracing, so that the graph holds what the policy does and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from policykd import __version__
from policykd.agents.export.program import (
    Activate,
    Affine,
    Clamp,
    Columns,
    Combine,
    Convolve,
    Dense,
    Exchange,
    IsGreater,
    Join,
    Mix,
    Operation,
    Program,
    Softmax,
    Target,
    Value,
)
from policykd.errors import ConfigError

OPSET = 17
"""Version of the operators; runtimes since 2022 read it."""

IR_VERSION = 8
"""Version of the file format that belongs to the operators."""

_ACTIVATIONS = {"elu": "Elu", "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
_COMBINATIONS = {"add": "Add", "subtract": "Sub", "multiply": "Mul"}


def onnx_bytes(program: Program, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file with float32 inputs of shape (batch, size) and outputs of the same batch.

    Args:
        program: the policy.
        metadata: texts for ``metadata_props``.

    Raises:
        ConfigError: if the package ``onnx`` is not installed.
    """
    onnx = _onnx()
    graph = _Graph(onnx)
    for value, operation in program.steps:
        graph.add(value, operation)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    inputs, outputs = (
        [helper.make_tensor_value_info(v.name, kind, ["batch", v.size]) for v in values]
        for values in (program.inputs, program.outputs)
    )
    made = helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        made, opset_imports=opset, ir_version=IR_VERSION, producer_name="policykd", producer_version=__version__
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError:
        raise ConfigError("ONNX files need the package onnx: pip install 'policykd[export]'") from None
    return onnx


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, value: Value, operation: Operation) -> None:
        """Append the nodes of an operation whose result is ``value``."""
        _WRITERS[type(operation)](self, value.name, operation)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Append a node and return the name of its output."""
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store an array and return its name."""
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _join(graph: _Graph, out: str, op: Join) -> None:
    graph.node("Concat", [v.name for v in op.inputs], out, axis=1)


def _columns(graph: _Graph, out: str, op: Columns) -> None:
    span = {"first": op.start, "end": op.start + op.size, "axis": 1}
    names = [graph.constant(f"{out}_{name}", np.array([value])) for name, value in span.items()]
    graph.node("Slice", [op.value.name, *names], out)


def _is_greater(graph: _Graph, out: str, op: IsGreater) -> None:
    sides = [
        graph.node(
            "Gather", [op.value.name, graph.constant(f"{out}_{side}_column", np.array([column]))], f"{out}_{side}",
            axis=1,
        )
        for side, column in (("left", op.left), ("right", op.right))
    ]  # fmt: skip
    graph.node("Greater", sides, out)


def _exchange(graph: _Graph, out: str, op: Exchange) -> None:
    order = graph.constant(f"{out}_order", op.order.astype(np.int64))
    other = graph.node("Gather", [op.value.name, order], f"{out}_gathered", axis=1)
    other = graph.node("Mul", [other, graph.constant(f"{out}_signs", op.signs)], f"{out}_other")
    graph.node("Where", [op.mask.name, other, op.value.name], out)


def _affine(graph: _Graph, out: str, op: Affine) -> None:
    shifted = graph.node("Sub", [op.value.name, graph.constant(f"{out}_offset", op.offset)], f"{out}_shifted")
    graph.node("Div", [shifted, graph.constant(f"{out}_divisor", op.divisor)], out)


def _target(graph: _Graph, out: str, op: Target) -> None:
    scaled = graph.node("Mul", [op.value.name, graph.constant(f"{out}_factor", op.factor)], f"{out}_scaled")
    graph.node("Add", [scaled, graph.constant(f"{out}_offset", op.offset)], out)


def _clamp(graph: _Graph, out: str, op: Clamp) -> None:
    high = graph.node("Min", [op.value.name, graph.constant(f"{out}_high", op.high)], f"{out}_below")
    graph.node("Max", [high, graph.constant(f"{out}_low", op.low)], out)


def _dense(graph: _Graph, out: str, op: Dense) -> None:
    names = [graph.constant(f"{out}_weight", op.weight), graph.constant(f"{out}_bias", op.bias)]
    graph.node("Gemm", [op.value.name, *names], out, transB=1)


def _convolve(graph: _Graph, out: str, op: Convolve) -> None:
    channels = op.weight.shape[1]
    shape = graph.constant(f"{out}_shape", np.array([-1, channels, op.value.size // channels]))
    points = graph.node("Reshape", [op.value.name, shape], f"{out}_points")
    names = [graph.constant(f"{out}_weight", op.weight), graph.constant(f"{out}_bias", op.bias)]
    filtered = graph.node("Conv", [points, *names], f"{out}_filtered", strides=[op.stride])
    graph.node("Flatten", [filtered], out, axis=1)


def _activate(graph: _Graph, out: str, op: Activate) -> None:
    graph.node(_ACTIVATIONS[op.kind], [op.value.name], out)


def _combine(graph: _Graph, out: str, op: Combine) -> None:
    graph.node(_COMBINATIONS[op.kind], [op.left.name, op.right.name], out)


def _softmax(graph: _Graph, out: str, op: Softmax) -> None:
    graph.node("Softmax", [op.value.name], out, axis=1)


def _mix(graph: _Graph, out: str, op: Mix) -> None:
    parts = []
    for i, value in enumerate(op.inputs):
        column = graph.constant(f"{out}_{i}_column", np.array([i]))
        weight = graph.node("Gather", [op.weights.name, column], f"{out}_{i}_weight", axis=1)
        parts.append(graph.node("Mul", [value.name, weight], f"{out}_{i}_part"))
    graph.node("Sum", parts, out)


_WRITERS: dict[type, Callable[..., None]] = {
    Join: _join, Columns: _columns, IsGreater: _is_greater, Exchange: _exchange, Affine: _affine, Target: _target,
    Clamp: _clamp, Dense: _dense, Convolve: _convolve, Activate: _activate, Combine: _combine, Softmax: _softmax,
    Mix: _mix,
}  # fmt: skip
