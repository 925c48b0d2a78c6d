"""A policy of another library as plain data, and its conversion into a policy of ours.

Readers of files fill in a :class:`ForeignPolicy`; nothing here knows a file format.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from policykd.agents.action_map import ActionMap
from policykd.agents.architecture import Architecture, Memory
from policykd.agents.importing.recurrence import Recurrence
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy, make_policy
from policykd.errors import PolicyFileError

NO_CLIP = 1e30
"""Bound of normalized features for libraries that do not clip them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A dense layer.

    Attributes:
        weight: (out, in) float32.
        bias: (out,) float32.
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Standardization:
    """Normalization of observations with the formula of its library folded in: ``clip((x - mean) / divisor)``.

    Attributes:
        mean: (size,) means.
        divisor: (size,) divisors: sqrt(var + epsilon), or std + epsilon, as the library has it.
        clip: largest magnitude of the result.
    """

    mean: np.ndarray
    divisor: np.ndarray
    clip: float = NO_CLIP


@dataclass(frozen=True, eq=False)
class ForeignPolicy:
    """A policy of another library.

    Attributes:
        source: library, algorithm and version, for people.
        groups: observation groups in the order of the input, name to size.
        actor: dense layers of the actor, the last one its output.
        critic: dense layers of a critic of states; empty if there is none.
        activation: activation between the layers: ``elu``, ``relu``, ``silu`` or ``tanh``.
        actions: how the actor's output becomes an action of the environment.
        squash: whether a tanh bounds the actor's output.
        mean_clip: bound of the output in front of the tanh (gSDE).
        log_std: (actions,) logarithm of the exploration noise; None if it depends on the state or does not exist.
        standardization: normalization of observations; None for none.
        recurrence: recurrent layer in front of the actor; None for a feed-forward policy.
        wrapper: what wrappers of its environment added to the observations, which ``groups`` and ``standardization``
            leave out; None for nothing.
        choices: of discrete actions, the number of choices of each, if the file says it; empty otherwise.
        environment: id of the environment that it was trained in, if the file or its neighbors say so.
        wrappers: wrappers of the environment that add observations, as the training configuration names them.
        notes: remarks for the user: what was assumed, or left out.
    """

    source: str
    groups: dict[str, int]
    actor: tuple[Layer, ...]
    activation: str
    actions: ActionMap
    critic: tuple[Layer, ...] = ()
    squash: bool = False
    mean_clip: float | None = None
    log_std: np.ndarray | None = None
    standardization: Standardization | None = None
    recurrence: Recurrence | None = None
    wrapper: Memory | None = None
    choices: tuple[int, ...] = ()
    environment: str = ""
    wrappers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def policy_of(foreign: ForeignPolicy) -> Policy:
    """Return a policy of ours with the weights of a foreign one; its deterministic actions are equal to rounding.

    Returns:
        The policy; a :class:`RecurrentPolicy` if the foreign one is recurrent.

    Raises:
        PolicyFileError: for layers, statistics or groups whose sizes do not fit each other.
    """
    check_sizes(foreign)
    memory = foreign.recurrence
    architecture = Architecture(
        hidden=_widths(foreign.actor),
        critic_hidden=_widths(foreign.critic),
        activation=foreign.activation,
        squash=foreign.squash,
        mean_clip=foreign.mean_clip,
        memory=foreign.wrapper if memory is None else Memory(memory.kind, memory.hidden),
    )
    policy = make_policy(foreign.groups, len(foreign.actor[-1].bias), architecture, 0).eval()
    with torch.no_grad():
        if memory is not None:
            assert isinstance(policy, RecurrentPolicy)
            _copy_memory(policy, memory)
        _copy(policy.actor, foreign.actor)
        if foreign.critic:
            _copy(policy.critic, foreign.critic)
        else:
            for parameter in policy.critic.parameters():
                parameter.zero_()
        if foreign.log_std is not None:
            policy.log_std.copy_(torch.from_numpy(foreign.log_std))
        _set_normalizer(policy, foreign.standardization)
    return policy


def check_sizes(foreign: ForeignPolicy, *, whole: bool = True) -> None:
    """Raise PolicyFileError unless layers, groups and statistics fit each other and all numbers are finite.

    Args:
        foreign: the policy.
        whole: whether wrappers have been considered; before, statistics of one of several stacked observations fit.
    """
    inputs = sum(foreign.groups.values())
    if foreign.recurrence is not None:
        _check_recurrence(foreign.recurrence, inputs)
    for name, layers in (("actor", foreign.actor), ("critic", foreign.critic)):
        size = inputs
        if name == "actor" and foreign.recurrence is not None:
            size = foreign.recurrence.hidden
        elif name == "actor" and foreign.wrapper is not None:
            size = foreign.wrapper.outputs(inputs)
        for number, layer in enumerate(layers):
            shape = layer.weight.shape
            if layer.weight.ndim != 2 or shape[1] != size or layer.bias.shape != (shape[0],):
                raise PolicyFileError(
                    f"{name} layer {number} has weights {shape} and biases {layer.bias.shape}; {size} inputs come in"
                )
            if not (_is_finite(layer.weight) and _is_finite(layer.bias)):
                raise PolicyFileError(f"{name} layer {number} holds NaN or infinity")
            size = shape[0]
    outputs = len(foreign.actor[-1].bias)
    if foreign.actions.size not in (None, outputs):
        raise PolicyFileError(f"the actor has {outputs} outputs; the action space has {foreign.actions.size} actions")
    given = foreign.standardization
    fits = given is None or given.mean.shape == given.divisor.shape == (inputs,)
    if not whole and given is not None and given.mean.ndim == 1 and len(given.mean):
        fits = given.mean.shape == given.divisor.shape and inputs % len(given.mean) == 0
    if given is not None and not fits:
        raise PolicyFileError(
            f"the normalizer has {given.mean.shape} means and {given.divisor.shape} divisors; the policy reads {inputs}"
            f" features"
        )
    if given is not None and not (_is_finite(given.mean) and _is_divisor(given.divisor)):
        raise PolicyFileError("the normalizer holds means that are not finite, or divisors that are not positive")
    if foreign.log_std is not None and (foreign.log_std.size != outputs or not _is_finite(foreign.log_std)):
        raise PolicyFileError(f"the spread of the actions is not {outputs} finite numbers, one per action")


def _is_divisor(values: np.ndarray) -> bool:
    """Return whether numbers are positive, and their squares finite in single precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool((values > 0).all()) and _is_finite(np.asarray(values, dtype=np.float64) ** 2)


def _is_finite(values: np.ndarray) -> bool:
    """Return whether numbers are finite in the single precision that a policy stores them in."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.asarray(values).astype(np.float32)).all())


def _check_recurrence(memory: Recurrence, inputs: int) -> None:
    if memory.inputs != inputs:
        raise PolicyFileError(f"the recurrent layer reads {memory.inputs} features; {inputs} come in")
    if not all(map(_is_finite, memory.arrays.values())):
        raise PolicyFileError("the recurrent layer holds NaN or infinity")


def _copy_memory(policy: RecurrentPolicy, memory: Recurrence) -> None:
    for name, values in memory.arrays.items():
        policy.memory.get_parameter(name).copy_(torch.from_numpy(values.astype(np.float32)))


def _widths(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    return tuple(len(layer.bias) for layer in layers[:-1])


def _copy(network: nn.Sequential, layers: tuple[Layer, ...]) -> None:
    for module, layer in zip((m for m in network if isinstance(m, nn.Linear)), layers, strict=True):
        module.weight.copy_(torch.from_numpy(layer.weight.astype(np.float32)))
        module.bias.copy_(torch.from_numpy(layer.bias.astype(np.float32)))


def _set_normalizer(policy: Policy, given: Standardization | None) -> None:
    """Store mean and squared divisor; a tiny ``min_std`` leaves the source's own formula as it is."""
    normalizer = policy.normalizer
    normalizer.min_std, normalizer.clip = 1e-12, NO_CLIP
    normalizer.count.fill_(1.0)  # statistics that are given are not fresh
    if given is not None:
        normalizer.mean.copy_(torch.from_numpy(given.mean.astype(np.float32)))
        normalizer.var.copy_(torch.from_numpy((given.divisor.astype(np.float64) ** 2).astype(np.float32)))
        normalizer.clip = given.clip
