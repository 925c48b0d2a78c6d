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
from policykd.agents.latent_policy import LatentPolicy
from policykd.agents.networks import ExpertMixture, GroupEncoder, JoinedLayers, group_columns
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
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
    """An activation of every number: ``elu``, ``relu``, ``tanh`` or ``sigmoid``."""

    value: Value
    kind: str


@dataclass(frozen=True)
class Combine:
    """Two values of one size, number by number: ``add``, ``subtract`` or ``multiply``."""

    left: Value
    right: Value
    kind: str


@dataclass(frozen=True)
class Softmax:
    """Shares that sum to 1: exponentials of a value's numbers over their sum."""

    value: Value


@dataclass(frozen=True)
class Mix:
    """The sum of values of one size, each times one number of ``weights``, in order."""

    inputs: tuple[Value, ...]
    weights: Value


Operation: TypeAlias = (
    Join
    | Columns
    | IsGreater
    | Exchange
    | Affine
    | Target
    | Clamp
    | Dense
    | Convolve
    | Activate
    | Combine
    | Softmax
    | Mix
)


@dataclass
class Program:
    """Operations in the order in which they run.

    Attributes:
        inputs: observation groups, or one flat observation; then the state of a recurrent policy.
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
        A program with the outputs ``actions`` in [-1, 1] and ``joint_targets``, rad. One of a recurrent policy has the
        further input ``state``, zeros at the beginning of an episode, and the further output ``next_state``.

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
    features = _normalized(program, policy, features)
    if isinstance(policy, RecurrentPolicy):
        state = Value("state", policy.state_size)
        program.inputs = (*program.inputs, state)
        features, after = _remembered(program, policy, features, state)
    if isinstance(policy, LatentPolicy):
        features = _with_latent(program, policy, features)
    last = _network(program, policy.actor, features)
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
    if isinstance(policy, RecurrentPolicy):
        program.outputs = (*program.outputs, after)
    return program


def _with_latent(program: Program, policy: LatentPolicy, features: Value) -> Value:
    """Append the adaptation module, and return what the actor reads."""
    shape, columns = policy.architecture.latent, group_columns(policy.groups)
    assert shape is not None
    other = (*shape.history, *shape.privileged)
    own = [_span(program, features, columns[name]) for name in policy.groups if name not in other]
    history = tuple(_span(program, features, columns[name]) for name in shape.history)
    joined = program.add(Join(history), sum(value.size for value in history))
    parts = (*own, _network(program, policy.adaptation, joined))
    return program.add(Join(parts), sum(value.size for value in parts))


def _remembered(program: Program, policy: RecurrentPolicy, features: Value, state: Value) -> tuple[Value, Value]:
    """Append the memory, and return what the actor reads and the next state; formulas of torch's cells."""
    features, cell = _network(program, policy.front, features), policy.memory
    if isinstance(cell, nn.LSTMCell):
        hidden, after = _lstm(program, cell, features, state)
    elif isinstance(cell, nn.GRUCell):
        hidden = after = _gru(program, cell, features, state)
    else:
        raise ContractError(f"the policy has a {type(cell).__name__}, which has no exported form")
    shape = policy.architecture.memory
    if shape is not None and shape.dense:
        hidden = program.add(Join((hidden, features)), hidden.size + features.size)
    return hidden, after


def _gates(program: Program, cell: nn.RNNCellBase, value: Value, side: str) -> Value:
    """Append one dense layer for all gates, of the input (``ih``) or of the hidden state (``hh``)."""
    weight, bias = (_array(cell.get_parameter(f"{name}_{side}")) for name in ("weight", "bias"))
    return program.add(Dense(value, weight, bias), len(bias))


def _gru(program: Program, cell: nn.GRUCell, features: Value, state: Value) -> Value:
    n = cell.hidden_size
    ours, theirs = (
        [program.add(Columns(gates, i * n, n), n) for i in range(3)]
        for gates in (_gates(program, cell, features, "ih"), _gates(program, cell, state, "hh"))
    )
    reset, update = (
        program.add(Activate(program.add(Combine(ours[i], theirs[i], "add"), n), "sigmoid"), n) for i in (0, 1)
    )
    kept = program.add(Combine(reset, theirs[2], "multiply"), n)
    new = program.add(Activate(program.add(Combine(ours[2], kept, "add"), n), "tanh"), n)
    change = program.add(Combine(update, program.add(Combine(state, new, "subtract"), n), "multiply"), n)
    return program.add(Combine(new, change, "add"), n, "next_state")


def _lstm(program: Program, cell: nn.LSTMCell, features: Value, state: Value) -> tuple[Value, Value]:
    n = cell.hidden_size
    hidden, memory = (program.add(Columns(state, i * n, n), n) for i in (0, 1))
    both = Combine(_gates(program, cell, features, "ih"), _gates(program, cell, hidden, "hh"), "add")
    gates = program.add(both, 4 * n)
    enter, forget, new, leave = (
        program.add(Activate(program.add(Columns(gates, i * n, n), n), kind), n)
        for i, kind in enumerate(("sigmoid", "sigmoid", "tanh", "sigmoid"))
    )
    kept, added = (program.add(Combine(a, b, "multiply"), n) for a, b in ((forget, memory), (enter, new)))
    memory = program.add(Combine(kept, added, "add"), n)
    hidden = program.add(Combine(leave, program.add(Activate(memory, "tanh"), n), "multiply"), n)
    return hidden, program.add(Join((hidden, memory)), 2 * n, "next_state")


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
    if isinstance(network, ExpertMixture):
        means = tuple(_network(program, expert, value) for expert in network.experts)
        weights = program.add(Softmax(_network(program, network.gate, value)), len(means))
        return program.add(Mix(means, weights), means[0].size)
    if isinstance(network, nn.Linear):
        return program.add(Dense(value, _array(network.weight), _array(network.bias)), network.out_features)
    if isinstance(network, nn.Conv1d):
        points = (value.size // network.in_channels - network.kernel_size[0]) // network.stride[0] + 1
        assert network.bias is not None
        convolution = Convolve(value, _array(network.weight), _array(network.bias), network.stride[0])
        return program.add(convolution, network.out_channels * points)
    if isinstance(network, nn.SiLU):
        gate = program.add(Activate(value, "sigmoid"), value.size)
        return program.add(Combine(value, gate, "multiply"), value.size)
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
