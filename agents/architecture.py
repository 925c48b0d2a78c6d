"""Shape of a policy's networks, as plain data: importing this loads no torch.

It knows sizes and names, and nothing of how the layers are built.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import added

ACTIVATIONS = ("elu", "relu", "silu", "tanh")
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
        dense: width of a dense layer between the observations and an LSTM or GRU. The actor reads its output next to
            the hidden state, so that what needs no memory does not pass through it. 0 for none, as in imported
            policies.

    Raises:
        UnknownNameError: for another kind.
        ConfigError: for a size outside [1, 1000000], or a dense layer in front of a memory without weights.
    """

    kind: str
    hidden: int
    dense: int = added(0)

    def __post_init__(self) -> None:
        if self.kind not in (*MEMORIES, *WRAPPERS):
            raise UnknownNameError("memory", self.kind, (*MEMORIES, *WRAPPERS))
        least, most = (2, 1000) if self.kind.startswith("frame-stack") else (1, _WIDEST)
        check_range("memory.hidden", self.hidden, least, most)
        check_range("memory.dense", self.dense, 0, _WIDEST)
        if self.dense and self.kind in WRAPPERS:
            raise ConfigError(f"memory.dense is {self.dense}, but {self.kind} has no weights; leave it out")

    def outputs(self, inputs: int) -> int:
        """Return the number of features that the actor's first dense layer reads, for a number of input features."""
        if self.kind == "time-feature":
            return inputs + 1
        return inputs * self.hidden if self.kind in WRAPPERS else self.hidden + self.dense

    def parameters(self, inputs: int) -> int:
        """Return the number of weights and biases for a number of input features."""
        if self.kind in WRAPPERS:
            return 0
        front = (inputs + 1) * self.dense
        return front + MEMORIES[self.kind] * self.hidden * ((self.dense or inputs) + self.hidden + 2)


@dataclass(frozen=True)
class Mixture:
    """Experts inside an actor: a gate weighs the mean actions of several networks of the actor's shape.

    Attributes:
        experts: number of networks.
        gate: width of the gate's hidden layer.

    Raises:
        ConfigError: for fewer than 2 or more than 64 experts, or a width outside [1, 1000000].
    """

    experts: int = 4
    gate: int = 64

    def __post_init__(self) -> None:
        check_range("mixture.experts", self.experts, 2, 64)
        check_range("mixture.gate", self.gate, 1, _WIDEST)


@dataclass(frozen=True)
class Latent:
    """A few numbers that stand for what a robot does not measure (Kumar et al., RMA, 2021).

    An encoder makes them from privileged groups while the policy is distilled. An adaptation module estimates them from
    histories of what the robot measures; the policy acts on its estimate. The actor reads them next to the other
    groups.

    Attributes:
        size: how many numbers.
        hidden: widths of the hidden layers of encoder and adaptation module.
        history: groups that the adaptation module reads.
        privileged: groups that the encoder reads; empty for a policy without its encoder.

    Raises:
        ConfigError: for a size or width outside [1, 1000000], more than 64 layers, or a group in both lists.
    """

    size: int = 16
    hidden: tuple[int, ...] = (128,)
    history: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_range("latent.size", self.size, 1, _WIDEST)
        if len(self.hidden) > _MOST_LAYERS or any(not 1 <= width <= _WIDEST for width in self.hidden):
            raise ConfigError(
                f"latent.hidden is {self.hidden}; give at most {_MOST_LAYERS} widths, each in [1, {_WIDEST}]"
            )
        if twice := sorted(set(self.history) & set(self.privileged)):
            raise ConfigError(f"latent.history and latent.privileged both name {twice[0]}; a history is measured")

    def parameters(self, groups: Mapping[str, int]) -> int:
        """Return the number of weights and biases of encoder and adaptation module for groups, name to size."""
        total = 0
        for names in (self.history, self.privileged):
            sizes = [sum(groups[name] for name in names), *self.hidden, self.size]
            total += sum((a + 1) * b for a, b in itertools.pairwise(sizes)) if names else 0
        return total


@dataclass(frozen=True)
class Architecture:
    """Shape of a policy's networks.

    Attributes:
        hidden: widths of the actor's hidden layers; may be empty for a linear policy.
        critic_hidden: widths of the critic's hidden layers.
        activation: ``elu``, ``relu``, ``silu`` (swish) or ``tanh``.
        initial_std: standard deviation of a new policy's exploration noise, in units of the action.
        squash: whether a tanh bounds the mean actions (policies trained by SAC).
        encoders: branches of observation groups, at most one for each; the other groups go into the first hidden layer.
        mean_clip: bound of the mean in front of that tanh (gSDE of stable-baselines3); None for no bound.
        memory: recurrent layer in front of the actor, of policies that were distilled or imported; None for none.
        mixture: experts inside the actor; None for one network.
        latent: numbers that stand for privileged groups in the actor; None for none.

    Raises:
        ConfigError: for more than 64 layers, a width outside [1, 1000000], a standard deviation outside [1e-4, 10], two
            encoders of one group, encoders without a hidden layer that could read them, encoders next to a memory or a
            mixture, or a latent next to encoders or a memory.
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
    mixture: Mixture | None = added(None)
    latent: Latent | None = added(None)

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
        if self.mixture is not None and self.encoders:
            raise ConfigError("a mixture of experts has no encoders; its networks read all observations")
        if self.latent is not None and (self.encoders or self.memory is not None):
            raise ConfigError("a policy with a latent has neither encoders nor a memory; leave out one of them")
        encoded = [encoder.group for encoder in self.encoders]
        if len(set(encoded)) != len(encoded):
            raise ConfigError(f"encoders are of {encoded}; give at most one for each observation group")

    def check_groups(self, groups: Mapping[str, int]) -> None:
        """Raise unless the encoders fit a policy's observation groups.

        Args:
            groups: groups that the policy reads, name to number of features.

        Raises:
            UnknownNameError: for an encoder or a latent of a group that the policy does not read.
            ConfigError: for an encoder too wide for its group, encoders of all groups, a latent without a history, or
                one without a group that the actor reads itself.
        """
        if self.latent is not None:
            self._check_latent(self.latent, groups)
        for encoder in self.encoders:
            if encoder.group not in groups:
                raise UnknownNameError("observation group of an encoder", encoder.group, groups)
            encoder.lengths(groups[encoder.group])
        if len(self.encoders) == len(groups):
            raise ConfigError(f"every observation group has an encoder ({', '.join(groups)}); leave one to the layers")

    @staticmethod
    def _check_latent(latent: Latent, groups: Mapping[str, int]) -> None:
        for name in (*latent.history, *latent.privileged):
            if name not in groups:
                raise UnknownNameError("observation group of the latent", name, groups)
        if not latent.history:
            raise ConfigError("latent.history is empty; name a history that the student reads, for example joints:15")
        if len(latent.history) + len(latent.privileged) == len(groups):
            raise ConfigError(f"the latent reads all groups ({', '.join(groups)}); leave one to the actor itself")

    def actor_inputs(self, groups: Mapping[str, int]) -> dict[str, int]:
        """Return what the actor reads: groups, or what stands in front of it, name to size."""
        if self.memory is not None:
            return {"memory": self.memory.outputs(sum(groups.values()))}
        if self.latent is None:
            return dict(groups)
        other = (*self.latent.history, *self.latent.privileged)
        own = {name: size for name, size in groups.items() if name not in other}
        return {**own, "latent": self.latent.size}

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
        read = self.actor_inputs(groups)
        if self.memory is not None:
            total += self.memory.parameters(sum(groups.values()))
        if self.latent is not None:
            total += self.latent.parameters(groups)
        total += self._dense_parameters(groups, self.critic_hidden, 1)
        actor = self._dense_parameters(read, self.hidden, actions)
        if self.mixture is None:
            return total + actor
        gate, experts = self.mixture.gate, self.mixture.experts
        return total + experts * actor + (sum(read.values()) + 1) * gate + (gate + 1) * experts

    def _dense_parameters(self, groups: Mapping[str, int], hidden: tuple[int, ...], outputs: int) -> int:
        sizes = [sum(layer.values()) for layer in self.layer_inputs(groups, hidden)]
        return sum((a + 1) * b for a, b in zip(sizes, [*hidden, outputs], strict=True))


STUDENTS: Mapping[str, Architecture] = MappingProxyType(
    {
        "mlp": Architecture(hidden=(256, 256)),
        "gru": Architecture(hidden=(128,), memory=Memory("gru", 96, dense=128)),
        "lstm": Architecture(hidden=(128,), memory=Memory("lstm", 96, dense=128)),
        "moe": Architecture(hidden=(128, 128), mixture=Mixture()),
        "latent": Architecture(hidden=(256, 128), latent=Latent()),
    }
)
"""Architectures of students by name; sizes can be changed one by one."""


def student_architecture(name: str, hidden: Sequence[int] | None = None, memory: int | None = None) -> Architecture:
    """Return an architecture of :data:`STUDENTS` with other sizes.

    Args:
        name: its name.
        hidden: widths of the hidden layers; None keeps them.
        memory: numbers of the hidden state; None keeps it.

    Raises:
        UnknownNameError: for another name.
        ConfigError: for a memory of an architecture that has none, or sizes out of range.
    """
    if name not in STUDENTS:
        raise UnknownNameError("architecture", name, STUDENTS)
    shape = STUDENTS[name]
    if hidden is not None:
        shape = replace(shape, hidden=tuple(hidden))
    if memory is None:
        return shape
    if shape.memory is None:
        raise ConfigError(f"memory is {memory}, but {name} has none; set architecture=gru or lstm")
    return replace(shape, memory=replace(shape.memory, hidden=memory))
