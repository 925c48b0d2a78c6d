"""The networks inside a policy: layers of normalized features, with a separate branch for groups with an encoder.

They know group names and widths, and nothing of environments or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import nn

from policykd.agents.architecture import Architecture, Encoder

_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
_Layer = TypeVar("_Layer", nn.Linear, nn.Conv1d)


def make_network(
    groups: Mapping[str, int], architecture: Architecture, hidden: tuple[int, ...], outputs: int, last_gain: float
) -> nn.Sequential:
    """Return an actor or a critic; its weights are drawn from torch's global stream.

    Args:
        groups: observation groups in the order of the input, name to number of features.
        architecture: activation and encoders.
        hidden: widths of the hidden layers.
        outputs: number of outputs.
        last_gain: gain of the output layer's initialization.

    Returns:
        A network from (n, features) to (n, outputs) whose last module is the output layer.
    """
    if architecture.encoders:
        layers: list[nn.Module] = [JoinedLayers(groups, architecture, hidden)]
    else:
        layers, inputs = [], sum(groups.values())
        for width in hidden:
            layers += dense_layer(inputs, width, architecture.activation)
            inputs = width
    last = sum(architecture.layer_inputs(groups, hidden)[-1].values())
    return nn.Sequential(*layers, _linear(last, outputs, last_gain))


def make_actor(groups: Mapping[str, int], architecture: Architecture, actions: int) -> nn.Sequential:
    """Return an actor from (..., features) to mean actions (..., actions); see :func:`make_network`.

    Args:
        groups: observation groups in the order of the input, or what stands in front of the actor, name to size.
        architecture: shape of the networks.
        actions: number of actions.
    """
    if architecture.mixture is not None:
        return nn.Sequential(ExpertMixture(groups, architecture, actions))
    return make_network(groups, architecture, architecture.hidden, actions, last_gain=0.01)


class ExpertMixture(nn.Module):
    """Several networks and a gate that weighs their outputs; see :class:`policykd.agents.architecture.Mixture`.

    Args:
        groups: as in :func:`make_network`.
        architecture: shape of the networks, with a mixture.
        actions: number of actions.
    """

    def __init__(self, groups: Mapping[str, int], architecture: Architecture, actions: int) -> None:
        super().__init__()
        shape = architecture.mixture
        assert shape is not None
        inputs, activation = sum(groups.values()), _ACTIVATIONS[architecture.activation]
        self.gate = nn.Sequential(
            _linear(inputs, shape.gate, 2**0.5), activation(), _linear(shape.gate, shape.experts, 0.01)
        )
        # Gains of a usual layer: experts that begin alike would stay alike under a gate that begins even.
        self.experts = nn.ModuleList(
            make_network(groups, architecture, architecture.hidden, actions, last_gain=0.1)
            for _ in range(shape.experts)
        )

    def weights(self, features: torch.Tensor) -> torch.Tensor:
        """Return the gate's weights (..., experts) for features (..., size); they sum to 1."""
        return self.gate(features).softmax(dim=-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return mean actions (..., actions) for features (..., size)."""
        means = torch.stack([expert(features) for expert in self.experts], dim=-1)
        return (means * self.weights(features).unsqueeze(-2)).sum(dim=-1)


class GroupEncoder(nn.Module):
    """Encoding of one observation group; see :class:`policykd.agents.architecture.Encoder`.

    Args:
        encoder: sizes.
        size: number of features of the group.
        activation: name of the activation after every layer.
    """

    def __init__(self, encoder: Encoder, size: int, activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels, kernel, stride in zip(encoder.channels, encoder.kernel, encoder.stride, strict=True):
            layers += [_initialized(nn.Conv1d(inputs, channels, kernel, stride), 2**0.5), _ACTIVATIONS[activation]()]
            inputs = channels
        self.convolutions = nn.Sequential(*layers)
        self.dense = _linear(inputs * encoder.lengths(size)[-1], encoder.dense, 2**0.5)
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (n, dense) encodings of features (n, size)."""
        return self.activation(self.dense(self.convolutions(features.unsqueeze(1)).flatten(1)))


class JoinedLayers(nn.Module):
    """Hidden layers of which some read encodings in addition to the layer below.

    Args:
        groups: observation groups in the order of the input, name to number of features.
        architecture: activation and encoders.
        hidden: widths of the hidden layers.

    Attributes:
        encoded: columns of each group with an encoder, in the order of :attr:`encoders`.
        encoded_names: names of these groups.
        character: columns of each other group.
        joins: numbers of the encoders that each hidden layer reads.
    """

    def __init__(self, groups: Mapping[str, int], architecture: Architecture, hidden: tuple[int, ...]) -> None:
        super().__init__()
        columns, encoders = group_columns(groups), architecture.encoders
        encoded = [encoder.group for encoder in encoders]
        self.encoded_names = tuple(encoded)
        self.encoded = [columns[name] for name in encoded]
        self.character = [columns[name] for name in groups if name not in encoded]
        self.joins = [
            [k for k, e in enumerate(encoders) if e.join == "every" or i == len(hidden) - 1] for i in range(len(hidden))
        ]
        self.encoders = nn.ModuleList(GroupEncoder(e, groups[e.group], architecture.activation) for e in encoders)
        inputs = architecture.layer_inputs(groups, hidden)
        self.layers = nn.ModuleList(
            _linear(sum(i.values()), width, 2**0.5) for i, width in zip(inputs, hidden, strict=False)
        )
        self.activation = _ACTIVATIONS[architecture.activation]()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (n, hidden[-1]) activations of the last hidden layer for features (n, size)."""
        encodings = [encoder(features[:, span]) for encoder, span in zip(self.encoders, self.encoded, strict=True)]
        below = [features[:, span] for span in self.character]
        for layer, joins in zip(self.layers, self.joins, strict=True):
            assert isinstance(layer, nn.Linear)
            own = torch.cat(below, dim=1)
            # Two products: encodings with weights of zero then change nothing, not even the rounding.
            total = nn.functional.linear(own, layer.weight[:, : own.shape[1]], layer.bias)
            if joins:
                joined = torch.cat([encodings[k] for k in joins], dim=1)
                total = total + nn.functional.linear(joined, layer.weight[:, own.shape[1] :])
            below = [self.activation(total)]
        return below[0]


def group_columns(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each named block in a row that holds the blocks in order, name to size."""
    ends = list(accumulate(sizes.values(), initial=0))
    return {name: slice(*span) for name, span in zip(sizes, pairwise(ends), strict=True)}


def dense_layers(network: nn.Sequential) -> list[str]:
    """Return the names, within a network, of its character branch's dense layers and of its output layer, in order."""
    first = network[0]
    names = [f"0.layers.{i}" for i in range(len(first.layers))] if isinstance(first, JoinedLayers) else []
    return names + [str(i) for i, layer in enumerate(network) if isinstance(layer, nn.Linear)]


def dense_layer(inputs: int, outputs: int, activation: str) -> list[nn.Module]:
    """Return a hidden layer: a dense layer and its activation."""
    return [_linear(inputs, outputs, 2**0.5), _ACTIVATIONS[activation]()]


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    return _initialized(nn.Linear(inputs, outputs), gain)


def _initialized(layer: _Layer, gain: float) -> _Layer:
    if layer.weight.is_meta:  # a shape that will be given the weights of a file
        return layer
    nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
