"""ONNX files of policies that are chains of dense layers, read node by node and never run.

``Sub`` and ``Div`` in front are a normalizer, ``Gemm``, or ``MatMul`` and ``Add``, are layers, ``Elu``, ``Relu``,
``Tanh`` and the product with the own ``Sigmoid`` (swish) activations. The first of two halves of the last layer is the
mean of the actions, as brax exports it. Other graphs are refused with the name of the node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.foreign_policy import NO_CLIP, ForeignPolicy, Layer, Standardization
from policykd.agents.importing.weights import chain_actions, chain_activations
from policykd.errors import ConfigError, PolicyFileError

_ACTIVATIONS = {"Elu": "elu", "Relu": "relu", "Silu": "silu", "Swish": "silu", "Tanh": "tanh"}
_ACTING = ("actions", "action", "mu", "logits")
"""Names of outputs that act, where a file has several."""

_PASSED = {"Identity", "Flatten", "Cast", "Squeeze", "Reshape"}
_BOUNDS = {"Clip", "Min", "Max"}


def read_onnx(content: bytes, path: Path) -> ForeignPolicy:
    """Return the policy of an ONNX file.

    Raises:
        PolicyFileError: for a damaged file, and graphs that are not a chain.
        ConfigError: if the package ``onnx`` is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ConfigError("ONNX files need the package onnx: pip install 'policykd[export]'") from None
    try:
        model = onnx.load_model_from_string(content)
        constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
        reader = _Reader(path.name, model, constants, onnx)
        return reader.policy()
    except PolicyFileError:
        raise
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise PolicyFileError(f"{path.name} is not an ONNX file, or it is damaged: {error}") from None


class _Silu(NamedTuple):
    """A product of a value with its sigmoid, as one node."""

    name: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    op_type: str = "Silu"
    attribute: tuple[Any, ...] = ()


class _Reader:
    """Walks a graph from its input to the output that acts."""

    def __init__(self, file: str, model: Any, constants: dict[str, np.ndarray], onnx: Any) -> None:
        self._file, self._graph, self._constants, self._onnx = file, model.graph, dict(constants), onnx
        self._layers: list[Layer] = []
        self._activations: list[tuple[int, str]] = []
        self._offset: np.ndarray | None = None
        self._divisor: np.ndarray | None = None
        self._clip = NO_CLIP
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def policy(self) -> ForeignPolicy:
        """Return the policy."""
        inputs = [v.name for v in self._graph.input if v.name not in self._constants]
        if len(inputs) != 1:
            raise PolicyFileError(f"{self._file} has the inputs {', '.join(inputs)}; a chain has one")
        outputs = [v.name for v in self._graph.output]
        output = next((name for name in _ACTING if name in outputs), outputs[0])
        for node, current, made in self._path(inputs[0], output):
            self._take(node, current, made)
        return self._result(output)

    def _path(self, start: str, output: str) -> list[tuple[Any, str, str]]:
        """Return the nodes between the input and an output, each with its one input that is not a constant.

        The third item is the output of the node that the path goes on with.
        """
        makers = {}
        for node in self._graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = self._onnx.numpy_helper.to_array(node.attribute[0].t)
            makers.update(dict.fromkeys(node.output, node))
        path: list[tuple[Any, str, str]] = []
        current = output
        while current != start:
            node = makers.get(current)
            if node is None or len(path) > len(makers):
                raise PolicyFileError(f"{self._file}: '{current}' does not come from the input '{start}'")
            node = _as_silu(node, makers)
            variable = [name for name in node.input if name and name not in self._constants]
            if len(variable) != 1:
                raise PolicyFileError(
                    f"{self._file} is not a chain: node {node.name} ({node.op_type}) reads {len(variable)} values"
                )
            path.append((node, variable[0], current))
            current = variable[0]
        return path[::-1]

    def _take(self, node: Any, current: str, made: str) -> None:
        kind = node.op_type
        others = [self._constants.get(name) for name in node.input if name != current]
        if kind in _PASSED:
            return
        if self._bounded and kind not in _BOUNDS:
            raise PolicyFileError(f"{self._file}: node {node.name} ({kind}) stands behind the bounds of the actions")
        if kind in _ACTIVATIONS:
            if any(a.name == "alpha" and abs(a.f - 1.0) > 1e-6 for a in node.attribute):
                raise PolicyFileError(f"{self._file}: node {node.name} is an ELU with another alpha than 1")
            self._activations.append((len(self._layers), _ACTIVATIONS[kind]))
        elif kind == "Gemm":
            self._gemm(node, self._numbers(node, others))
        elif kind == "MatMul":
            weight = self._numbers(node, others)[0].T
            self._layers.append(Layer(weight, np.zeros(len(weight), dtype=np.float32)))
        elif kind in ("Add", "Sub", "Div", "Mul"):
            self._affine(kind, np.ravel(self._numbers(node, others)[0]), node)
        elif kind == "Split":
            self._keep_mean(node, made, others)
        elif kind in _BOUNDS:
            self._bound(*_limits(node, kind, others), node)
        else:
            raise PolicyFileError(
                f"{self._file}: node {node.name} is a {kind}, which a chain of dense layers does not have"
            )

    def _numbers(self, node: Any, others: list[Any]) -> list[np.ndarray]:
        """Return the constants of a node without an optional last one; at least one has to be there."""
        found = others[:-1] if len(others) > 1 and others[-1] is None else others
        if not found or any(value is None or np.asarray(value).dtype.kind not in "fiu" for value in found):
            raise PolicyFileError(f"{self._file}: node {node.name} ({node.op_type}) lacks numbers to compute with")
        return [np.asarray(value) for value in found]

    def _gemm(self, node: Any, others: list[np.ndarray]) -> None:
        given = {a.name: (a.i if a.name.startswith("trans") else a.f) for a in node.attribute}
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
            raise PolicyFileError(f"{self._file}: node {node.name} scales its product, which is not imported")
        weight = others[0] if given.get("transB", 0) else others[0].T
        bias = np.ravel(others[1]) if len(others) > 1 else np.zeros(len(weight), dtype=np.float32)
        self._layers.append(Layer(weight, bias))

    def _keep_mean(self, node: Any, made: str, others: list[Any]) -> None:
        """Cut the last layer to the first of its two halves; the other one is the spread."""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        sizes = [list(a.ints) for a in node.attribute if a.name == "split"] + [np.ravel(o).tolist() for o in others]
        count = len(self._layers[-1].bias) if self._layers else 0
        halves = [count // 2] * 2
        fits = count and count % 2 == 0 and len(node.output) == 2 and all(one == halves for one in sizes)
        if not fits or axis not in (1, -1) or made != node.output[0] or self._follows_activation:
            raise PolicyFileError(f"{self._file}: node {node.name} splits something else than means and spreads")
        last = self._layers[-1]
        self._layers[-1] = Layer(last.weight[: count // 2], last.bias[: count // 2])

    @property
    def _follows_activation(self) -> bool:
        return bool(self._activations) and self._activations[-1][0] == len(self._layers)

    def _affine(self, kind: str, value: np.ndarray, node: Any) -> None:
        if self._layers:
            last = self._layers[-1]
            if kind != "Add" or self._follows_activation or value.shape != last.bias.shape:
                raise PolicyFileError(f"{self._file}: node {node.name} ({kind}) behind a layer is not imported")
            self._layers[-1] = Layer(last.weight, last.bias + value)
            return
        if self._clip != NO_CLIP:
            raise PolicyFileError(f"{self._file}: node {node.name} ({kind}) stands behind the bounds of the features")
        if kind in ("Sub", "Add") and self._offset is None and self._divisor is None:
            self._offset = value if kind == "Sub" else -value
        elif kind in ("Div", "Mul") and self._divisor is None:
            self._divisor = value if kind == "Div" else 1.0 / value
        else:
            raise PolicyFileError(f"{self._file}: node {node.name} ({kind}) is a second normalization")

    def _bound(self, low: Any, high: Any, node: Any) -> None:
        """Take bounds of the observations, which must be symmetric, or of the actions; None for no bound."""
        for value, name in ((low, "_low"), (high, "_high")):
            if value is None:
                continue
            bound = np.ravel(np.asarray(value, dtype=np.float64))
            if self._layers:
                setattr(self, name, np.broadcast_to(bound, self._layers[-1].bias.shape))
            elif len(set(np.abs(bound))) != 1 or abs(bound[0]) != self._clip != NO_CLIP:
                raise PolicyFileError(f"{self._file}: node {node.name} clips observations to different bounds")
            else:
                self._clip = float(abs(bound[0]))

    def _result(self, output: str) -> ForeignPolicy:
        if not self._layers:
            raise PolicyFileError(f"{self._file} holds no dense layers")
        activation, squash = chain_activations(self._activations, len(self._layers), self._file)
        inputs = int(self._layers[0].weight.shape[1])
        standardization = None
        if self._offset is not None or self._divisor is not None:
            mean = np.zeros(inputs) if self._offset is None else np.broadcast_to(self._offset, (inputs,))
            divisor = np.ones(inputs) if self._divisor is None else np.broadcast_to(self._divisor, (inputs,))
            standardization = Standardization(np.array(mean), np.array(divisor), self._clip)
        return ForeignPolicy(
            source="ONNX",
            groups={"observation": inputs},
            actor=tuple(self._layers),
            activation=activation,
            squash=squash,
            actions=ActionMap("argmax") if output == "logits" else self._actions(squash),
            standardization=standardization,
        )

    @property
    def _bounded(self) -> bool:
        return self._low is not None or self._high is not None

    def _actions(self, squash: bool) -> ActionMap:
        if self._low is None or self._high is None:
            return chain_actions(squash, len(self._layers[-1].bias))
        return ActionMap("clip", tuple(map(float, self._low)), tuple(map(float, self._high)))


def _as_silu(node: Any, makers: dict[str, Any]) -> Any:
    """Return a product of a value and its sigmoid as one node, and any other node as it is."""
    if node.op_type == "Mul" and len(node.input) == 2:
        for value, gate in (node.input, tuple(node.input)[::-1]):
            maker = makers.get(gate)
            if maker is not None and maker.op_type == "Sigmoid" and list(maker.input) == [value]:
                return _Silu(node.name, (value,), tuple(node.output))
    return node


def _limits(node: Any, kind: str, others: list[Any]) -> tuple[Any, Any]:
    """Return the lower and the upper bound that a node applies; None for no bound."""
    if kind == "Min":
        return None, others[0]
    if kind == "Max":
        return others[0], None
    if len(others) == 2:
        return others[0], others[1]
    found = {a.name: a.f for a in node.attribute}  # until operators of version 10, bounds were attributes
    return found.get("min"), found.get("max")
