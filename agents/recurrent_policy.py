"""Policies with a memory: an LSTM, a GRU or a wrapper reads the normalized observations, and the actor reads it.

They are distilled (``policykd.merge``) or come from other libraries. ``acting`` keeps their states while they act;
:meth:`RecurrentPolicy.unroll` runs whole sequences, with gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from typing_extensions import override

from policykd.agents.architecture import WRAPPERS, Architecture, Memory
from policykd.agents.latent_policy import LatentPolicy
from policykd.agents.networks import dense_layer, make_actor
from policykd.agents.policy import Policy
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError
from policykd.torch_seeding import seeded_torch


class TimeFeature(nn.Module):
    """The share of the episode that is left, behind the features; the state counts steps.

    Args:
        steps: steps of an episode.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def state_size(self, inputs: int) -> int:
        """Return the numbers of one simulation's state."""
        return 1

    def forward(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the actor reads (n, size + 1) and the next states (n, 1)."""
        return torch.cat([features, 1.0 - state / self.steps], dim=1), state + 1.0


class FrameStack(nn.Module):
    """The last observations of the episode, oldest first; the state holds all but the newest, and whether it began.

    Args:
        frames: number of observations, the newest included.
        first: fill the time before the episode with its first observation instead of zeros.
    """

    def __init__(self, frames: int, first: bool) -> None:
        super().__init__()
        self.frames, self.first = frames, first

    def state_size(self, inputs: int) -> int:
        """Return the numbers of one simulation's state."""
        return inputs * (self.frames - 1) + 1

    def forward(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the actor reads (n, size * frames) and the next states."""
        kept, begun = state[:, :-1], state[:, -1:]
        if self.first:
            kept = torch.where(begun > 0, kept, features.repeat(1, self.frames - 1))
        stacked = torch.cat([kept, features], dim=1)
        return stacked, torch.cat([stacked[:, features.shape[1] :], torch.ones_like(begun)], dim=1)


def _wrapper(shape: Memory) -> TimeFeature | FrameStack:
    if shape.kind == "time-feature":
        return TimeFeature(shape.hidden)
    return FrameStack(shape.hidden, first=shape.kind == "frame-stack-first")


_CELLS: dict[str, type[nn.LSTMCell] | type[nn.GRUCell]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


class RecurrentPolicy(Policy):
    """A policy whose actions depend on all observations of the episode so far; see :class:`Policy`.

    The critic reads the observations alone.

    Args:
        groups: as in :class:`Policy`.
        actions: as in :class:`Policy`.
        architecture: shape of the networks, with a ``memory``.
        generator_seed: as in :class:`Policy`.

    Attributes:
        front: the dense layer between observations and memory; empty if the architecture has none.
        memory: the recurrent layer, with torch's weights and order of gates, or a wrapper without weights.

    Raises:
        ConfigError: for an architecture without memory, or as :class:`Policy`.
    """

    recurrent: ClassVar[bool] = True

    def __init__(
        self, groups: Mapping[str, int], actions: int, architecture: Architecture, generator_seed: int | None = None
    ) -> None:
        if architecture.memory is None:
            raise ConfigError("a recurrent policy needs an architecture with a memory")
        super().__init__(groups, actions, architecture, generator_seed)
        shape = architecture.memory
        with seeded_torch(generator_seed):
            size = self.observation_size
            self.memory = (
                _wrapper(shape) if shape.kind in WRAPPERS else _CELLS[shape.kind](shape.dense or size, shape.hidden)
            )
            self.actor = make_actor({"memory": shape.outputs(size)}, architecture, actions)
            dense = dense_layer(size, shape.dense, architecture.activation) if shape.dense else []
            self.front = nn.Sequential(*dense)

    @property
    def state_size(self) -> int:
        """Numbers of one simulation's state: hidden state, and cell state of an LSTM, or what a wrapper remembers."""
        if isinstance(self.memory, (TimeFeature, FrameStack)):
            return self.memory.state_size(self.observation_size)
        return self.memory.hidden_size * (2 if isinstance(self.memory, nn.LSTMCell) else 1)

    def advance(self, observations: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions, and the states after these observations.

        Args:
            observations: (n, observation_size) flat observations.
            state: (n, state_size) states before them; zeros at the beginning of an episode.

        Returns:
            (n, actions) mean actions, and (n, state_size) new states.
        """
        features = self.front(self.normalizer(observations))
        if isinstance(self.memory, (TimeFeature, FrameStack)):
            hidden, state = self.memory(features, state)
        elif isinstance(self.memory, nn.LSTMCell):
            before = state.chunk(2, dim=1)
            hidden, cell = self.memory(features, (before[0], before[1]))
            state = torch.cat([hidden, cell], dim=1)
        else:
            state = hidden = self.memory(features, state)
        return self.bounded(self.actor(self._read(hidden, features))), state

    def unroll(self, observations: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions along sequences, and the states after them; :meth:`advance` over and over, but faster.

        Args:
            observations: (steps, n, observation_size) flat observations of n episodes, none of which ends before the
                last step.
            state: (n, state_size) states before them; zeros at the beginning of an episode.

        Returns:
            (steps, n, actions) mean actions, and (n, state_size) states after the last step.
        """
        if isinstance(self.memory, (TimeFeature, FrameStack)):
            means = []
            for row in observations:
                mean, state = self.advance(row, state)
                means.append(mean)
            return torch.stack(means), state
        cell, features = self.memory, self.front(self.normalizer(observations))
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        options = (weights, True, 1, 0.0, False, False, False)  # biases, layers, dropout, train, both ways, batch first
        if isinstance(cell, nn.LSTMCell):
            begin = tuple(part.contiguous()[None] for part in state.chunk(2, dim=1))
            hidden, *last = torch.lstm(features, begin, *options)
            state = torch.cat([part[0] for part in last], dim=1)
        else:
            hidden, after = torch.gru(features, state.contiguous()[None], *options)
            state = after[0]
        return self.bounded(self.actor(self._read(hidden, features))), state

    def _read(self, hidden: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return what the actor reads: the memory, and the dense layer in front of it."""
        shape = self.architecture.memory
        return torch.cat([hidden, features], dim=-1) if shape is not None and shape.dense else hidden

    @override
    def acting_parameters(self) -> list[nn.Parameter]:
        return [*self.front.parameters(), *self.memory.parameters(), *self.actor.parameters()]

    @override
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Raise ContractError: single observations do not determine the actions; see :meth:`advance`."""
        raise ContractError(f"this needs a policy without memory; {_advice(self)}")


def make_policy(
    groups: Mapping[str, int],
    actions: int,
    architecture: Architecture,
    generator_seed: int | None = None,
    symmetry: MirrorSymmetry | None = None,
) -> Policy:
    """Return a policy of an architecture, with or without memory or latent; arguments and errors as in :class:`Policy`.

    Raises:
        ConfigError: for a symmetry together with a memory.
    """
    if architecture.latent is not None:
        return LatentPolicy(groups, actions, architecture, generator_seed, symmetry)
    if architecture.memory is None:
        return Policy(groups, actions, architecture, generator_seed, symmetry)
    if symmetry is not None:
        raise ConfigError("a policy with a memory has no symmetry; its states have no mirror image")
    return RecurrentPolicy(groups, actions, architecture, generator_seed)


def check_memoryless(policy: Policy, operation: str) -> None:
    """Raise ContractError for a policy with a memory.

    Args:
        policy: the policy.
        operation: what needs a policy without memory, for the message: ``policykd export``.
    """
    if isinstance(policy, RecurrentPolicy):
        raise ContractError(f"{operation} needs a policy without memory; {_advice(policy)}")


def _advice(policy: RecurrentPolicy) -> str:
    shape = policy.architecture.memory
    assert shape is not None
    return (
        f"this one keeps a state over the episode ({shape.kind}, {shape.hidden}): it can be evaluated, fine-tuned and "
        f"teach; distill it first (policykd merge POLICY --out STUDENT)"
    )
