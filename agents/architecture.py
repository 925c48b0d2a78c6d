"""Shape of a policy's networks, as plain data: importing this loads no torch.

It knows sizes and names, and nothing of how the layers are built.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import added

ACTIVATIONS = ("elu", "relu", "tanh")
"""Names of the activation functions."""

MEMORIES = {"lstm": 4, "gru": 3}
"""Kinds of recurrent layers, with the number of their gates."""

WRAPPERS = ("time-feature", "frame-stack", "frame-stack-first")
"""Kinds of memories without weights: what wrappers of an expert's environment added to the observations."""

JOINS = ("last", "every")
"""Hidden layers that may read an encoding."""

_MOST_LAYERS, _WIDEST = 64, 1_000_000


@dataclass(frozen=True)
class Encoder:
    """A separate branch for one observation group: 1-D convolutions over its features, then a dense layer.

    The encoding joins the character branch, which reads all other groups, in front of a merge layer. Actor and critic
    have separate encoders. The defaults are the sizes of PLAID's released code; its paper has ``channels=(8,)``,
    ``kernel=(3,)``, ``dense=32``, ``join="every"`` (Berseth et al., Progressive Reinforcement Learning with
    Distillation for Multi-Skilled Motion Control, 2018, appendix).

    Attributes:
        group: observation group whose features, in order, are the points that the convolutions run over.
        channels: filters of each convolution.
        kernel: width of each convolution, in points.
        stride: step of each convolution, in points.
        dense: width of the dense layer behind them, which is the size of the encoding.
        join: hidden layers that read the encoding in addition to the layer below: the ``last`` one, or ``every`` one.

    Raises:
        ConfigError: for sizes out of range, or lists of different lengths.
        UnknownNameError: for an unknown way to join.
    """

    group: str
    channels: tuple[int, ...] = (16, 8)
    kernel: tuple[int, ...] = (8, 4)
    stride: tuple[int, ...] = (1, 1)
    dense: int = 64
    join: str = "last"

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.kernel) == len(self.stride) <= 16:
            raise ConfigError(
                f"encoder of {self.group}: channels {self.channels}, kernel {self.kernel} and stride {self.stride} "
                f"must have one entry per convolution, at most 16"
            )
        for name in ("channels", "kernel", "stride"):
            for value in getattr(self, name):
                check_range(f"encoder.{name}", value, 1, 1024)
        check_range("encoder.dense", self.dense, 1, 1_000_000)
        if self.join not in JOINS:
            raise UnknownNameError("encoder.join", self.join, JOINS)

    def lengths(self, size: int) -> list[int]:
        """Return the number of points before the first convolution and after each one.

        Args:
            size: number of features of the group.

        Raises:
            ConfigError: if a convolution is wider than its input.
        """
        lengths = [size]
        for kernel, stride in zip(self.kernel, self.stride, strict=True):
            if kernel > lengths[-1]:
                raise ConfigError(
                    f"encoder of {self.group}: a convolution of width {kernel} does not fit into {lengths[-1]} points"
                )
            lengths.append((lengths[-1] - kernel) // stride + 1)
        return lengths

    def parameters(self, size: int) -> int:
        """Return the number of weights and biases for a group of ``size`` features."""
        channels = [1, *self.channels]
        convolutions = sum((a * k + 1) * b for (a, b), k in zip(itertools.pairwise(channels), self.kernel, strict=True))
        return convolutions + (channels[-1] * self.lengths(size)[-1] + 1) * self.dense


@dataclass(frozen=True)
class Memory:
    """What a policy remembers of its episode, between the normalized observations and the actor's dense layers.

    Attributes:
        kind: ``lstm`` or ``gru``, with torch's formulas and order of gates; ``time-feature``, the share of the episode
            that is left, behind the features; ``frame-stack``, the last observations, oldest first, with zeros before
            the episode; ``frame-stack-first``, with its first observation there.
        hidden: numbers of the hidden state; steps of an episode; number of observations.

    Raises:
        UnknownNameError: for another kind.
        ConfigError: for a size outside [1, 1000000].
    """

    kind: str
    hidden: int

    def __post_init__(self) -> None:
        if self.kind not in (*MEMORIES, *WRAPPERS):
            raise UnknownNameError("memory", self.kind, (*MEMORIES, *WRAPPERS))
        least, most = (2, 1000) if self.kind.startswith("frame-stack") else (1, _WIDEST)
        check_range("memory.hidden", self.hidden, least, most)

    def outputs(self, inputs: int) -> int:
        """Return the number of features that the actor's first dense layer reads, for a number of input features."""
        if self.kind == "time-feature":
            return inputs + 1
        return inputs * self.hidden if self.kind in WRAPPERS else self.hidden

    def parameters(self, inputs: int) -> int:
        """Return the number of weights and biases for a number of input features."""
        if self.kind in WRAPPERS:
            return 0
        return MEMORIES[self.kind] * self.hidden * (inputs + self.hidden + 2)


@dataclass(frozen=True)
class Architecture:
    """Shape of a policy's networks.

    Attributes:
        hidden: widths of the actor's hidden layers; may be empty for a linear policy.
        critic_hidden: widths of the critic's hidden layers.
        activation: ``elu``, ``relu`` or ``tanh``.
        initial_std: standard deviation of a new policy's exploration noise, in units of the action.
        squash: whether a tanh bounds the mean actions (policies trained by SAC).
        encoders: branches of observation groups, at most one for each; the other groups go into the first hidden layer.
        mean_clip: bound of the mean in front of that tanh (gSDE of stable-baselines3); None for no bound.
        memory: recurrent layer in front of the actor, of policies that were imported; None for none.

    Raises:
        ConfigError: for more than 64 layers, a width outside [1, 1000000], a standard deviation outside [1e-4, 10], two
            encoders of one group, encoders without a hidden layer that could read them, or encoders next to a memory.
        UnknownNameError: for an unknown activation.
    """

    hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: str = "elu"
    initial_std: float = 0.5
    squash: bool = False
    encoders: tuple[Encoder, ...] = ()
    mean_clip: float | None = added(None)
    memory: Memory | None = added(None)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UnknownNameError("activation", self.activation, ACTIVATIONS)
        for name in ("hidden", "critic_hidden"):
            widths = getattr(self, name)
            if len(widths) > _MOST_LAYERS:
                raise ConfigError(f"{name} has {len(widths)} layers; at most {_MOST_LAYERS} are allowed")
            if any(not 1 <= width <= _WIDEST for width in widths):
                raise ConfigError(f"{name} is {widths}; every width must be in [1, {_WIDEST}]")
            if self.encoders and not widths:
                raise ConfigError(f"{name} is empty; an encoding needs a hidden layer that reads it")
        check_range("initial_std", self.initial_std, 1e-4, 10.0)
        if self.mean_clip is not None:
            check_range("mean_clip", self.mean_clip, 1e-3, 1e6)
        if self.memory is not None and self.encoders:
            raise ConfigError("a policy with a memory has no encoders; its recurrent layer reads all observations")
        encoded = [encoder.group for encoder in self.encoders]
        if len(set(encoded)) != len(encoded):
            raise ConfigError(f"encoders are of {encoded}; give at most one for each observation group")

    def check_groups(self, groups: Mapping[str, int]) -> None:
        """Raise unless the encoders fit a policy's observation groups.

        Args:
            groups: groups that the policy reads, name to number of features.

        Raises:
            UnknownNameError: for an encoder of a group that the policy does not read.
            ConfigError: for an encoder too wide for its group, or encoders of all groups.
        """
        for encoder in self.encoders:
            if encoder.group not in groups:
                raise UnknownNameError("observation group of an encoder", encoder.group, groups)
            encoder.lengths(groups[encoder.group])
        if len(self.encoders) == len(groups):
            raise ConfigError(f"every observation group has an encoder ({', '.join(groups)}); leave one to the layers")

    def layer_inputs(self, groups: Mapping[str, int], hidden: tuple[int, ...]) -> list[dict[str, int]]:
        """Return the inputs of every dense layer of a network, name to size, in the order of its columns.

        Args:
            groups: groups that the policy reads, name to number of features, in order.
            hidden: the network's hidden widths: :attr:`hidden` or :attr:`critic_hidden`.

        Returns:
            One entry per hidden layer and one for the output layer; names are those of the groups, ``hidden`` for the
            layer below, and ``encoding of <group>``.
        """
        encoded = {encoder.group for encoder in self.encoders}
        inputs = [{name: size for name, size in groups.items() if name not in encoded}]
        inputs += [{"hidden": width} for width in hidden]
        for encoder in self.encoders:
            for i in range(len(hidden)) if encoder.join == "every" else (len(hidden) - 1,):
                inputs[i][f"encoding of {encoder.group}"] = encoder.dense
        return inputs

    def parameters(self, groups: Mapping[str, int], actions: int) -> int:
        """Return the number of weights and biases of actor and critic together, and of the exploration noise."""
        total = actions + 2 * sum(encoder.parameters(groups[encoder.group]) for encoder in self.encoders)
        read: Mapping[str, int] = groups
        if self.memory is not None:
            total += self.memory.parameters(sum(groups.values()))
            read = {"memory": self.memory.outputs(sum(groups.values()))}
        for inputs, hidden, outputs in ((read, self.hidden, actions), (groups, self.critic_hidden, 1)):
            sizes = [sum(layer.values()) for layer in self.layer_inputs(inputs, hidden)]
            total += sum((a + 1) * b for a, b in zip(sizes, [*hidden, outputs], strict=True))
        return total
