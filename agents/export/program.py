"""A policy as a short list of array operations, which the writers of ONNX and C print.

It only describes: :func:`policy_program` reads a policy's modules, and nothing here computes an action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from policykd.agents.files.manifest import Action
from policykd.agents.networks import GroupEncoder, JoinedLayers
from policykd.agents.policy import Policy
from policykd.errors import ContractError

Array: TypeAlias = np.ndarray

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ELU: "elu", nn.ReLU: "relu", nn.Tanh: "tanh"}


@dataclass(frozen=True)
class Value:
    """A row of numbers that an operation returns, one row per observation.

    Attributes:
        name: its name in the exported file.
        size: numbers in a row.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Join:
    """Values side by side, in order."""

    inputs: tuple[Value, ...]


@dataclass(frozen=True)
class Columns:
    """``size`` columns of a value from ``start`` on."""

    value: Value
    start: int
    size: int


@dataclass(frozen=True)
class IsGreater:
    """Whether column ``left`` of a value is greater than column ``right``: one truth value per row."""

    value: Value
    left: int
    right: int


@dataclass(frozen=True)
class Exchange:
    """In the rows of ``mask``, columns ``order`` of a value times ``signs``; otherwise the value itself."""

    value: Value
    mask: Value
    order: Array
    signs: Array


@dataclass(frozen=True)
class Affine:
    """``(value - offset) / divisor``, each (size,); standardization of observations."""

    value: Value
    offset: Array
    divisor: Array


@dataclass(frozen=True)
class Target:
    """``offset + factor * value``, each (size,): joint angles from actions."""

    value: Value
    offset: Array
    factor: Array


@dataclass(frozen=True)
class Clamp:
    """A value within bounds, each (size,)."""

    value: Value
    low: Array
    high: Array


@dataclass(frozen=True)
class Dense:
    """``value @ weight.T + bias`` with weight (out, in)."""

    value: Value
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Convolve:
    """A 1-D convolution of a value that holds (channels, points), flattened; weight (out, channels, width)."""

    value: Value
    weight: Array
    bias: Array
    stride: int


@dataclass(frozen=True)
class Activate:
    """An activation of every number: ``elu``, ``relu`` or ``tanh``."""

    value: Value
    kind: str


Operation: TypeAlias = Join | Columns | IsGreater | Exchange | Affine | Target | Clamp | Dense | Convolve | Activate


@dataclass
class Program:
    """Operations in the order in which they run.

    Attributes:
        inputs: observation groups, or one flat observation.
        steps: results with the operations that compute them.
        outputs: values that the exported file returns.
    """

    inputs: tuple[Value, ...]
    steps: list[tuple[Value, Operation]] = field(default_factory=list)
    outputs: tuple[Value, ...] = ()

    def add(self, operation: Operation, size: int, name: str = "") -> Value:
        """Append an operation and return its result.

        Args:
            operation: the operation.
            size: numbers in a row of its result.
            name: name of the result; empty for a number.
        """
        value = Value(name or f"v{len(self.steps)}", size)
        self.steps.append((value, operation))
        return value


def policy_program(policy: Policy, actions: tuple[Action, ...], *, per_group: bool = False) -> Program:
    """Return the deterministic policy as a program from raw observations to clamped actions and joint targets.

    Args:
        policy: the policy.
        actions: mapping of each action, as the manifest holds it.
        per_group: one input per observation group instead of one flat ``obs``.

    Returns:
        A program with the outputs ``actions`` in [-1, 1] and ``joint_targets``, rad.

    Raises:
        ContractError: for a network with a module that has no exported form.
    """
    if per_group:
        program = Program(tuple(Value(input_name(name), size) for name, size in policy.groups.items()))
        observation = program.add(Join(program.inputs), policy.observation_size)
    else:
        program = Program((Value("obs", policy.observation_size),))
        observation = program.inputs[0]
    features, mask = _canonical(program, policy, observation)
    last = _network(program, policy.actor, _normalized(program, policy, features))
    if policy.architecture.mean_clip is not None:
        bound = np.full(last.size, policy.architecture.mean_clip, dtype=np.float32)
        last = program.add(Clamp(last, -bound, bound), last.size)
    if policy.architecture.squash:
        last = program.add(Activate(last, "tanh"), last.size)
    if mask is not None:
        assert policy.symmetry is not None
        order, signs = policy.symmetry.actions, policy.symmetry.action_signs
        last = program.add(Exchange(last, mask, np.array(order), _signs(signs, last.size)), last.size)
    ones = np.ones(last.size, dtype=np.float32)
    clamped = program.add(Clamp(last, -ones, ones), last.size, "actions")
    stand, scale = (np.array([getattr(a, key) for a in actions], dtype=np.float32) for key in ("stand", "scale"))
    target = program.add(Target(clamped, stand, scale), last.size)
    limits = np.array([a.limits for a in actions], dtype=np.float32)
    program.outputs = (clamped, program.add(Clamp(target, limits[:, 0], limits[:, 1]), last.size, "joint_targets"))
    return program


def input_name(group: str) -> str:
    """Return the name of a group's input, an identifier in C: ``joints_5`` for the history ``joints:5``."""
    return group.replace(":", "_")


def _canonical(program: Program, policy: Policy, observation: Value) -> tuple[Value, Value | None]:
    """Append the exchange of left and right, if the policy has one."""
    symmetry = policy.symmetry
    if symmetry is None:
        return observation, None
    right, left = symmetry.lead
    mask = program.add(IsGreater(observation, left, right), 1)
    signs = _signs(symmetry.feature_signs, observation.size)
    exchange = Exchange(observation, mask, np.array(symmetry.features), signs)
    return program.add(exchange, observation.size), mask


def _normalized(program: Program, policy: Policy, features: Value) -> Value:
    normalizer = policy.normalizer
    std = normalizer.var.sqrt().clamp_min(normalizer.min_std)
    value = program.add(Affine(features, _array(normalizer.mean), _array(std)), features.size)
    bound = np.full(features.size, normalizer.clip, dtype=np.float32)
    return program.add(Clamp(value, -bound, bound), features.size)


def _network(program: Program, network: nn.Module, value: Value) -> Value:
    """Append the modules of a network, one after the other."""
    if isinstance(network, nn.Sequential):
        for module in network:
            value = _network(program, module, value)
        return value
    if isinstance(network, JoinedLayers):
        return _joined_layers(program, network, value)
    if isinstance(network, nn.Linear):
        return program.add(Dense(value, _array(network.weight), _array(network.bias)), network.out_features)
    if isinstance(network, nn.Conv1d):
        points = (value.size // network.in_channels - network.kernel_size[0]) // network.stride[0] + 1
        assert network.bias is not None
        convolution = Convolve(value, _array(network.weight), _array(network.bias), network.stride[0])
        return program.add(convolution, network.out_channels * points)
    if type(network) in _ACTIVATIONS:
        return program.add(Activate(value, _ACTIVATIONS[type(network)]), value.size)
    raise ContractError(f"the policy has a {type(network).__name__}, which has no exported form")


def _joined_layers(program: Program, layers: JoinedLayers, value: Value) -> Value:
    encodings = [
        _encoding(program, encoder, _span(program, value, span))
        for encoder, span in zip(layers.encoders, layers.encoded, strict=True)
    ]
    below = [_span(program, value, span) for span in layers.character]
    for layer, joins in zip(layers.layers, layers.joins, strict=True):
        inputs = (*below, *(encodings[k] for k in joins))
        joined = inputs[0] if len(inputs) == 1 else program.add(Join(inputs), sum(v.size for v in inputs))
        below = [_network(program, layers.activation, _network(program, layer, joined))]
    return below[0]


def _encoding(program: Program, encoder: nn.Module, value: Value) -> Value:
    assert isinstance(encoder, GroupEncoder)
    for module in (*encoder.convolutions, encoder.dense, encoder.activation):
        value = _network(program, module, value)
    return value


def _span(program: Program, value: Value, span: slice) -> Value:
    size = span.stop - span.start
    return program.add(Columns(value, span.start, size), size)


def _signs(signs: tuple[float, ...] | None, size: int) -> Array:
    return np.array(signs, dtype=np.float32) if signs else np.ones(size, dtype=np.float32)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float32)
